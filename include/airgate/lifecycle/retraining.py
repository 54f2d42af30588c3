"""From a drift verdict to a training run, by way of the governor."""

from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import DriftVerdict, RetrainingDecision
from airgate.contracts.runs import RETRAINING_RUN, dag_id
from airgate.errors import GateError
from airgate.governance import retraining
from airgate.lifecycle import recording
from airgate.runtime.window import DAY_PARAM

DECIDE_TASK = "decide"


class GovernorOperator(BaseOperator):
    """Decides about the newest drift verdict that this run was triggered with, and records the decision.

    Raises AirflowSkipException, with the reason, when the model is not to be trained again.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Give the RetrainingDecision."""
        verdict = self._verdict(context)
        earlier = [(event.occurred_at, RetrainingDecision.model_validate(event.body))
                   for event in recording.history("retraining.decided", self.spec.name)]
        decision = retraining.decide(verdict, earlier, self.spec.retraining, datetime.now(UTC))
        body = decision.model_dump(mode="json")
        recorded = recording.record(context, "retraining.decided", self.spec.name, verdict.version, body, once=())
        decision = RetrainingDecision.model_validate(recorded.body)  # a retry keeps to what was decided
        self.log.info("%s: %s", "retrain" if decision.retrain else "do not retrain", decision.reason)
        if not decision.retrain:
            raise AirflowSkipException(decision.reason)
        return decision.model_dump(mode="json")

    def _verdict(self, context: Any) -> DriftVerdict:
        """The verdict as the log has it. One that an outside monitor sent as a bare asset event is recorded first."""
        payloads = recording.payloads(context)
        payload = payloads[-1] if payloads else None
        if payload is None:
            event = recording.newest("drift.verdict", self.spec.name)
            if event is None:
                raise GateError(f"the audit log has no drift verdict for {self.spec.name}. "
                                f"Run {dag_id(self.spec.name, 'drift_check')}.")
        elif payload.get("event_id"):
            event = recording.by_id(str(payload["event_id"]))
            if event is None or event.kind != "drift.verdict" or event.model != self.spec.name:
                raise GateError(f"the asset event names drift verdict {payload['event_id']}, which the audit log does not have "
                                f"for {self.spec.name}. Post the verdict without 'event_id' to have it recorded.")
        else:
            outside = DriftVerdict.model_validate({"source": "outside monitor", **payload, "model": self.spec.name})
            event = recording.record(context, "drift.verdict", self.spec.name, outside.version,
                                     outside.model_dump(mode="json", exclude={"event_id"}), once=())
        return DriftVerdict.model_validate({**event.body, "event_id": str(event.event_id)})


def start_training(spec: ModelSpec) -> TriggerDagRunOperator:
    """The task that starts the training on the drifted day's window. The run id carries the verdict: one run a verdict."""
    decided = "ti.xcom_pull(task_ids='" + DECIDE_TASK + "')"
    return TriggerDagRunOperator(
        task_id="start_training",
        trigger_dag_id=dag_id(spec.name, "training"),
        trigger_run_id=RETRAINING_RUN + "{{ " + decided + "['drift_event_id'] }}",
        # None, or the run would carry the present moment as its logical date and two could collide
        logical_date=None,
        conf={DAY_PARAM: "{{ " + decided + "['day'] }}", "drift_event_id": "{{ " + decided + "['drift_event_id'] }}"},
        skip_when_already_exists=True,
    )
