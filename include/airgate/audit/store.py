"""The audit store: an append-only table whose rows are the leaves of one Merkle tree, on PostgreSQL or SQLite."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, update

from airgate.audit import schema
from airgate.audit.database import Database
from airgate.audit.entry import StoredEvent, entry_bytes, parse_entry, row_of
from airgate.audit.event import Actor, AuditEvent, Kind, canonical, event_id_of
from airgate.audit.integrity import IntegrityReport, check
from airgate.audit.merkle import Frontier
from airgate.audit.schema import EVENTS, HEAD
from airgate.errors import AuditError

_LOOKUP = 500  # ids in one query
_BATCH = 500  # rows held while verifying: 32 MiB when every event has the largest size
_ACTOR = Actor(kind="system", name="audit store")


class AuditStore:
    """The log at one URL. Safe in any process and over a fork: each call opens and closes its own connection."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        """Take `sqlite:///PATH` or `postgresql://...`; `timeout` (seconds) bounds connecting and waiting for the lock.

        Raises ConfigError for a URL that cannot serve. Nothing is opened yet.
        """
        self._database = Database(url, timeout)

    @property
    def where(self) -> str:
        """The place of the log without user or password, fit for messages."""
        return self._database.where

    def create(self) -> None:
        """Make the tables and triggers unless they are there; any number of processes may do so at once.

        Raises AuditError when the database cannot be reached or holds a schema of another version.
        """
        self._database.prepare()
        self._database.transact(schema.create, write=True)

    def append(self, event: AuditEvent) -> int:
        """Record one event durably and give its seq (the leaf index, from 0). The same event again gives the same seq.

        Raises AuditError when the store cannot take it, or when this id is recorded with other bytes; the latter also
        leaves an `audit.alarm` in the log.
        """
        return self.append_many([event])[0]

    def append_many(self, events: Sequence[AuditEvent]) -> list[int]:
        """Record events in one transaction, all or none, and give their seqs. Raises as `append` does."""
        return self._append(events, keep_first=False)

    def append_if_absent(self, event: AuditEvent) -> int:
        """Record an event unless its id is there, whatever its bytes; give the seq. For those who may come second.

        Raises AuditError when the store cannot take it.
        """
        return self._append([event], keep_first=True)[0]

    def events(
        self,
        *,
        model: str | None = None,
        kind: Kind | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[StoredEvent]:
        """Give the events that fit, in the order of seq; `after` and `before` are seqs, both exclusive.

        Raises AuditError when the store cannot be read, or holds bytes that are no event.
        """
        wanted = {"model": model, "kind": kind, "dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        query = select(EVENTS.c.seq, EVENTS.c.entry)
        query = query.where(*(EVENTS.c[name] == value for name, value in wanted.items() if value is not None))
        if after is not None:
            query = query.where(EVENTS.c.seq > after)
        if before is not None:
            query = query.where(EVENTS.c.seq < before)
        query = query.order_by(EVENTS.c.seq.desc() if newest_first else EVENTS.c.seq).limit(limit)
        rows = self._database.transact(lambda connection: connection.execute(query).all(), write=False)
        return [parse_entry(row.entry, row.seq) for row in rows]

    def get(self, event_id: UUID | str) -> StoredEvent | None:
        """Give the event of this id, or None. Raises AuditError when the store cannot be read."""
        query = select(EVENTS.c.seq, EVENTS.c.entry).where(EVENTS.c.event_id == str(event_id))
        row = self._database.transact(lambda connection: connection.execute(query).one_or_none(), write=False)
        return row and parse_entry(row.entry, row.seq)

    def head(self) -> tuple[int, bytes]:
        """Give the number of events and the tree's root (32 bytes). Raises AuditError when the store cannot be read."""
        row = self._database.transact(lambda connection: _head(connection, lock=False), write=False)
        return row.size, row.root

    def verify(self) -> IntegrityReport:
        """Hash the whole log again, in bounded memory and one snapshot; appends go on meanwhile.

        Raises AuditError when the store cannot be read.
        """

        def work(connection: Connection) -> IntegrityReport:
            head = _head(connection, lock=False)
            rows = connection.execution_options(yield_per=_BATCH).execute(select(EVENTS).order_by(EVENTS.c.seq))
            with rows:
                return check(rows, head.size, head.root, head.frontier)

        return self._database.transact(work, write=False)

    def _append(self, events: Sequence[AuditEvent], *, keep_first: bool) -> list[int]:
        pairs = [(event, canonical(event)) for event in events]
        try:
            return self._database.transact(lambda connection: _write(connection, pairs, keep_first), write=True)
        except _Contradiction as found:
            self._append([found.alarm()], keep_first=True)
            raise AuditError(found.text()) from None


