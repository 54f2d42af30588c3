"""Stage moves: by the log's own word each was announced, and approved where it put a version to use.

The rule is the verifier's (docs/audit-format.md, section 8): whoever keeps the log holds it against what an outsider will.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from airgate.audit.completeness import Finding
from airgate.audit.event import Kind
from airgate.audit.schema import EVENTS
from airgate.audit.store import AuditStore
from airgate.audit.verifier import Moves, Step

_KINDS: tuple[Kind, ...] = ("promotion.approved", "stage.moving", "stage.moved")


def unannounced(store: AuditStore) -> Iterator[Finding]:
    """Name every stage.moved that lacks what must stand before it. Raises AuditError when the log cannot be read."""
    moves = Moves()
    gone = store.database.transact(_first_gone, write=False)
    for stored in store.events(kind=_KINDS):
        event = stored.event
        said = {"event_id": str(event.event_id), "model": event.model, "version": event.version, "body": event.body}
        if gap := moves.take(Step.of(stored.seq, event.kind, said)):
            expired = " (contents that expired may have held it)" if gone is not None and gone < stored.seq else ""
            yield Finding(f"{gap}{expired}", model=event.model, version=event.version)


def _first_gone(connection: Connection) -> int | None:
    """The first event that could stand before a move and has no contents any more."""
    query = select(func.min(EVENTS.c.seq)).where(EVENTS.c.entry.is_(None), EVENTS.c.kind.in_(_KINDS))
    seq: int | None = connection.execute(query).scalar()
    return seq
