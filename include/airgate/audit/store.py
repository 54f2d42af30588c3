"""The audit store: an append-only table whose rows are the leaves of one Merkle tree, on PostgreSQL or SQLite."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from airgate.audit import migrations, subject_keys
from airgate.audit.database import Database
from airgate.audit.entry import StoredEvent, parse_entry
from airgate.audit.event import PEOPLE, Actor, AuditEvent, Kind, canonical, event_id_of
from airgate.audit.integrity import IntegrityReport, verify_database
from airgate.audit.schema import EVENTS
from airgate.audit.subjects import Subjects, ids_in, names_in
from airgate.audit.tiles import StoredTree
from airgate.audit.writing import Contradiction, Offered, head, write
from airgate.errors import AuditError

_ACTOR = Actor(kind="system", name="audit store")


class AuditStore:
    """The log at one URL. Safe in any process and over a fork: each call opens and closes its own connection."""

    def __init__(self, url: str, timeout: float = 10.0, patience: float = 0.0, *, keep: bool = False) -> None:
        """Take `sqlite:///PATH` or `postgresql://...`; `timeout` (seconds) bounds connecting and waiting for the lock.

        `patience` (seconds) is how long a database that is down is asked again; with `keep` connections stay open, for those
        who append much. Raises ConfigError for a URL that cannot serve. Nothing is opened yet.
        """
        self.database = Database(url, timeout, patience, keep=keep)

    @property
    def where(self) -> str:
        """The place of the log without user or password, fit for messages."""
        return self.database.where

    def create(self) -> None:
        """Make the tables, or bring those of an older release up to date; any number of processes may do so at once.

        Raises AuditError when the database cannot be reached or holds a schema of a newer release.
        """
        self.database.prepare()
        self.database.transact(migrations.upgrade, write=True)

    def grant(self, role: str) -> None:
        """Let a PostgreSQL role do what the application does, and no more; see `migrations.GRANTS`. Call as the owner.

        Raises AuditError where there are no roles, or the role does not exist.
        """
        self.database.transact(lambda connection: migrations.grant(connection, role), write=True)

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
        kind: Kind | tuple[Kind, ...] | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[StoredEvent]:
        """Give the events that fit, in the order of seq; `after` and `before` are seqs, both exclusive.

        Several kinds asked for at once are read at one moment. Expired events are left out. Raises AuditError when the store
        cannot be read, or holds bytes that are no event.
        """
        kinds = [kind] if isinstance(kind, str) else kind
        wanted = {"model": model, "dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        query = select(EVENTS.c.seq, EVENTS.c.entry).where(EVENTS.c.entry.is_not(None))
        query = query.where(*(EVENTS.c[name] == value for name, value in wanted.items() if value is not None))
        if kinds is not None:
            query = query.where(EVENTS.c.kind.in_(kinds))
        if after is not None:
            query = query.where(EVENTS.c.seq > after)
        if before is not None:
            query = query.where(EVENTS.c.seq < before)
        query = query.order_by(EVENTS.c.seq.desc() if newest_first else EVENTS.c.seq).limit(limit)
        return self.database.transact(lambda connection: _read(connection, query), write=False)

    def get(self, event_id: UUID | str) -> StoredEvent | None:
        """Give the event of this id, None if there is none or it expired. Raises AuditError when the store cannot be read."""
        query = select(EVENTS.c.seq, EVENTS.c.entry).where(EVENTS.c.event_id == str(event_id), EVENTS.c.entry.is_not(None))
        found = self.database.transact(lambda connection: _read(connection, query), write=False)
        return found[0] if found else None

    def entry(self, event_id: UUID | str) -> tuple[int, bytes] | None:
        """Give the seq and the exact bytes of one leaf, names sealed as they are on record, for whoever cites it in a document.

        None if there is none or it expired. Raises AuditError when the store cannot be read.
        """
        query = select(EVENTS.c.seq, EVENTS.c.entry).where(EVENTS.c.event_id == str(event_id), EVENTS.c.entry.is_not(None))
        row = self.database.transact(lambda connection: connection.execute(query).one_or_none(), write=False)
        return (row.seq, bytes(row.entry)) if row else None

    def head(self) -> tuple[int, bytes]:
        """Give the number of events and the tree's root (32 bytes). Raises AuditError when the store cannot be read."""
        row = self.database.transact(head, write=False)
        return row.size, bytes(row.root)

    def inclusion_proof(self, seq: int, size: int) -> list[bytes]:
        """Prove that event `seq` is in the tree of the first `size` events (RFC 9162, 2.1.3). Raises AuditError."""
        return self.database.transact(lambda connection: StoredTree(connection).inclusion(seq, size), write=False)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """Prove that the first `old` events are the beginning of the first `new` (RFC 9162, 2.1.4). Raises AuditError."""
        return self.database.transact(lambda connection: StoredTree(connection).consistency(old, new), write=False)

    def root_at(self, size: int) -> bytes:
        """Give the root of the tree of the first `size` events. Raises AuditError when there are fewer."""

        def work(connection: Connection) -> bytes:
            now = head(connection).size
            if not 0 <= size <= now:
                raise AuditError(f"the log has {now} events, so it has no root at {size}; allowed: 0 to {now}")
            return StoredTree(connection).root(0, size)

        return self.database.transact(work, write=False)

    def verify(self) -> IntegrityReport:
        """Hash the whole log again, in bounded memory and one snapshot; appends go on meanwhile.

        Raises AuditError when the store cannot be read.
        """
        return self.database.transact(verify_database, write=False)

    def _append(self, events: Sequence[AuditEvent], *, keep_first: bool) -> list[int]:
        ids = [event.event_id for event in events]
        unique: dict[UUID, AuditEvent] = {}
        for event in events:
            unique.setdefault(event.event_id, event)
        people = names_in(events)

        subjects = self._subjects(people) if people else None
        offered = [Offered(event, canonical(event, subjects.seal if subjects else None)) for event in unique.values()]

        try:
            if not keep_first and len(unique) < len(events):
                _refuse_two_contents(events, unique)
            seqs = dict(zip(unique, write(self.database, offered, keep_first=keep_first), strict=True))
        except Contradiction as found:
            event = list(unique.values())[found.position]
            self._append([_alarm(event, found.seq)], keep_first=True)
            place = f"is recorded as number {found.seq} with" if found.seq >= 0 else "was offered twice at once, once with"
            raise AuditError(
                f"event {event.event_id} ({event.kind}) {place} other content; the record stays as it was and an audit.alarm "
                "was added. See `airgate audit show --kind audit.alarm`") from None
        return [seqs[event_id] for event_id in ids]

    def _subjects(self, names: Iterable[str]) -> Subjects:
        """The subjects of these names: nearly always known, so read first; who is new gets a key."""
        wanted = set(names)
        found = self.database.transact(lambda connection: subject_keys.known(connection, wanted), write=False)
        if found.by_name.keys() == wanted:
            return found
        return self.database.transact(lambda connection: subject_keys.for_names(connection, wanted), write=True)


