"""One audit event and its exact bytes: the contract of everything that is ever recorded (format version 1)."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast, get_args
from uuid import UUID, uuid5

import rfc8785
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, JsonValue

from airgate import __version__
from airgate.contracts.base import Contract
from airgate.errors import AuditError

Kind = Literal[
    "task.started", "task.succeeded", "task.failed", "task.retrying", "task.skipped", "task.upstream_failed",
    "gate.verdict", "promotion.requested", "promotion.approved", "promotion.refused", "stage.moving", "stage.moved",
    "drift.verdict", "retraining.decided", "manual.change", "audit.alarm",
]
KINDS: dict[Kind, str] = {
    "task.started": "a task try began to run",
    "task.succeeded": "a task try did its work; written before Airflow is told of the success",
    "task.failed": "a task try failed",
    "task.retrying": "a task try failed and Airflow will try again",
    "task.skipped": "a task was skipped by a branch, a condition or a removed task",
    "task.upstream_failed": "a task could not run because one before it failed",
    "gate.verdict": "the gates were applied to a candidate: every gate with its evidence",
    "promotion.requested": "somebody or something asked for a stage move",
    "promotion.approved": "one person approved one request",
    "promotion.refused": "a request ended without a move: refused, timed out, or against the rules",
    "stage.moving": "a stage is about to move; written before the registry is touched",
    "stage.moved": "a stage was moved and read back",
    "drift.verdict": "a window was compared with the reference data",
    "retraining.decided": "the governor decided whether a drift verdict leads to a training run",
    "manual.change": "a person changed a task's or run's state by hand; body.state is the new state",
    "audit.alarm": "the log was offered something that contradicts it",
}
ActorKind = Literal["user", "schedule", "asset", "backfill", "system", "outside"]
Source = Literal["operator", "callback", "listener", "api", "sweep", "cli"]

MAX_EVENT_BYTES = 64 * 1024
MAX_DEPTH = 64
FLOAT_KEY = "$float"
_MAX_INT = 2**53 - 1
_NAMESPACE = UUID("715ca83a-4fbb-566e-a455-6552a119dd1e")


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


# PostgreSQL's text holds no NUL; Airflow's own ids have 250 characters at most.
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00]*$")]
UtcTime = Annotated[AwareDatetime, AfterValidator(_utc)]


class Actor(Contract):
    """Who or what acted. `name` is the Airflow user, the DAG's timetable, the asset, or the part of Airgate."""

    kind: ActorKind
    name: Name


class TaskRef(Contract):
    """One try of one task instance. `try_number` is 0 for a task that never ran; `map_index` is -1 if not mapped."""

    dag_id: Name
    run_id: Name
    task_id: Name
    map_index: int = Field(default=-1, ge=-1)
    try_number: int = Field(ge=0)


class CodeRef(Contract):
    """Which code acted: Airgate's version, the commit of the DAG bundle, the image with its digest where known."""

    airgate: str = __version__
    commit: str = "unversioned"
    image: str = "local"


class AuditEvent(Contract):
    """One thing that happened. Frozen; its canonical bytes are what the log's tree covers.

    `recovered` marks what the actor could not write itself and something else wrote later. `body` is JSON; its floats
    may be NaN or infinite, its integers stay within 2^53 - 1 (`canonical` refuses others).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    schema_version: Literal[1] = 1
    event_id: UUID
    kind: Kind
    occurred_at: UtcTime
    actor: Actor
    task: TaskRef | None = None
    model: Name | None = None
    version: Name | None = None
    source: Source
    recovered: bool = False
    code: CodeRef = CodeRef()
    body: dict[str, JsonValue] = {}


def event_id_of(*parts: str | int) -> UUID:
    """Give the UUIDv5 that names the thing described by `parts`, the same in every process and for ever.

    The name is the JSON array of the parts, so ("a", "b") and ("ab",) differ.
    """
    return uuid5(_NAMESPACE, json.dumps(parts, ensure_ascii=True, separators=(",", ":")))


def event_id_for(  # noqa: PLR0917 - the parts of a key, in the order of the format
    dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int, kind: Kind
) -> UUID:
    """Give the id of the one event of this kind that a task try can have."""
    return event_id_of(dag_id, run_id, task_id, try_number, map_index, kind)


def task_event(kind: Kind, task: TaskRef, *, actor: Actor, source: Source, **fields: Any) -> AuditEvent:
    """Make a task try's event of this kind, with the id that belongs to it; `occurred_at` is now unless given."""
    fields.setdefault("occurred_at", datetime.now(UTC))
    event_id = event_id_for(task.dag_id, task.run_id, task.task_id, task.try_number, task.map_index, kind)
    return AuditEvent(event_id=event_id, kind=kind, task=task, actor=actor, source=source, **fields)


