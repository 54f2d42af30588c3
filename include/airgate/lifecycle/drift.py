"""The drift verdict: written down first, then told to whoever waits for it."""

from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from airgate.contracts.payloads import DriftVerdict
from airgate.lifecycle import recording
from airgate.lifecycle.evidence import EvidenceOperator


class DriftVerdictOperator(EvidenceOperator):
    """Records what the drift step found. Drift emits the `drift` asset; no drift skips, so that nothing is triggered."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Record and give the verdict. Raises AirflowSkipException when nothing drifted."""
        verdict = DriftVerdict.model_validate(recording.output_of(self.evidence_event(context)))
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
