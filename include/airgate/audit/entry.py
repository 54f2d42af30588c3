"""A leaf of the log: the event together with its place and the store's time.

Place and time stand inside the leaf, so that a swapped row or a changed time of storage breaks the tree as an edited
event does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airgate.audit.event import AuditEvent, event_of, load_json, time_text
from airgate.audit.merkle import leaf_hash
from airgate.errors import AuditError

_OF_EVENT = ("event_id", "kind", "model", "version", "occurred_at")
_OF_TASK = ("dag_id", "run_id", "task_id", "map_index", "try_number")
_NO_TASK: dict[str, Any] = dict.fromkeys(_OF_TASK)


@dataclass(frozen=True)
class StoredEvent:
    """An event as the log holds it. `seq` is the leaf index, from 0; `stored_at` is the store's clock, UTC."""

    seq: int
    event: AuditEvent
    stored_at: datetime
    leaf_hash: bytes


def entry_bytes(event: bytes, seq: int, stored_at: str) -> bytes:
    """Give the leaf's bytes: the RFC 8785 form of {"event": ..., "seq": ..., "stored_at": ...}.

    `event` is what `canonical` gave and stands in the leaf unchanged; the three keys are in RFC 8785 order already.
    """
    return b'{"event":%b,"seq":%d,"stored_at":"%b"}' % (event, seq, stored_at.encode("ascii"))


def columns(event: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values by which the log can be searched, from an event's decoded JSON.

    They repeat what the bytes say and are checked against them. Raises KeyError or TypeError when it is no event.
    """
    task = event["task"] or _NO_TASK
    return {name: event[name] for name in _OF_EVENT} | {name: task[name] for name in _OF_TASK}


def row_of(data: bytes, seq: int, stored_at: datetime) -> dict[str, Any]:
    """Make the row of one event from its canonical bytes."""
    stored = time_text(stored_at)
    entry = entry_bytes(data, seq, stored)
    return columns(load_json(data)) | {"seq": seq, "stored_at": stored, "entry": entry, "leaf_hash": leaf_hash(entry)}


def parse_entry(entry: bytes, seq: int) -> StoredEvent:
    """Read a leaf's bytes. Raises AuditError, naming the row, when they cannot be read."""
    try:
        record = load_json(entry)
        stored_at = datetime.fromisoformat(record["stored_at"])
        return StoredEvent(record["seq"], event_of(record["event"]), stored_at, leaf_hash(entry))
    except (AuditError, KeyError, TypeError, ValueError) as error:
        raise AuditError(f"event {seq} cannot be read: {error}. Run `airgate audit verify`") from error

