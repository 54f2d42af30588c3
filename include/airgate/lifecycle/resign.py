"""Signing afterwards what is on record: versions of a release that did not sign, or after the key was changed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airgate import settings
from airgate.audit import signed
from airgate.audit.event import AuditEvent
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.stages import StageMove
from airgate.contracts.standard_steps import REGISTERING
from airgate.errors import PromotionError, SignatureError
from airgate.lifecycle import sign
from airgate.signatures import keys, statement

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore


def sign_version(log: "AuditStore", model: str, version: str, files: Mapping[str, str], **fields: Any) -> list[AuditEvent]:
    """Sign a version's registration, and each promotion of it that moved a stage, unless this key did; give the new events.

    `files` is the manifest of its files as they are now. `fields` are those of the events: actor, source. That a person gives
    the command does not replace a record: no register step in the log, no approvals in the log, no signature.
    Raises PromotionError when the log does not know the version, SignatureError when its files are not those on record.
    """
    now = settings.load()
    # Ours alone: a retired key may still be trusted, so that nothing stops while versions are signed anew.
    own, made = (keys.signer(now.model_key, now.environment).public,), []
    if not _counts(signed.registration_of(log, model, version), own, now.environment):
        registered = _registered(log, model, version)
        _check_digest(registered, files)
        made.append(sign.sign_registration(log, registered, **fields))
    statement.check_files(sign.registration(log, model, version), files)
    for move in _promotions(log, model, version):
        digest = StageMove.model_validate(move.body).request_digest
        if not _counts(signed.promotion_of(log, model, version, digest), own, now.environment):
            request, approvals = _asked(log, move, digest)
            made.append(sign.promotion_signature(log, request, approvals, **fields))
    return made


def _counts(event: AuditEvent | None, keyring: keys.Keyring, environment: str) -> bool:
    try:
        return event is not None and bool(statement.verify(signed.envelope_of(event), keyring, environment=environment))
    except SignatureError:
        return False


def _check_digest(registered: AuditEvent, files: Mapping[str, str]) -> None:
    facts, now = registered.body.get("facts"), manifest_digest(files)
    recorded = facts.get("model_digest") if isinstance(facts, dict) else None
    if now != recorded:
        raise SignatureError(f"the files in MLflow have digest {now}, the register step recorded {recorded}. They were changed: "
                             "do not sign this version, train again.")


def _registered(log: "AuditStore", model: str, version: str) -> AuditEvent:
    """The success of the step that registered the version."""
    for stored in log.events(model=model, kind="task.succeeded"):
        event, facts = stored.event, stored.event.body.get("facts")
        named = facts.get("model_version") if isinstance(facts, dict) else None
        if event.source == "operator" and event.body.get("function") in REGISTERING and named == version:
            return event
    raise PromotionError(f"the audit log has no register step of {model} version {version}, so there is nothing to sign it on. "
                         "Train it again.")


def _promotions(log: "AuditStore", model: str, version: str) -> list[AuditEvent]:
    moves = [stored.event for stored in log.events(model=model, kind="stage.moved")]
    return [event for event in moves
            if (body := StageMove.model_validate(event.body)).cause == "promotion" and body.to_version == version]


def _asked(log: "AuditStore", move: AuditEvent, digest: str | None) -> tuple[AuditEvent, list[AuditEvent]]:
    """The request that a move answered, and its approvals, from the move's own run."""
    run = move.task.run_id if move.task else ""
    # A run makes one request. That its digest is the move's is checked when it is verified.
    request = next((stored.event for stored in log.events(kind="promotion.requested", model=move.model, run_id=run)), None)
    approvals = [stored.event for stored in log.events(kind="promotion.approved", model=move.model, run_id=run)
                 if stored.event.body.get("request_digest") == digest]
    if request is None or not approvals:
        raise PromotionError(f"the audit log has no approved request behind the promotion of version {move.version} of "
                             f"{move.model} by run {run or 'unknown'}: it cannot be signed. Ask for the promotion again.")
    return request, approvals
