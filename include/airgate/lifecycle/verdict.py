"""Validation's last task: the gates are applied to recorded evidence, and the verdict is written down before it counts."""

from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airgate.audit.event import AuditEvent
from airgate.contracts.payloads import Candidate, GateResult, Verdict
from airgate.contracts.runs import dag_id
from airgate.contracts.standard_steps import COMPARE
from airgate.errors import GateError
from airgate.governance import gates
from airgate.lifecycle import recording
from airgate.lifecycle.bundle_origin import origin_of
from airgate.lifecycle.candidate import candidate_of
from airgate.lifecycle.data_read import check_data
from airgate.lifecycle.evidence import EvidenceOperator
from airgate.runtime.live import live_of


class VerdictOperator(EvidenceOperator):
    """Judges the candidate and emits `validated` on a pass; fails the run, naming every gate, otherwise."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Record the verdict and give it. Raises AirflowFailException with one line a gate when one did not pass."""
        event = self.evidence_event(context)
        evidence = recording.output_of(event)
        candidate = candidate_of(self.spec, recording.payloads(context))
        check_question(event, candidate, live_of(self.spec.name))
        check_data(candidate)
        results = gates.judge(candidate, evidence, self.spec.gates, data_check=data_check_of(candidate),
                              gates_at_training=gates_at_training(candidate))
        production = evidence.get("production_version")
        verdict = Verdict(candidate=candidate, passed=all(result.passed for result in results), gates=results,
                          evaluation_digest=recording.output_ref(event).digest, production_version=production)
        return conclude(self, context, verdict)


def conclude(task: BaseOperator, context: Any, verdict: Verdict) -> dict[str, Any]:
    """Record a verdict, emit it on a pass, and give it. Raises AirflowFailException, one line a gate, when it is none."""
    candidate = verdict.candidate
    recorded = recording.record(context, "gate.verdict", candidate.model, candidate.version,
                                verdict.model_dump(mode="json", exclude={"event_id"}),
                                once=("try", str(context["ti"].try_number)))
    for result in verdict.gates:
        task.log.info("%s  %s: %s", "passed" if result.passed else "FAILED", result.name, result.evidence)
    if not verdict.passed:
        raise AirflowFailException(explain(candidate.model, candidate, verdict.gates))
    payload = verdict.model_copy(update={"event_id": str(recorded.event_id)}).model_dump(mode="json")
    recording.emit(context, task.outlets, payload)
    return payload


def check_question(event: AuditEvent, candidate: Candidate, live: dict[str, Any] | None) -> None:
    """What the evidence step was asked reached it by XCom, which a user may overwrite: hold it against the log.

    Raises GateError when it compared another candidate, or with another production, than the log knows.
    """
    asked = event.body.get("parameters")
    asked = asked if isinstance(asked, dict) else {}
    production = {key: live[key] for key in ("model", "version", "digest")} if live else {}
    if event.body.get("function") != COMPARE:
        raise GateError(f"the evidence comes from {event.body.get('function')}; only {COMPARE} gives evidence for the gates.")
    for name, expected in (("candidate", candidate.model_dump(mode="json")), ("production", production)):
        if (asked.get(name) or {}) != expected:
            raise GateError(f"the evidence step was given another {name} than the audit log has: an XCom was changed by hand, or "
                            "a promotion came in between. Clear the 'candidate' task of this run with all that follows it.")


def data_check_of(candidate: Candidate) -> str | None:
    """Digest of the report that the training run's data check attached, None when the log has no passed check.

    Of a version from another installation: the report that came with it and that its log there names.
    """
    origin = origin_of(candidate)
    if origin is not None:
        return origin.data_check
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
