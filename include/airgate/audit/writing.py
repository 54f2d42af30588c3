"""How events become leaves, within one transaction: on PostgreSQL by the function `airgate_append`, on SQLite here.

Both take a lock that makes writers take turns, hence no gap and no double. See docs/adr/0005 for why the two differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DBAPIError

from airgate.audit.entry import columns_of, entry_bytes
from airgate.audit.event import AuditEvent, time_text
from airgate.audit.merkle import Frontier, leaf_hash
from airgate.audit.schema import EVENTS, HEAD, TREE
from airgate.errors import AuditError

TILE = 8  # levels between two whose subtrees are stored: 256, 65,536, ... leaves, as in C2SP tlog-tiles
_LOOKUP = 500  # ids in one query
_CONTRADICTION = "AG001"
_FUNCTION = ("SELECT airgate_append(%s, %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], "
             "%s::integer[], %s::integer[], %s::text[], %s)")
_COLUMNS = ("event_id", "kind", "model", "version", "dag_id", "run_id", "task_id", "map_index", "try_number", "occurred_at")


@dataclass
class Contradiction(Exception):
    """An id is offered with other bytes than those recorded as `seq`. Ends the transaction."""

    position: int
    seq: int


@dataclass(frozen=True)
class Offered:
    """An event and the bytes that are to be recorded."""

    event: AuditEvent
    data: bytes


def write(connection: Connection, offered: Sequence[Offered], *, keep_first: bool) -> list[int]:
    """Append what is new and give the seq of each. Raises Contradiction unless `keep_first`.

    No id may occur twice among those offered.
    """
    if not offered:
        return []
    append = _by_function if connection.dialect.name == "postgresql" else _by_hand
    return append(connection, offered, keep_first)


def head(connection: Connection) -> Any:
    """Give the head row: size, root, frontier. Raises AuditError when somebody removed it."""
    row = connection.execute(select(HEAD.c.size, HEAD.c.root, HEAD.c.frontier).where(HEAD.c.id == 1)).one_or_none()
    if row is None:
        raise AuditError("the audit log's head row is gone: somebody with the owner's rights removed it")
    return row


def _by_function(connection: Connection, offered: Sequence[Offered], keep_first: bool) -> list[int]:
    columns = [columns_of(one.event) for one in offered]
    text = b"\n".join(one.data for one in offered).decode()
    arguments = (text, *([column[name] for column in columns] for name in _COLUMNS), keep_first)
    try:
        seqs: list[int] = connection.exec_driver_sql(_FUNCTION, arguments).scalar_one()
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == _CONTRADICTION:
            position, seq = str(error.orig.diag.message_detail).split()  # type: ignore[union-attr]
            raise Contradiction(int(position) - 1, int(seq)) from None
        raise
    return seqs


def _by_hand(connection: Connection, offered: Sequence[Offered], keep_first: bool) -> list[int]:
    """The transaction began with BEGIN IMMEDIATE: nobody else writes until it ends."""
    found = head(connection)
    tree = Frontier.from_bytes(found.size, found.frontier)
    recorded = _recorded(connection, [str(one.event.event_id) for one in offered])
    stored_at = time_text(datetime.now(UTC))
    rows: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    seqs = []
    for position, one in enumerate(offered):
        old = recorded.get(str(one.event.event_id))
        if old is None:
            seqs.append(tree.size)
            entry = entry_bytes(one.data, tree.size, stored_at)
            leaf = leaf_hash(entry)
            rows.append(columns_of(one.event) | {"seq": tree.size, "stored_at": stored_at, "leaf_hash": leaf, "entry": entry})
            nodes += [{"level": level, "index": index, "hash": node} for level, index, node in tree.append(leaf)
                      if level % TILE == 0]
            continue
        if not keep_first and old.entry is not None and old.entry != entry_bytes(one.data, old.seq, old.stored_at):
            raise Contradiction(position, old.seq)
        seqs.append(old.seq)
    if rows:
        connection.execute(EVENTS.insert(), rows)
        connection.execute(update(HEAD).where(HEAD.c.id == 1).values(
            size=tree.size, root=tree.root(), frontier=tree.to_bytes()))
    if nodes:
        connection.execute(TREE.insert(), nodes)
    return seqs


def _recorded(connection: Connection, ids: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for start in range(0, len(ids), _LOOKUP):
        query = select(EVENTS.c.event_id, EVENTS.c.seq, EVENTS.c.stored_at, EVENTS.c.entry)
        rows = connection.execute(query.where(EVENTS.c.event_id.in_(ids[start : start + _LOOKUP])))
        found.update((row.event_id, row) for row in rows)
    return found
