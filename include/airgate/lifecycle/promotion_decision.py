"""What follows from the answers to a request: the records are read here, the rules stand in `airgate.governance.promotion`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import Answer, Decision, PromotionRequest
from airgate.governance import promotion
from airgate.lifecycle.promotion_request import text_of


def decide(request: PromotionRequest, answers: Sequence[Answer], spec: ModelSpec, run_id: str) -> Decision:
    """Weigh the answers of the promotion run `run_id` as of now. Raises PromotionError when the log has lost the verdict."""
    text = text_of(request)
    return promotion.decide(request, answers, spec.promotion, datetime.now(UTC), subject=text["subject"], body=text["body"])
