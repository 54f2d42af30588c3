"""The drift verdict: written down first, then told to whoever waits for it."""

from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import DriftVerdict
from airgate.errors import GateError
from airgate.lifecycle import recording


class DriftVerdictOperator(BaseOperator):
    """Records what the drift step found. Drift emits the `drift` asset; no drift skips, so that nothing is triggered."""

    def __init__(self, *, spec: ModelSpec, evidence: BaseOperator, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec
        self.evidence_task = evidence.task_id
        self.set_upstream(evidence)

    def execute(self, context: Any) -> dict[str, Any]:
        """Record and give the verdict. Raises AirflowSkipException when nothing drifted."""
        event = recording.newest_success(self.dag_id, self.evidence_task, run_id=context["dag_run"].run_id)
        if event is None:
            raise GateError(f"the audit log has no output of task '{self.evidence_task}' of this run: clear it and let it run.")
        verdict = DriftVerdict.model_validate(recording.output_of(event))
        body = verdict.model_dump(mode="json", exclude={"event_id"})
        recorded = recording.record(context, "drift.verdict", self.spec.name, verdict.version, body,
                                    once=("try", str(context["ti"].try_number)))
        said = f"{verdict.share:.0%} of the columns drifted; the limit is {self.spec.drift.share:.0%}"
        if not verdict.drifted:
            raise AirflowSkipException(f"no drift: {said}")
        self.log.info("drift: %s", said)
        payload = verdict.model_copy(update={"event_id": str(recorded.event_id)}).model_dump(mode="json")
        recording.emit(context, self.outlets, payload)
        return payload
