"""What follows from the answers to a request: the records are read here, the rules stand in `airgate.governance.promotion`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from airgate import settings
from airgate.audit.event import AuditEvent
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import Answer, Decision, PromotionRequest
from airgate.governance import identities, promotion, stages
from airgate.lifecycle import recording, reports
from airgate.lifecycle.promotion_request import overtaken, text_of


def decide(request: PromotionRequest, answers: Sequence[Answer], spec: ModelSpec, run_id: str) -> Decision:
    """Weigh the answers that the promotion run `run_id` has had until now, with every report read again.

    Raises PromotionError when the log has lost the verdict, ArtifactError when the artifact store cannot be read.
    """
    text = text_of(request)
    decision = promotion.decide(request, answers, spec.promotion, datetime.now(UTC), subject=text["subject"], body=text["body"],
                                identities=identities.load(settings.load().people))
    reasons = [*decision.reasons, *reports.problems(request), *overtaken(request), *_used(request, run_id)]
    return decision.model_copy(update={"approved": decision.approved and not reasons, "reasons": reasons})


def _used(request: PromotionRequest, run_id: str) -> list[str]:
    """A request, and so an approval given for its digest, serves once: what it led to before, in a reason."""
    digest = request.digest()
    move = stages.read(recording.store(), request.model).promotion_of(digest)
    if move is not None:
        return [f"these approvals were used before: {_run(move.event)} moved version {move.body.to_version} to {move.body.stage}"]
    for event in recording.history("promotion.refused", request.model):
        if event.body.get("request_digest") == digest and (event.task is None or event.task.run_id != run_id):
            return [f"this request was refused before, by {_run(event)}"]
    return []


def _run(event: AuditEvent) -> str:
    """The run an event is from. No names of people: a refusal keeps its reasons in clear."""
    return f"run {event.task.run_id} of {event.task.dag_id}" if event.task else "an unknown run"
