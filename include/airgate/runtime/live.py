"""The version in production, as the audit log has it: the newest recorded move of that stage."""

from typing import Any

from airgate.audit import signed, stage_chain
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.standard_steps import LIVE_ARGUMENT
from airgate.errors import PromotionError, SignatureError
from airgate.runtime import record

__all__ = ["LIVE_ARGUMENT", "check_live", "live_of"]


def live_of(model: str) -> dict[str, Any] | None:
    """The version in production: {model, version, digest, data_revision, window, signature}. None when there is none (any more).

    `signature` is the envelope in which its promotion was signed, {} when it was not; whoever reads the version verifies it.

    Raises PromotionError when that move is not signed: somebody wrote it into the log. AuditError when the log cannot be read,
    ConfigError when no key is trusted here.
    """
    log = record.patient_store()
    moves = stage_chain.read(log, model).moves
    move = next((move for move in reversed(moves) if move.body.stage == PRODUCTION), None)
    if move is None:
        return None
    try:
        signed.check_move(log, move)
    except SignatureError as error:
        raise PromotionError(f"{model}: {error}") from None
    said = move.body
    if said.to_version is None:
        return None
    event = signed.promotion_of(log, model, said.to_version, said.request_digest)
    return {"model": model, "version": said.to_version, "digest": said.model_digest, "data_revision": said.data_revision,
            "window": said.window, "signature": signed.envelope_of(event) or {}}


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
