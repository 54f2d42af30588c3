"""Proofs in a form to hand out: one event's place in the tree, and one tree as the beginning of another (RFC 9162)."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from airgate.audit.schema import EVENTS
from airgate.audit.store import AuditStore
from airgate.audit.tiles import StoredTree
from airgate.audit.writing import head
from airgate.errors import AuditError


def inclusion(store: AuditStore, seq: int, size: int | None = None) -> dict[str, Any]:
    """Prove that event `seq` is in the tree of the first `size` events, by default of all.

    Gives {"entry", "leaf_hash", "index", "size", "root", "proof"}: the leaf's text (None once it expired), hashes in hex.
    `airgate.audit.verifier.verify_inclusion` checks it. Raises AuditError for numbers that the log does not have.
    """

    return inclusions(store, [seq], size)[0]


def inclusions(store: AuditStore, seqs: Sequence[int], size: int | None = None) -> list[dict[str, Any]]:
    """Prove several events at once, all in one tree; for each what `inclusion` gives, in the order asked. Raises as it does."""

    def work(connection: Connection) -> list[dict[str, Any]]:
        wanted, tree = _size(connection, size), StoredTree(connection)
        return [_inclusion(connection, tree, seq, wanted) for seq in seqs]

    return store.database.transact(work, write=False)


def _inclusion(connection: Connection, tree: StoredTree, seq: int, size: int) -> dict[str, Any]:
    row = connection.execute(select(EVENTS.c.entry, EVENTS.c.leaf_hash).where(EVENTS.c.seq == seq)).one_or_none()
    if row is None or not 0 <= seq < size:
        raise AuditError(f"there is no event {seq} among the first {size}; allowed: 0 to {size - 1}")
    return {
        "entry": bytes(row.entry).decode() if row.entry is not None else None, "leaf_hash": bytes(row.leaf_hash).hex(),
        "index": seq, "size": size, "root": tree.root(0, size).hex(),
        "proof": [node.hex() for node in tree.inclusion(seq, size)],
    }


def consistency(store: AuditStore, old: int, new: int | None = None) -> dict[str, Any]:
    """Prove that the first `old` events are the beginning of the first `new`, by default of all.

    Gives {"old", "new", "old_root", "new_root", "proof"}, hashes in hex. Raises AuditError unless 1 <= old <= new <= size.
    """

    def work(connection: Connection) -> dict[str, Any]:
        wanted = _size(connection, new)
        tree = StoredTree(connection)
        proof = tree.consistency(old, wanted)
        return {"old": old, "new": wanted, "old_root": tree.root(0, old).hex(), "new_root": tree.root(0, wanted).hex(),
                "proof": [node.hex() for node in proof]}

    return store.database.transact(work, write=False)


def seq_of(store: AuditStore, event_id: UUID) -> int | None:
    """Give the number of the event with this id, expired or not; None if there is none. Raises AuditError."""
    query = select(EVENTS.c.seq).where(EVENTS.c.event_id == str(event_id))
    return store.database.transact(lambda connection: connection.execute(query).scalar_one_or_none(), write=False)


def _size(connection: Connection, size: int | None) -> int:
    now = int(head(connection).size)
    if size is not None and not 0 <= size <= now:
        raise AuditError(f"the log has {now} events, so there is no tree of {size}; allowed: 0 to {now}")
    return now if size is None else size
