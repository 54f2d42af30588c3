"""The version in production, as the audit log has it: the newest recorded move of that stage."""

from typing import Any

from airgate.contracts.promotion import PRODUCTION
from airgate.errors import PromotionError, SignatureError
from airgate.runtime import record


def live_of(model: str) -> dict[str, Any] | None:
    """The version in production: {model, version, digest, data_revision, window, signature}. None when there is none (any more).

    `signature` is the envelope in which its promotion was signed, {} when it was not; whoever reads the version verifies it.

    Raises PromotionError when that move is not signed: somebody wrote it into the log. AuditError when the log cannot be read,
    ConfigError when no key is trusted here.
    """
    # Scoring DAGs are parsed often, and need no audit store then.
    from airgate.audit import signed, stage_chain

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


def checked(live: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a version by the task that verified all that it stands on, before anything is scored."""
    return {"live": {name: live[name] for name in ("version", "digest")}}


def check_live(live: Any, model: str, ti: Any) -> None:
    """Hold a `live` argument against the log: it travels by XCom, and XComs and states of tasks can be set by hand.

    `ti` is the task instance of the step. Raises PromotionError when anything in it differs, when no task of this run is on
    record that verified the version, or when MLflow has lost it since.
    """
    from airgate.audit.registry_changes import gone, records

    recorded = live_of(model)
    if recorded is None or live != recorded:
        claimed = live.get("version", "none") if isinstance(live, dict) else "none"
        raise PromotionError(
            f"this step was given version {claimed} of {model} as the one in production, and it is not what the last promotion "
            f"on record put there (version {recorded['version'] if recorded else 'none'}). Was the XCom of the 'live_model' task "
            "changed by hand? Clear that task and let it run.")
    log = record.patient_store()
    successes = log.events(kind="task.succeeded", dag_id=ti.dag_id, run_id=ti.run_id, model=model)
    said = checked(recorded)["live"]
    if not any(item.event.source == "operator" and item.event.body.get("live") == said for item in successes):
        raise PromotionError(f"no task of this run has verified version {recorded['version']} of {model}: a task that was marked "
                             "as a success did not look. Clear the task 'live_model' and let it run.")
    lost = gone(records(log, model), recorded["version"])
    if lost is not None:
        raise PromotionError(f"{lost.change.line()} (event {lost.event_id}, registry.changed). Nothing is scored with it.")
