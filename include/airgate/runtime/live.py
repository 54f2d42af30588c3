"""The version in production, as the audit log has it: the last stage move that a promotion recorded."""

from typing import Any

from airgate.errors import PromotionError
from airgate.runtime import record

# How the standard steps call the version in production among their arguments.
LIVE_ARGUMENT = "live"


def last_move(model: str) -> Any:
    """The newest `stage.moved` event of a model, None before its first promotion. Raises AuditError."""
    found = record.store().events(kind="stage.moved", model=model, newest_first=True, limit=1)
    return found[0].event if found else None


def check_live(live: Any, model: str) -> None:
    """Hold a `live` argument against the last move: it travels by XCom, and XComs can be overwritten by hand.

    Raises PromotionError when it names another version or digest.
    """
    event = last_move(model)
    claimed = (str(live.get("version")), live.get("digest")) if isinstance(live, dict) else None
    recorded = (str(event.body["to_version"]), event.body["model_digest"]) if event else None
    if claimed is None or claimed != recorded:
        raise PromotionError(
            f"this step was given version {claimed[0] if claimed else 'none'} of {model} as the one in production, the last "
            f"promotion on record put version {recorded[0] if recorded else 'none'} there. Was the XCom of the 'live_model' "
            "task changed by hand? Clear that task and let it run.")
