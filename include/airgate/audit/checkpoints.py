"""Signed checkpoints: what the log was at a size, in a form that its own administrator cannot make up afterwards.

A checkpoint is a C2SP note over the root of the first `size` events (docs/audit-format.md, section 5), chained to the one
before. It goes into the database first, durably, and only then to the anchors: places outside the database's reach.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from airgate.audit.anchors import Anchor
from airgate.audit.canonical_json import loads
from airgate.audit.event import Actor, AuditEvent, CodeRef, event_id_of, time_text
from airgate.audit.schema import CHECKPOINTS, EVENTS, RECEIPTS
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


@dataclass(frozen=True)
class NamedKey:
    """What event `seq` says: this key shall sign instead of that one. `key` is None where it names none that can be read."""

    seq: int
    key: VerifierKey | None
    replaces: str | None


@dataclass
class Anchored:
    """What came of handing checkpoints to the anchors: (anchor, size) taken, and why others were not."""

    taken: list[tuple[str, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def checkpoint(store: AuditStore, signer: Signer) -> Note:
    """Sign the log as it is now and give the note; where nothing was added since the last one, give that.

    The first checkpoint puts the key on record before (`audit.key`). Raises AuditError when the store fails, or when the key
    is not the one that signs this log.
    """
    if key_in_force(store) is None:
        _record_key(store, signer.public, replaces=None)
    return store.database.transact(lambda connection: _sign(connection, [signer]), write=True)


def rotate(store: AuditStore, old: Signer, new: Signer) -> Note:
    """Let a new key sign from here on: it goes on record, and a checkpoint by both keys vouches for it.

    Interrupted in between, the same call finishes it. Checkpoints of the old key keep verifying.
    Raises AuditError when `old` is not the key that signs this log.
    """
    current = key_in_force(store)
    if current == new.public:
        raise AuditError(f"the key {current.text()} signs this log already")
    if current != old.public:
        raise AuditError(f"the key in force is {current.text() if current else 'none yet'}, not {old.public.text()}; a rotation "
                         "needs the key in force")
    # Each attempt has a leaf of its own: only the first checkpoint that covers a leaf can vouch for it.
    _record_key(store, new.public, replaces=old.public, attempt=store.head()[0])
    note = store.database.transact(lambda connection: _sign(connection, [old, new]), write=True)
    if key_in_force(store) != new.public:
        raise AuditError("another checkpoint came in between, so the new key is not in force: call it again")
    return note


def notes(store: AuditStore) -> list[Note]:
    """Give all checkpoints, the smallest first. Raises AuditError when one cannot be read."""
    rows = store.database.transact(
        lambda connection: connection.execute(select(CHECKPOINTS).order_by(CHECKPOINTS.c.size)).all(), write=False)
    return [_parsed(bytes(row.note), row.size) for row in rows]


def newest(store: AuditStore) -> Note | None:
    """Give the newest checkpoint, None if there is none."""
    return store.database.transact(_newest, write=False)


def keys_named(store: AuditStore) -> list[NamedKey]:
    """Give what the log's `audit.key` events say, the oldest first."""
    return [_named(stored.seq, stored.event.body) for stored in store.events(kind="audit.key")]


def keys_in_force(store: AuditStore) -> list[VerifierKey]:
    """Give the keys that have signed this log in turn, the oldest first."""
    return list(dict.fromkeys(key for key in succession(keys_named(store), notes(store)) if key))


def succession(named: Sequence[NamedKey], notes: Sequence[Note]) -> list[VerifierKey | None]:
    """Give, for each checkpoint, the key that must have signed it, and at the end the key in force now.

    The rule is that of docs/audit-format.md, section 5: a key comes into force after the first checkpoint that covers its
    introduction, if the key in force and the new one both signed that. None as long as the log names no first key.
    """
    current = next((one.key for one in named if one.key and one.replaces is None), None)
    result: list[VerifierKey | None] = []
    covered = 0
    for note in notes:
        result.append(current)
        for one in named:
            handed_over = current and one.key and one.replaces == current.text() and covered <= one.seq < note.size
            if handed_over and current and one.key and note.signed_by(current) and note.signed_by(one.key):
                current = one.key
        covered = note.size
    return [*result, current]


def key_in_force(store: AuditStore) -> VerifierKey | None:
    """Give the key that signs now; None before the first checkpoint."""
    return store.database.transact(lambda connection: _succession_now(connection)[1][-1], write=False)


