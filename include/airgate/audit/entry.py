"""A leaf of the log: the event together with its place and the store's time.

Place and time stand inside the leaf, so that a swapped row or a changed time of storage breaks the tree as an edited
event does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airgate.audit.canonical_json import loads
from airgate.audit.event import AuditEvent, event_of, time_text
from airgate.audit.merkle import leaf_hash
from airgate.audit.subjects import Subjects
from airgate.errors import AuditError

_OF_EVENT = ("event_id", "kind", "model", "version", "occurred_at")
_OF_TASK = ("dag_id", "run_id", "task_id", "map_index", "try_number")
_NO_TASK: dict[str, Any] = dict.fromkeys(_OF_TASK)


@dataclass(frozen=True)
class StoredEvent:
    """An event as the log holds it. `seq` is the leaf index, from 0; `stored_at` is the store's clock, UTC.

    `event` has its personal fields in clear, or 'erased:...' where a person's key was destroyed; `entry` are the leaf's
    bytes as they are hashed.
    """

    seq: int
    event: AuditEvent
    stored_at: datetime
    leaf_hash: bytes
    entry: bytes


def entry_bytes(event: bytes, seq: int, stored_at: str) -> bytes:
    """Give the leaf's bytes: the RFC 8785 form of {"event": ..., "seq": ..., "stored_at": ...}.

    `event` is what `canonical` gave and stands in the leaf unchanged; the three keys are in RFC 8785 order already.
    """
    return b'{"event":%b,"seq":%d,"stored_at":"%b"}' % (event, seq, stored_at.encode("ascii"))


def columns_of(event: AuditEvent) -> dict[str, Any]:
    """Give the values by which the log can be searched. None of them is personal."""
    task = event.task
    return {
        "event_id": str(event.event_id), "kind": event.kind, "model": event.model, "version": event.version,
        "occurred_at": time_text(event.occurred_at),
        **({name: getattr(task, name) for name in _OF_TASK} if task else _NO_TASK),
    }


def columns_in(event: Mapping[str, Any]) -> dict[str, Any]:
    """Give the same values as an event's decoded JSON has them, to check the columns against the bytes.

    Raises KeyError or TypeError when it is no event.
    """
    task = event["task"] or _NO_TASK
    return {name: event[name] for name in _OF_EVENT} | {name: task[name] for name in _OF_TASK}


def parse_entry(entry: bytes, seq: int, subjects: Subjects) -> StoredEvent:
    """Read a leaf's bytes. Raises AuditError, naming the row, when they cannot be read."""
    try:
        record = loads(entry)
        event, personal = subjects.opened(record["event"])
        stored_at = datetime.fromisoformat(record["stored_at"])
        return StoredEvent(record["seq"], event_of(event, personal), stored_at, leaf_hash(entry), entry)
    except (AuditError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise AuditError(f"event {seq} cannot be read: {error}. Run `airgate audit verify`") from error
