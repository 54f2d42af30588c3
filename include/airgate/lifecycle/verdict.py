"""Validation's last task: the gates are applied to recorded evidence, and the verdict is written down before it counts."""

from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from airgate.contracts.payloads import Candidate, GateResult, Verdict
from airgate.contracts.runs import dag_id
from airgate.governance import gates
from airgate.lifecycle import recording
from airgate.lifecycle.candidate import candidate_of
from airgate.lifecycle.evidence import EvidenceOperator


class VerdictOperator(EvidenceOperator):
    """Judges the candidate and emits `validated` on a pass; fails the run, naming every gate, otherwise."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Record the verdict and give it. Raises AirflowFailException with one line a gate when one did not pass."""
        event = self.evidence_event(context)
        evidence = recording.output_of(event)
        candidate = candidate_of(self.spec, recording.payloads(context))
        results = gates.judge(candidate, evidence, self.spec.gates, data_check=data_check_of(candidate),
                              gates_at_training=gates_at_training(candidate))
        production = evidence.get("production_version")
        verdict = Verdict(candidate=candidate, passed=all(result.passed for result in results), gates=results,
                          evaluation_digest=recording.output_ref(event).digest, production_version=production)
        body = verdict.model_dump(mode="json", exclude={"event_id"})
        recorded = recording.record(context, "gate.verdict", self.spec.name, candidate.version, body,
                                    once=("try", str(context["ti"].try_number)))
        for result in results:
            self.log.info("%s  %s: %s", "passed" if result.passed else "FAILED", result.name, result.evidence)
        if not verdict.passed:
            raise AirflowFailException(explain(self.spec.name, candidate, results))
        payload = verdict.model_copy(update={"event_id": str(recorded.event_id)}).model_dump(mode="json")
        recording.emit(context, self.outlets, payload)
        return payload


def data_check_of(candidate: Candidate) -> str | None:
    """Digest of the report that the training run's data check attached, None when the log has no passed check."""
    event = recording.newest_success(dag_id(candidate.model, "training"), "check", run_id=candidate.training_run)
    if event is None:
        return None
    attachments = event.body.get("attachments")
    report = attachments.get("data_check.json") if isinstance(attachments, dict) else None
    return str(report) if report else None


def gates_at_training(candidate: Candidate) -> str | None:
    """Hash of the thresholds as they stood when the train step first began, None when the log has no such event."""
    event = recording.first_start(dag_id(candidate.model, "training"), "train", candidate.training_run)
    found = event.body.get("gates_hash") if event else None
    return str(found) if found else None


def explain(model: str, candidate: Candidate, results: list[GateResult]) -> str:
    """The failure as a person reads it: which gates failed, with the numbers."""
    failed = [result for result in results if not result.passed]
    lines = [f"{model} version {candidate.version} did not pass {len(failed)} of {len(results)} gates:"]
    return "\n".join([*lines, *(f"- {result.name}: {result.evidence}" for result in failed)])
