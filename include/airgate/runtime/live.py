"""The version in production, as the audit log has it: the newest recorded move of that stage."""

from typing import Any

from airgate.audit import signed
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import StageMove
from airgate.contracts.standard_steps import LIVE_ARGUMENT
from airgate.errors import PromotionError
from airgate.runtime import record

__all__ = ["LIVE_ARGUMENT", "check_live", "live_of"]


def live_of(model: str) -> dict[str, Any] | None:
    """The version in production: {model, version, digest, data_revision, window, signature}. None when there is none (any more).

    `signature` is the envelope in which its promotion was signed, {} when it was not; whoever reads the version verifies it.

    Raises AuditError when the log cannot be read.
    """
    log = record.patient_store()
    newest = log.events(kind="stage.moved", model=model, newest_first=True)
    moves = (StageMove.model_validate(item.event.body) for item in newest)
    move = next((move for move in moves if move.stage == PRODUCTION), None)
    if move is None or move.to_version is None:
        return None
    event = signed.promotion_of(log, model, move.to_version, move.request_digest)
    return {"model": model, "version": move.to_version, "digest": move.model_digest, "data_revision": move.data_revision,
            "window": move.window, "signature": signed.envelope_of(event) or {}}


def check_live(live: Any, model: str) -> None:
    """Hold a `live` argument against the log: it travels by XCom, and XComs can be overwritten by hand.

    Raises PromotionError when anything in it differs.
    """
    recorded = live_of(model)
    if recorded is None or live != recorded:
        claimed = live.get("version", "none") if isinstance(live, dict) else "none"
        raise PromotionError(
            f"this step was given version {claimed} of {model} as the one in production, and it is not what the last promotion "
            f"on record put there (version {recorded['version'] if recorded else 'none'}). Was the XCom of the 'live_model' task "
            "changed by hand? Clear that task and let it run.")