def time_text(moment: datetime) -> str:
    """Write a moment as the log writes it: UTC, microseconds, fixed width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def canonical(event: AuditEvent) -> bytes:
    """Give the event's RFC 8785 bytes: every key present, times as `time_text`, NaN as {"$float": "NaN"}.

    Raises AuditError, naming the place, for an integer beyond 2^53 - 1, the reserved key "$float", text that is not
    Unicode, nesting deeper than 64, or more than 64 KiB.
    """
    record = event.model_dump(mode="python", exclude={"body"})
    record["event_id"] = str(event.event_id)
    record["occurred_at"] = time_text(event.occurred_at)
    record["body"] = _encode(event.body, "body", 0)
    try:
        data = bytes(rfc8785.dumps(record))
    except rfc8785.CanonicalizationError as error:
        raise AuditError(f"event {event.event_id} ({event.kind}) has no canonical form: {error}") from error
    if len(data) > MAX_EVENT_BYTES:
        raise AuditError(
            f"event {event.event_id} ({event.kind}) has {len(data)} bytes; at most {MAX_EVENT_BYTES} "
            "(64 KiB) are allowed. Store the large part as an artifact and record its digest"
        )
    return data


def parse(data: bytes) -> AuditEvent:
    """Read an event from its canonical bytes. Raises AuditError when they are not an event of format version 1."""
    return event_of(load_json(data))


def event_of(record: Any) -> AuditEvent:
    """Make an event of its decoded JSON, as `load_json` gives it. Raises AuditError when it is not one."""
    try:
        fields = dict(record)
        fields["body"] = _decode(fields["body"])
        return AuditEvent.model_validate(fields)
    except (ValueError, TypeError, KeyError) as error:
        raise AuditError(f"this is not an audit event of format version 1: {error}") from error


def load_json(data: bytes) -> Any:
    """Decode canonical JSON. An integer beyond 2^53 - 1 was a float (RFC 8785 writes 1e20 in digits) and is one again.

    Raises AuditError when the bytes are not JSON.
    """
    try:
        return json.loads(data, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise AuditError(f"these bytes are not JSON: {error}") from error


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 16 or abs(float(digits)) <= _MAX_INT else float(digits)


def _encode(value: JsonValue, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise AuditError(f"{path[:80]} is nested deeper than {MAX_DEPTH} levels; record the digest of an artifact")
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        if abs(value) > _MAX_INT:
            raise AuditError(f"{path} is {value}; JSON numbers are exact up to 2^53 - 1 only: write it as a string")
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {FLOAT_KEY: _FLOAT_NAMES[str(value)]}
    if isinstance(value, Mapping):
        if FLOAT_KEY in value:
            raise AuditError(f"{path} has the key '{FLOAT_KEY}', which is kept for NaN and infinity: rename it")
        return {key: _encode(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    return [_encode(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {FLOAT_KEY}:
            return float(value[FLOAT_KEY])
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


_FLOAT_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
ALL_KINDS = cast("tuple[Kind, ...]", get_args(Kind))
