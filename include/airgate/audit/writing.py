"""How events become leaves: on PostgreSQL by the function `airgate_append`, on SQLite here, within one transaction.

Both take a lock that makes writers take turns, hence no gap and no double. See docs/adr/0005 for why the two differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select, update

from airgate.audit.database import Database, Raised
from airgate.audit.entry import columns_of, entry_bytes
from airgate.audit.event import AuditEvent, time_text
from airgate.audit.merkle import Frontier, leaf_hash
from airgate.audit.schema import EVENTS, HEAD, TREE
from airgate.errors import AuditError

TILE = 8  # levels between two whose subtrees are stored: 256, 65,536, ... leaves, as in C2SP tlog-tiles
_LOOKUP = 500  # ids in one query
_CONTRADICTION = "AG001"
_FUNCTION = ("SELECT airgate_append(%s, %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], "
             "%s::integer[], %s::integer[], %s::text[], %s::boolean[], %s::smallint[], %s::text[], %s)")
_AFTER_HEAD = b',"event_id":"'  # unescaped quotes: no text inside an event looks like this


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


def write(database: Database, offered: Sequence[Offered], *, keep_first: bool) -> list[int]:
    """Append what is new, durably, and give the seq of each. Raises Contradiction unless `keep_first`.

    No id may occur twice among those offered. Raises AuditError when the database cannot take them.
    """
    if not offered:
        return []
    if database.dialect == "sqlite":
        return database.transact(lambda connection: _by_hand(connection, offered, keep_first), write=True)
    try:
        seqs: list[int] = database.call(_FUNCTION, _arguments(offered, keep_first))
    except Raised as error:
        if error.code != _CONTRADICTION:
            raise
        position, seq = error.detail.split()
        raise Contradiction(int(position) - 1, int(seq)) from None
    return seqs


def head(connection: Connection) -> Any:
    """Give the head row: size, root, frontier. Raises AuditError when somebody removed it."""
    row = connection.execute(select(HEAD.c.size, HEAD.c.root, HEAD.c.frontier).where(HEAD.c.id == 1)).one_or_none()
    if row is None:
        raise AuditError("the audit log's head row is gone: somebody with the owner's rights removed it")
    return row


def _arguments(offered: Sequence[Offered], keep_first: bool) -> tuple[Any, ...]:
    """What `airgate_append` takes. Arrays are written as one text each: a list of Python strings costs ten times as much."""
    events = [one.event for one in offered]
    tasks = [event.task for event in events]
    heads = b"\n".join([one.data[: one.data.rindex(_AFTER_HEAD)] for one in offered]).decode()
    return (
        heads, _array([str(event.event_id) for event in events]), _array([event.kind for event in events]),
        _array([event.model for event in events]), _array([event.version for event in events]),
        _array([task and task.dag_id for task in tasks]), _array([task and task.run_id for task in tasks]),
        _array([task and task.task_id for task in tasks]), _array([task and task.map_index for task in tasks]),
        _array([task and task.try_number for task in tasks]), _array([time_text(event.occurred_at) for event in events]),
        _array([event.recovered for event in events]), _array([event.schema_version for event in events]),
        _array([event.source for event in events]), keep_first,
    )


def _array(values: Sequence[Any]) -> str:
    """PostgreSQL's text form of an array."""
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