def anchor_all(store: AuditStore, anchors: Sequence[Anchor]) -> Anchored:
    """Hand every checkpoint to every anchor that has not taken it yet.

    An anchor that fails is put on record as an `audit.alarm`, once for each checkpoint, and stops neither the others nor
    any append. What it missed it gets the next time. Raises AuditError when the store fails.
    """
    result = Anchored()
    all_notes = notes(store)
    keys = succession(keys_named(store), all_notes)
    sound = [note for note, key in zip(all_notes, keys, strict=False) if key and note.signed_by(key)]
    for anchor in anchors:
        done, failures = _taken_by(store, anchor.name), 0
        for note in sound:  # what somebody else put there must not get into a place that never forgets
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


def _sign(connection: Connection, signers: Sequence[Signer]) -> Note:
    if connection.dialect.name == "postgresql":
        # One at a time, or two would follow the same one. On SQLite the transaction itself holds the lock.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    before = _newest(connection)
    size = head(connection).size
    _refuse_strange_keys(connection, signers)
    if before is not None and (before.size > size or before.root != StoredTree(connection).root(0, before.size)):
        raise AuditError(f"the newest checkpoint, over {before.size} events, is not one of this log, which has {size}: somebody "
                         "forged it, or restored an old backup. Run `airgate audit verify --anchors`")
    if before is not None and before.size == size:
        return before
    made_at = time_text(datetime.now(UTC))
    lines = [signers[0].public.name, str(size), b64encode(StoredTree(connection).root(0, size)).decode()]
    if before is not None:
        lines.append(f"previous {b64encode(before.digest()).decode()}")
    text = "".join(f"{line}\n" for line in [*lines, f"time {made_at}"]).encode()
    note = text + b"\n" + b"".join(signer.signature_line(text) for signer in signers)
    connection.execute(CHECKPOINTS.insert().values(size=size, note=note, made_at=made_at))
    return Note.parse(note)


def _succession_now(connection: Connection) -> tuple[list[Note], list[VerifierKey | None]]:
    """What `succession` gives for those checkpoints alone that a key came in by, and the newest; and these.

    A key counts by the first checkpoint that covers the event that names it; all others change nothing, and there is one an hour.
    """
    over = select(func.min(CHECKPOINTS.c.size)).where(CHECKPOINTS.c.size > EVENTS.c.seq).scalar_subquery()
    query = select(EVENTS.c.seq, EVENTS.c.entry, over.label("over")).where(EVENTS.c.kind == "audit.key").order_by(EVENTS.c.seq)
    found = connection.execute(query).all()
    named = [_named(row.seq, loads(bytes(row.entry))["event"]["body"]) for row in found if row.entry]
    sizes = {row.over for row in found} | {connection.execute(select(func.max(CHECKPOINTS.c.size))).scalar()}
    rows = connection.execute(select(CHECKPOINTS).where(CHECKPOINTS.c.size.in_(sizes - {None})).order_by(CHECKPOINTS.c.size))
    made = [_parsed(bytes(row.note), row.size) for row in rows]
    return made, succession(named, made)


def _refuse_strange_keys(connection: Connection, signers: Sequence[Signer]) -> None:
    """Sign only with the key in force, looked up in the transaction that signs."""
    made, (*keys, current) = _succession_now(connection)
    if made and (keys[-1] is None or not made[-1].signed_by(keys[-1])):
        raise AuditError(f"the newest checkpoint, over {made[-1].size} events, is not signed by the key that was in force: "
                         "somebody forged it. Run `airgate audit verify --anchors`")
    if current is not None and current != signers[0].public:
        raise AuditError(f"AIRGATE_AUDIT_KEY is the key {signers[0].public.text()}, but the one in force is {current.text()}. "
                         "Set that, or rotate: `airgate audit rotate-key`")


def _named(seq: int, body: Mapping[str, Any]) -> NamedKey:
    """Read an `audit.key` event's body. Whoever can append could write nonsense there: it names no key."""
    replaces = body.get("replaces")
    try:
        key = VerifierKey.parse(str(body.get("vkey")))
    except ValueError:
        key = None
    return NamedKey(seq, key, None if replaces is None else str(replaces))


def _record_key(store: AuditStore, key: VerifierKey, replaces: VerifierKey | None, attempt: int = 0) -> None:
    replaced = replaces.text() if replaces else None
    store.append_if_absent(AuditEvent(
        event_id=event_id_of("audit.key", key.text(), replaced or "", attempt), kind="audit.key", occurred_at=datetime.now(UTC),
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
