"""The log's `model.signed` events: which envelope speaks for a registration or a promotion. Nothing is verified here.

A version may be signed again, when the key was changed; the newest event counts.
"""

from typing import TYPE_CHECKING, Any, Literal

from airgate.audit.event import AuditEvent

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

Kind = Literal["registration", "promotion"]


def registration_of(store: "AuditStore", model: str, version: str) -> AuditEvent | None:
    """The newest signature of a version's registration, None when it was never signed. Raises AuditError."""
    return _newest(store, model, version, "registration")


def promotion_of(store: "AuditStore", model: str, version: str, request_digest: str | None) -> AuditEvent | None:
    """The newest signature of the promotion that this request led to, None when there is none. Raises AuditError."""
    return _newest(store, model, version, "promotion", request_digest)


def envelope_of(event: AuditEvent | None) -> dict[str, Any] | None:
    """The envelope in a `model.signed` event, as JSON values."""
    envelope = event.body.get("envelope") if event else None
    return envelope if isinstance(envelope, dict) else None


def is_expired(store: "AuditStore", event_id: str) -> bool:
    """Whether the log has this event and its contents were dropped, as its retention says. Raises AuditError."""
    from sqlalchemy import select

    from airgate.audit.schema import EVENTS

    query = select(EVENTS.c.seq).where(EVENTS.c.event_id == event_id, EVENTS.c.entry.is_(None))
    return store.database.transact(lambda connection: connection.execute(query).first(), write=False) is not None


def _newest(store: "AuditStore", model: str, version: str, kind: Kind, request_digest: str | None = None) -> AuditEvent | None:
    for stored in store.events(model=model, kind="model.signed", newest_first=True):
        event, body = stored.event, stored.event.body
        if event.version == version and body.get("statement") == kind and body.get("request_digest") == request_digest:
            return event
    return None
