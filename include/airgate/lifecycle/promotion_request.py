"""A promotion's first end: the request that people answer, made from records alone so that it can be made again and compared."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.audit.event import PEOPLE, AuditEvent
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate, Verdict
from airgate.contracts.promotion import PromotionRequest
from airgate.contracts.runs import dag_id
from airgate.errors import PromotionError
from airgate.lifecycle import people, recording
from airgate.lifecycle.candidate import REGISTER_TASK
from airgate.lifecycle.request_text import body_of, subject_of
from airgate.lifecycle.retraining import RETRAINING_RUN

# An approval given in the last minute must still be usable when the machine was down for a night.
GRACE = timedelta(hours=24)


class RequestPromotion(BaseOperator):
    """Writes the request for the version that passed its gates. Gives {"subject", "body", "digest"} for the approvers.

    A retry finds the request that was already made: its text and digest never change within a run.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, str]:
        """Record `promotion.requested`. Raises PromotionError when no passed verdict stands behind it."""
        from airgate.registry.versions import Registry

        event, verdict = passed_verdict(self.spec, recording.payloads(context))
        candidate = verdict.candidate
        registry = Registry(settings.load().mlflow_uri)
        version = registry.version(self.spec.name, candidate.version)
        if version.digest != candidate.digest:
            raise PromotionError(f"{self.spec.name} version {version.version} carries digest {version.digest} in MLflow; "
                                 f"its training recorded {candidate.digest}. Someone changed the version: train a new one.")
        live = registry.live(self.spec.name)
        current = live.version if live else None
        if verdict.production_version != current:
            raise PromotionError(f"{self.spec.name} version {candidate.version} was compared with version "
                                 f"{verdict.production_version or 'none'}, but version {current or 'none'} is in production now. "
                                 f"Run {dag_id(self.spec.name, 'validation')} again.")
        now = datetime.now(UTC)
        request = PromotionRequest(
            model=self.spec.name, version=candidate.version, model_digest=candidate.digest, gates_hash=candidate.gates_hash,
            evaluation_digest=verdict.evaluation_digest, verdict_event=str(event.event_id), expected_current=current,
            requesters=who_asked(candidate, event, context), requested_at=now,
            expires_at=now + timedelta(hours=self.spec.promotion.answer_within_hours) + GRACE,
            code_version=recording.code_version(context), nonce=secrets.token_hex(16),
        )
        recorded = recording.record(context, "promotion.requested", request.model, request.version,
                                    request.model_dump(mode="json"), once=(), personal=people.in_request(request))
        return text_of(PromotionRequest.model_validate(recorded.body))


def passed_verdict(spec: ModelSpec, payloads: list[dict[str, Any]]) -> tuple[AuditEvent, Verdict]:
    """The verdict an asset event names, or the newest one; as validation recorded it, and only when it passed."""
    named = str(payloads[-1].get("event_id", "")) if payloads else ""
    event = recording.by_id(named) if named else recording.newest("gate.verdict", spec.name)
    validation = dag_id(spec.name, "validation")
    if event is None or event.kind != "gate.verdict" or event.model != spec.name or event.task is None \
            or event.task.dag_id != validation:
        raise PromotionError(f"the audit log has no gate verdict {named} for {spec.name} from {validation}. Run it first.")
    verdict = Verdict.model_validate(event.body)
    if not verdict.passed:
        failed = ", ".join(gate.name for gate in verdict.gates if not gate.passed)
        raise PromotionError(f"{spec.name} version {verdict.candidate.version} did not pass: {failed}. It cannot be promoted.")
    return event, verdict


def verdict_of(request: PromotionRequest) -> Verdict:
    """The verdict that a request names. Raises PromotionError when the log has lost it."""
    event = recording.by_id(request.verdict_event)
    if event is None:
        raise PromotionError(f"the audit log no longer has verdict {request.verdict_event} that this request stands on.")
    return Verdict.model_validate(event.body)


def text_of(request: PromotionRequest) -> dict[str, str]:
    """What approvers are shown: made from records alone, so that it can be made again and compared."""
    body = body_of(request, verdict_of(request), answer_by=request.expires_at - GRACE)
    return {"subject": subject_of(request), "body": body, "digest": request.digest()}


def who_asked(candidate: Candidate, verdict: AuditEvent, context: Any) -> list[str]:
    """Everyone with a hand in it: who started or changed the training and the validation, posted the drift, started this run.

    Raises PromotionError when the log does not know the training.
    """
    training = dag_id(candidate.model, "training")
    trained = recording.newest_success(training, REGISTER_TASK, run_id=candidate.training_run)
    if trained is None:
        raise PromotionError(f"the audit log has no training run {candidate.training_run!r}: nobody can say who trained "
                             f"{candidate.model} version {candidate.version}, so nobody can be kept from approving it.")
    actors = [trained.actor, recording.actor_of(context)]
    runs = [(training, candidate.training_run)]
    if verdict.task is not None:
        runs.append((verdict.task.dag_id, verdict.task.run_id))
    for dag, run in runs:
        actors += [actor for actor in recording.actors(dag, run) if actor.kind in PEOPLE]
    drift = recording.by_id(candidate.training_run.removeprefix(RETRAINING_RUN))
    if drift is not None and drift.actor.kind in PEOPLE:
        actors.append(drift.actor)
    return sorted({recording.actor_text(actor) for actor in actors})
