"""The log's `model.signed` events, and moves that carry their own signature: which envelope speaks for what.

A version may be signed again, when the key was changed. The newest signature that verifies under a trusted key counts: an event
that anybody appended, or one under a key that is trusted no more, stands in the way of none.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, select

from airgate import settings
from airgate.audit.event import AuditEvent
from airgate.audit.schema import EVENTS
from airgate.audit.stage_chain import Move, settling_id
from airgate.errors import SignatureError
from airgate.signatures import keys, stage_move, statement
from airgate.signatures.keys import Keyring

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

Kind = Literal["registration", "promotion"]


def registration_of(store: "AuditStore", model: str, version: str, keyring: Keyring | None = None) -> AuditEvent | None:
    """The newest signature of a version's registration that verifies, None when it was never signed.

    Where there are some and none verifies, the newest, so that whoever verifies it can say what is wrong with it. `keyring`
    are the keys that count, by default those of this installation.
    Raises AuditError, and ConfigError when no key is trusted here.
    """
    return _chosen(list(all_of(store, model, version, "registration")), keyring)


def promotion_of(store: "AuditStore", model: str, version: str, request_digest: str | None,
                 keyring: Keyring | None = None) -> AuditEvent | None:
    """The same of the promotion that this request led to."""
    return _chosen(list(all_of(store, model, version, "promotion", request_digest)), keyring)


def all_of(store: "AuditStore", model: str, version: str, kind: Kind, request_digest: str | None = None) -> Iterator[AuditEvent]:
    """All signatures of a registration or a promotion, newest first, verified or not. Raises AuditError."""
    for stored in store.events(model=model, kind="model.signed", newest_first=True):
        event, body = stored.event, stored.event.body
        if event.version == version and body.get("statement") == kind and body.get("request_digest") == request_digest:
            yield event


def envelope_of(event: AuditEvent | None) -> dict[str, Any] | None:
    """The envelope in an event, as JSON values."""
    envelope = event.body.get("envelope") if event else None
    return envelope if isinstance(envelope, dict) else None


def counts(event: AuditEvent | None, keyring: Keyring) -> bool:
    """Whether one of the keys signed what a `model.signed` event holds, about its own model and version, for this environment."""
    try:
        about = statement.verify(envelope_of(event), keyring, environment=settings.load().environment).predicate
    except SignatureError:
        return False
    return event is not None and (about.model, about.version) == (event.model, event.version)


def check_move(store: "AuditStore", move: Move, keyring: Keyring | None = None) -> dict[str, Any]:
    """Verify that a claim, or a move that settled one, was signed; give the newest envelope that says so.

    A move carries the signature of its claim. It may be signed again, and a move of release 0.2.0 is signed by `airgate model
    sign` alone. `keyring` as above. Raises SignatureError, which says why, when it was not; AuditError and ConfigError as above.
    """
    keyring = keys.trusted(settings.load()) if keyring is None else keyring
    own, why = envelope_of(move.event), f"the {move.what} is not signed."
    for envelope in (*_signed_again(store, move), *([own] if own else [])):
        try:
            _check(move, stage_move.verify(envelope, keyring, environment=settings.load().environment))
        except SignatureError as error:
            why = f"the signature of the {move.what} does not count: {error}"
        else:
            return envelope
    raise SignatureError(f"{why} Only what Airgate signed moves a stage: look at event {move.event_id}, and at who may write "
                         "to the log; then roll back, demote, or promote anew.")


def first_signed(store: "AuditStore") -> int | None:
    """The number of the log's first signature, of whatever model: what came before is of release 0.2.0. None while it has none.

    Raises AuditError.
    """
    query = select(func.min(EVENTS.c.seq)).where(EVENTS.c.kind == "model.signed")
    seq: int | None = store.database.transact(lambda connection: connection.execute(query).scalar(), write=False)
    return seq


def claim_of(move: Move) -> str:
    """The event id that a move's signature names: that of its claim; its own for a claim, and for a move of release 0.2.0."""
    claim = move.event.body.get("claim")
    return str(claim) if claim is not None and move.event.event_id == settling_id(str(claim)) else move.event_id


def is_expired(store: "AuditStore", event_id: str) -> bool:
    """Whether the log has this event and its contents were dropped, as its retention says. Raises AuditError."""
    query = select(EVENTS.c.seq).where(EVENTS.c.event_id == event_id, EVENTS.c.entry.is_(None))
    return store.database.transact(lambda connection: connection.execute(query).first(), write=False) is not None


def _signed_again(store: "AuditStore", move: Move) -> Iterator[dict[str, Any]]:
    for stored in store.events(model=move.event.model, kind="model.signed", newest_first=True):
        envelope, body = envelope_of(stored.event), stored.event.body
        if envelope is not None and body.get("statement") == "move" and body.get("move") == move.event_id:
            yield envelope


def _check(move: Move, said: stage_move.SignedMove) -> None:
    if (said.model, said.claim) != (move.event.model, claim_of(move)):
        raise SignatureError(f"it is of another move, of {said.model}, claimed by event {said.claim}.")
    if said.move != stage_move.facts(move.event.body):
        raise SignatureError("the record says something else than what was signed.")


def _chosen(found: list[AuditEvent], keyring: Keyring | None) -> AuditEvent | None:
    if not found:
        return None
    keyring = keys.trusted(settings.load()) if keyring is None else keyring
    return next((event for event in found if counts(event, keyring)), found[0])
