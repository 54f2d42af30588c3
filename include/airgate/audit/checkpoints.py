"""Signed checkpoints: what the log was at a size, in a form that its own administrator cannot make up afterwards.

A checkpoint is a C2SP note over the root of the first `size` events (docs/audit-format.md, section 5), chained to the one
before. It goes into the database first, durably, and only then to the anchors: places outside the database's reach.
"""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from airgate.audit.anchors import Anchor
from airgate.audit.entry import StoredEvent
from airgate.audit.event import Actor, AuditEvent, CodeRef, event_id_of, time_text
from airgate.audit.schema import CHECKPOINTS, RECEIPTS
from airgate.audit.signing import Signer
from airgate.audit.store import AuditStore
from airgate.audit.tiles import StoredTree
from airgate.audit.verifier import Note, VerifierKey
from airgate.audit.writing import head
from airgate.errors import AuditError

ACTOR = Actor(kind="system", name="audit upkeep")
# One checkpoint that a place refuses must not keep the others out; a place that is down need not be asked for each.
_FAILURES = 3
_LOCK = 0x4169726761746532  # any constant that nobody else locks


@dataclass
class Anchored:
    """What came of handing checkpoints to the anchors: (anchor, size) taken, and why others were not."""

    taken: list[tuple[str, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def checkpoint(store: AuditStore, signer: Signer, *also: Signer) -> Note:
    """Sign the log as it is now and give the note; where nothing was added since the last one, give that.

    The first checkpoint, and the first of a new key, put the key on record before (`audit.key`). `also` sign beside: in a
    rotation, the key before. Raises AuditError when the store fails, or when the key is not the one on record.
    """
    _put_key_on_record(store, signer, also)
    return store.database.transact(lambda connection: _sign(connection, signer, also), write=True)


def rotate(store: AuditStore, old: Signer, new: Signer) -> Note:
    """Let a new key sign from here on: it goes on record and a checkpoint by both keys vouches for it.

    Checkpoints of the old key keep verifying. Raises AuditError when `old` is not the key on record.
    """
    current = key_on_record(store)
    if current == new.public:
        return checkpoint(store, new, old)  # interrupted between the two: finish
    if current is not None and current != old.public:
        raise AuditError(f"the key on record is {current.text()}, not {old.public.text()}; a rotation needs the key on record")
    _record_key(store, new.public, replaces=old.public if current else None)
    return checkpoint(store, new, old)


def notes(store: AuditStore) -> list[Note]:
    """Give all checkpoints, the smallest first. Raises AuditError when one cannot be read."""
    rows = store.database.transact(
        lambda connection: connection.execute(select(CHECKPOINTS).order_by(CHECKPOINTS.c.size)).all(), write=False)
    return [_parsed(bytes(row.note), row.size) for row in rows]


def newest(store: AuditStore) -> Note | None:
    """Give the newest checkpoint, None if there is none."""
    return store.database.transact(_newest, write=False)


def keys_on_record(store: AuditStore) -> list[VerifierKey]:
    """Give the keys that the log names, the oldest first."""
    return [VerifierKey.parse(str(stored.event.body["vkey"])) for stored in store.events(kind="audit.key")]


def key_on_record(store: AuditStore) -> VerifierKey | None:
    """Give the key that signs now, as the log has it; None before the first checkpoint."""
    keys = keys_on_record(store)
    return keys[-1] if keys else None


def anchor_all(store: AuditStore, anchors: Sequence[Anchor]) -> Anchored:
    """Hand every checkpoint to every anchor that has not taken it yet.

    An anchor that fails is put on record as an `audit.alarm`, once for each checkpoint, and stops neither the others nor
    any append. What it missed it gets the next time. Raises AuditError when the store fails.
    """
    result = Anchored()
    all_notes = notes(store)
    for anchor in anchors:
        done, failures = _taken_by(store, anchor.name), 0
        for note in all_notes:
            if note.size in done or failures == _FAILURES:
                continue
            try:
                receipt = anchor.put(note.size, note.raw)
            except AuditError as error:
                failures += 1
                result.failed.append(f"{anchor.name}: {error}")
                store.append_if_absent(_alarm(anchor.name, note, error))
                continue
            _keep_receipt(store, anchor.name, note.size, receipt)
            result.taken.append((anchor.name, note.size))
    return result


def _sign(connection: Connection, signer: Signer, also: Sequence[Signer]) -> Note:
    if connection.dialect.name == "postgresql":
        # One at a time, or two would follow the same one. On SQLite the transaction itself holds the lock.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    size = head(connection).size
    before = _newest(connection)
    if before is not None and before.size >= size and all(before.signed_by(one.public) for one in (signer, *also)):
        return before
    made_at = time_text(datetime.now(UTC))
    lines = [signer.public.name, str(size), b64encode(StoredTree(connection).root(0, size)).decode()]
    if before is not None:
        lines.append(f"previous {b64encode(hashlib.sha256(before.raw).digest()).decode()}")
    text = "".join(f"{line}\n" for line in [*lines, f"time {made_at}"]).encode()
    note = text + b"\n" + b"".join(one.signature_line(text) for one in (signer, *also))
    connection.execute(CHECKPOINTS.insert().values(size=size, note=note, made_at=made_at))
    return Note.parse(note)


def _put_key_on_record(store: AuditStore, signer: Signer, also: Sequence[Signer]) -> None:
    recorded = store.events(kind="audit.key", newest_first=True, limit=1)
    current = VerifierKey.parse(str(recorded[0].event.body["vkey"])) if recorded else None
    if current is None and not also:
        _record_key(store, signer.public, replaces=None)
    elif current != signer.public:
        raise AuditError(f"AIRGATE_AUDIT_KEY is the key {signer.public.text()}, but the log's checkpoints are signed by "
                         f"{current.text() if current else 'none'}. Set the key on record, or rotate: `airgate audit rotate-key`")
    elif not also and not _vouched_for(store, recorded[0]):
        raise AuditError("the rotation to this key was interrupted before the old key had vouched for it: run "
                         "`airgate audit rotate-key` again, with the old key")


def _vouched_for(store: AuditStore, introduced: StoredEvent) -> bool:
    """Whether the key before signed a checkpoint that covers the new one's introduction; readers trust it only then."""
    before = introduced.event.body.get("replaces")
    if before is None:
        return True
    old = VerifierKey.parse(str(before))
    return any(note.size > introduced.seq and note.signed_by(old) for note in notes(store))


def _record_key(store: AuditStore, key: VerifierKey, replaces: VerifierKey | None) -> None:
    replaced = replaces.text() if replaces else None
    store.append_if_absent(AuditEvent(
        event_id=event_id_of("audit.key", key.text(), replaced or ""), kind="audit.key", occurred_at=datetime.now(UTC),
        actor=ACTOR, source="cli" if replaces else "operator", body={"vkey": key.text(), "replaces": replaced}))


def _newest(connection: Connection) -> Note | None:
    row = connection.execute(select(CHECKPOINTS).order_by(CHECKPOINTS.c.size.desc()).limit(1)).one_or_none()
    return _parsed(bytes(row.note), row.size) if row else None


def _parsed(raw: bytes, size: int) -> Note:
    try:
        note = Note.parse(raw)
    except ValueError as error:
        raise AuditError(f"the checkpoint at {size} cannot be read: {error}. Run `airgate audit verify`") from None
    if note.size != size:
        raise AuditError(f"the checkpoint stored for {size} events speaks of {note.size}. Run `airgate audit verify`")
    return note


def _taken_by(store: AuditStore, anchor: str) -> set[int]:
    query = select(RECEIPTS.c.size).where(RECEIPTS.c.anchor == anchor)
    return set(store.database.transact(lambda connection: connection.execute(query).scalars().all(), write=False))


def _keep_receipt(store: AuditStore, anchor: str, size: int, receipt: bytes) -> None:
    row = {"size": size, "anchor": anchor, "receipt": receipt, "taken_at": time_text(datetime.now(UTC))}

    def work(connection: Connection) -> None:
        there = select(RECEIPTS.c.size).where(RECEIPTS.c.anchor == anchor, RECEIPTS.c.size == size)
        if connection.execute(there).first() is None:
            connection.execute(RECEIPTS.insert().values(row))

    store.database.transact(work, write=True)


def _alarm(anchor: str, note: Note, error: Exception) -> AuditEvent:
    return AuditEvent(
        event_id=event_id_of("audit.alarm", "anchor", anchor, note.size), kind="audit.alarm", occurred_at=datetime.now(UTC),
        actor=ACTOR, source="operator", code=CodeRef(),
        body={"alarm": "anchor", "anchor": anchor, "size": note.size, "message": str(error)[:2000]})