class _Contradiction(Exception):
    """An id is offered with other bytes than those recorded. Ends the transaction; the alarm comes in its own."""

    def __init__(self, event: AuditEvent, offered: bytes, seq: int) -> None:
        self.event, self.seq = event, seq
        self.digest = sha256(offered).hexdigest()

    def text(self) -> str:
        return (
            f"event {self.event.event_id} ({self.event.kind}) is recorded as number {self.seq} with other content; the "
            f"record stays as it was and an audit.alarm was added. See `airgate audit show --kind audit.alarm`"
        )

    def alarm(self) -> AuditEvent:
        event = self.event
        return AuditEvent(
            # One alarm for each contradicting content: a caller that retries does not fill the log.
            event_id=event_id_of("audit.alarm", str(event.event_id), self.digest),
            kind="audit.alarm", occurred_at=datetime.now(UTC), actor=_ACTOR, task=event.task, model=event.model,
            version=event.version, source=event.source, code=event.code,
            body={
                "alarm": "contradiction", "event_id": str(event.event_id), "kind": event.kind, "recorded_seq": self.seq,
                "refused_sha256": self.digest, "refused_actor": f"{event.actor.kind}:{event.actor.name}"[:300],
            },
        )


def _head(connection: Connection, *, lock: bool) -> Any:
    query = select(HEAD.c.size, HEAD.c.root, HEAD.c.frontier).where(HEAD.c.id == 1)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise AuditError("the audit log's head row is gone: somebody with the owner's rights removed it")
    return row


def _recorded(connection: Connection, ids: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for start in range(0, len(ids), _LOOKUP):
        query = select(EVENTS.c.event_id, EVENTS.c.seq, EVENTS.c.stored_at, EVENTS.c.entry)
        rows = connection.execute(query.where(EVENTS.c.event_id.in_(ids[start : start + _LOOKUP])))
        found.update((row.event_id, row) for row in rows)
    return found


def _write(connection: Connection, pairs: Sequence[tuple[AuditEvent, bytes]], keep_first: bool) -> list[int]:
    """Append what is new. The lock on the head row makes writers take turns, hence no gap and no double."""
    head = _head(connection, lock=True)
    tree = Frontier.from_bytes(head.size, head.frontier)
    recorded = _recorded(connection, [str(event.event_id) for event, _ in pairs])
    stored_at = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    added: dict[str, tuple[int, bytes]] = {}
    seqs = []
    for event, data in pairs:
        key = str(event.event_id)
        if key in added:
            seq, same = added[key][0], added[key][1] == data
        elif key in recorded:
            old = recorded[key]
            seq, same = old.seq, old.entry == entry_bytes(data, old.seq, old.stored_at)
        else:
            seq, same = tree.size, True
            rows.append(row_of(data, seq, stored_at))
            tree.append(rows[-1]["leaf_hash"])
            added[key] = (seq, data)
        if not same and not keep_first:
            raise _Contradiction(event, data, seq)
        seqs.append(seq)
    if rows:
        connection.execute(EVENTS.insert(), rows)
        connection.execute(
            update(HEAD).where(HEAD.c.id == 1).values(size=tree.size, root=tree.root(), frontier=tree.to_bytes())
        )
    return seqs
