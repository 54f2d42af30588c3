"""What the two verdicts have in common: they judge the recorded output of one step of their run."""

from typing import Any

from airflow.sdk import BaseOperator

from airgate.audit.event import AuditEvent
from airgate.contracts.model_spec import ModelSpec
from airgate.errors import GateError
from airgate.lifecycle import recording


class EvidenceOperator(BaseOperator):
    """Comes after the step `evidence`. Its output is read from the log and the store by digest: a user may overwrite an XCom."""

    def __init__(self, *, spec: ModelSpec, evidence: BaseOperator, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec
        self.evidence_task = evidence.task_id
        self.set_upstream(evidence)

    def evidence_event(self, context: Any) -> AuditEvent:
        """The step's own success event of this run. Raises GateError when there is none."""
        event = recording.newest_success(self.dag_id, self.evidence_task, run_id=context["dag_run"].run_id)
        if event is None:
            raise GateError(f"the audit log has no evidence from task '{self.evidence_task}' of this run. "
                            "A task marked success by hand leaves none: clear it and let it run.")
        return event