def _read(connection: Connection, query: Any) -> list[StoredEvent]:
    rows = [(row.seq, bytes(row.entry)) for row in connection.execute(query)]
    people = {subject for _, entry in rows for subject in ids_in(entry)}
    subjects = subject_keys.for_ids(connection, people)
    return [parse_entry(entry, seq, subjects) for seq, entry in rows]


def _refuse_two_contents(events: Sequence[AuditEvent], unique: dict[UUID, AuditEvent]) -> None:
    for event in events:
        if canonical(event) != canonical(unique[event.event_id]):
            raise Contradiction(list(unique).index(event.event_id), -1)


def _alarm(event: AuditEvent, seq: int) -> AuditEvent:
    digest = sha256(canonical(event)).hexdigest()
    return AuditEvent(
        # One alarm for each contradicting content: a caller that retries does not fill the log.
        event_id=event_id_of("audit.alarm", str(event.event_id), digest),
        kind="audit.alarm", occurred_at=datetime.now(UTC), actor=_ACTOR, task=event.task, model=event.model,
        version=event.version, source=event.source, code=event.code,
        body={
            "alarm": "contradiction", "event_id": str(event.event_id), "kind": event.kind,
            "recorded_seq": seq if seq >= 0 else None, "refused_sha256": digest,
            "refused_actor": f"{event.actor.kind}:{event.actor.name}"[:300],
        },
        personal={"refused_actor": event.actor.name} if event.actor.kind in PEOPLE else {},
    )
