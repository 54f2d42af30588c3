"""Signing afterwards what is on record: versions of a release that did not sign, or after the key was changed.

That something stands in the log makes no promotion: whoever may append could have written it. So a promotion is signed again
where a trusted key signed it before, and for the first time only where a signed checkpoint from before the first signature of all
covers it: then it is of release 0.2.0, and was there before anybody could gain by forging it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airgate import settings
from airgate.audit import checkpoints, signed
from airgate.audit.event import AuditEvent
from airgate.audit.stage_chain import Move
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.standard_steps import REGISTERING
from airgate.errors import PromotionError, SignatureError
from airgate.governance import stages
from airgate.lifecycle import sign
from airgate.signatures import keys, statement

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore


def sign_version(log: "AuditStore", model: str, version: str, files: Mapping[str, str], before: int | None = None,
                 **fields: Any) -> list[AuditEvent]:
    """Sign a version's registration, its promotions and its moves, unless this key did; give the new events.

    `files` is the manifest of its files as they are now. `fields` are those of the events: actor, source. `before` is the size of
    a checkpoint: promotions and moves that it covers are signed though no signature of them counts.
    Raises PromotionError when the log does not know the version, or a promotion or move may not be signed; SignatureError when
    its files are not those on record.
    """
    # Ours alone: a retired key may still be trusted, so that nothing stops while versions are signed anew.
    own, made = (sign.own_signer().public,), list[AuditEvent]()
    if not signed.counts(signed.registration_of(log, model, version, own), own):
        registered = _registered(log, model, version)
        _check_digest(registered, files)
        made.append(sign.sign_registration(log, registered, **fields))
    statement.check_files(sign.registration(log, model, version), files)
    for move in stages.read(log, model).moves:
        if (move.body.to_version or move.body.from_version) != version:
            continue
        digest = move.body.request_digest
        promotion = move.body.cause == "promotion"
        if promotion and not signed.counts(signed.promotion_of(log, model, version, digest, own), own):
            made.append(_sign_promotion(log, move, before, fields))
        if not _is_signed(log, move, own):
            if not _is_signed(log, move):
                _require_covered(log, before, f"the {move.what}", [move.event])
            made.append(sign.sign_move(log, move, **fields))
    return made


def _sign_promotion(log: "AuditStore", move: Move, before: int | None, fields: dict[str, Any]) -> AuditEvent:
    """What was signed before is signed again as it was, leaf for leaf."""
    now, model, digest = settings.load(), str(move.event.model), move.body.request_digest
    earlier = signed.promotion_of(log, model, str(move.body.to_version), digest)
    if earlier is not None and signed.counts(earlier, keys.trusted(now)):
        said = statement.verify(signed.envelope_of(earlier), keys.trusted(now), environment=now.environment)
        more = {name: earlier.body.get(name) for name in ("stage", "request_event", "request_digest")}
        return sign.record_statement(log, said, str(more["request_event"]), more, **fields)
    request, approvals = _asked(log, move.event, digest)
    _require_covered(log, before, f"the {move.what}", [request, *approvals, move.event])
    return sign.promotion_signature(log, request, approvals, **fields)


def _is_signed(log: "AuditStore", move: Move, keyring: keys.Keyring | None = None) -> bool:
    try:
        return bool(signed.check_move(log, move, keyring))
    except SignatureError:
        return False


def _require_covered(log: "AuditStore", before: int | None, what: str, events: list[AuditEvent]) -> None:
    """Let only what stood in the log before anything was signed be signed for the first time. Raises PromotionError."""
    if before is None:
        raise PromotionError(
            f"{what} bears no signature that counts here, so it is not signed: whoever may write to the log could have made it "
            "up. If a key was changed, trust the old one in AIRGATE_MODEL_TRUST while you sign. If it is of release 0.2.0, ask "
            "those who approved, then give the size of a checkpoint from before the update: --before SIZE. Otherwise promote "
            "anew.")
    first = signed.first_signed(log)
    if first is not None and before > first:
        raise PromotionError(f"--before {before}: signing began at event {first} of this log, and what came later is signed when "
                             f"it is made. Allowed: the size of a checkpoint, at most {first}.")
    _require_checkpoint(log, before)
    stored = [log.get(event.event_id) for event in events]
    late = [f"event {one.seq} ({one.event.kind})" for one in stored if one is not None and one.seq >= before]
    if late:
        raise PromotionError(f"the checkpoint over {before} events does not cover {', '.join(late)}, so {what} is not signed.")


def _require_checkpoint(log: "AuditStore", size: int) -> None:
    """Raises PromotionError when the log has no checkpoint of that size, or one that its key did not sign over these events."""
    notes = checkpoints.notes(log)
    found = next((index for index, note in enumerate(notes) if note.size == size), None)
    if found is None:
        sizes = ", ".join(str(note.size) for note in notes[-10:]) or "none"
        raise PromotionError(f"--before {size}: this log has no checkpoint over {size} events; it has {sizes}.")
    note, key = notes[found], checkpoints.succession(checkpoints.keys_named(log), notes)[found]
    if key is None or not note.signed_by(key) or note.root != log.root_at(size):
        raise PromotionError(f"--before {size}: that checkpoint is not signed by the log's key, or not over this log. Run "
                             "`airgate audit verify`.")


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
