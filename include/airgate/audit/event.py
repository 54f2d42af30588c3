"""One audit event and its exact bytes: the contract of everything that is ever recorded (format version 2).

docs/audit-format.md describes the bytes for whoever wants to read or verify them without this code.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal, cast, get_args
from uuid import UUID, uuid5

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, JsonValue

from airgate import __version__
from airgate.audit import canonical_json
from airgate.contracts.base import Contract
from airgate.errors import AuditError

Kind = Literal[
    "task.started", "task.succeeded", "task.failed", "task.retrying", "task.skipped", "task.upstream_failed",
    "gate.verdict", "promotion.requested", "promotion.approved", "promotion.refused", "stage.moving", "stage.moved",
    "stage.reverted", "stage.reviewed", "model.signed", "registry.changed",
    "bundle.exported", "bundle.imported", "bundle.refused", "drift.verdict", "retraining.decided", "manual.change", "run.ended",
    "audit.alarm", "audit.key", "audit.hold", "audit.erased", "audit.expired",
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
    "stage.reverted": "a stage move that had begun was given up; the registry is as it was before",
    "stage.reviewed": "somebody else looked at a rollback, a demotion or an archiving afterwards",
    "model.signed": "a version was signed: its files, and the record it stands on (registration, promotion or move)",
    "registry.changed": "an alias, a tag or a version changed behind the promotion's back: before, after, remedy",
    "bundle.exported": "a version left for another installation, in one file",
    "bundle.imported": "a version came from another installation; every signature and proof of its file verified",
    "bundle.refused": "a bundle was offered and not taken, with the reason",
    "drift.verdict": "a window was compared with the reference data",
    "retraining.decided": "the governor decided whether a drift verdict leads to a training run",
    "manual.change": "a person changed a task's or run's state by hand; body.state is the new state",
    "run.ended": "a DAG run came to its end; who or what started it, and its state",
    "audit.alarm": "something contradicts the log or cannot be explained by it, or a checkpoint could not be anchored",
    "audit.key": "a key signs checkpoints from here on; body.replaces is the key before it",
    "audit.hold": "a subject came under legal hold, or was released from it",
    "audit.erased": "a subject's key was destroyed, or its erasure was refused",
    "audit.expired": "the contents of old events were dropped; their hashes stay",
}
ActorKind = Literal["user", "schedule", "asset", "backfill", "system", "outside"]
Source = Literal["operator", "callback", "listener", "api", "sweep", "cli"]

# Kinds of actor behind which stands a person, by name.
PEOPLE: tuple[ActorKind, ...] = ("user", "backfill", "outside")
MAX_EVENT_BYTES = 64 * 1024
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

    `personal` names the texts of `body` that are about a person, by path, and whom: {"approvers.0.user": "ana"}. They, and
    the name of an actor who is a person, are stored encrypted under that person's key; see `airgate.audit.subjects`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    schema_version: Literal[1, 2] = 2
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
    personal: dict[str, Name] = Field(default={}, exclude=True)


# Encrypts one text: (event id, path, subject, text) -> what stands in its place.
Seal = Callable[[UUID, str, str, str], Any]


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


def canonical(event: AuditEvent, seal: Seal | None = None) -> bytes:
    """Give the event's RFC 8785 bytes: every key present, times as `time_text`, NaN as {"$float": "NaN"}.

    With `seal`, personal texts are replaced by what it gives; these are the bytes of the log.
    Raises AuditError, naming the place, for an integer beyond 2^53 - 1, a reserved key, text that is not
    Unicode, nesting deeper than 64, a personal path without text, or more than 64 KiB.
    """
    body = canonical_json.encode(event.body, "body")
    actor: dict[str, Any] = {"kind": event.actor.kind, "name": event.actor.name}
    if seal is not None and event.schema_version > 1:  # format 1 sealed nothing
        if event.actor.kind in PEOPLE:
            actor["name"] = seal(event.event_id, "actor.name", event.actor.name, event.actor.name)
        for path, subject in event.personal.items():
            _seal_at(body.value, path, partial(seal, event.event_id, f"body.{path}", subject))
    code, task = event.code, event.task
    record = {
        "actor": actor, "body": body.value,
        "code": {"airgate": code.airgate, "commit": code.commit, "image": code.image},
        "event_id": str(event.event_id), "kind": event.kind, "model": event.model,
        "occurred_at": time_text(event.occurred_at), "recovered": event.recovered, "schema_version": event.schema_version,
        "source": event.source,
        "task": task and {"dag_id": task.dag_id, "map_index": task.map_index, "run_id": task.run_id,
                          "task_id": task.task_id, "try_number": task.try_number},
        "version": event.version,
    }
    try:
        data = canonical_json.write(record, plain=body.plain)
    except AuditError as error:
        raise AuditError(f"event {event.event_id} ({event.kind}) has {error}") from error
    if len(data) > MAX_EVENT_BYTES:
        raise AuditError(
            f"event {event.event_id} ({event.kind}) has {len(data)} bytes; at most {MAX_EVENT_BYTES} "
            "(64 KiB) are allowed. Store the large part as an artifact and record its digest"
        )
    return data


def parse(data: bytes) -> AuditEvent:
    """Read an event from its canonical bytes. Raises AuditError when they are not an event of format version 1 or 2."""
    return event_of(canonical_json.loads(data))


def event_of(record: Any, personal: dict[str, str] | None = None) -> AuditEvent:
    """Make an event of its decoded JSON, as `canonical_json.loads` gives it. Raises AuditError when it is not one."""
    try:
        fields = dict(record)
        fields["body"] = canonical_json.decode(fields["body"])
        return AuditEvent.model_validate(fields | {"personal": personal or {}})
    except (ValueError, TypeError, KeyError) as error:
        raise AuditError(f"this is not an audit event of format version 1 or 2: {error}") from error


def _seal_at(body: Any, path: str, seal: Callable[[str], Any]) -> None:
    """Replace the text at a path of keys and list positions."""
    *way, last = path.split(".")
    place = body
    for name in [*way, last]:
        parent, key = place, int(name) if isinstance(place, list) and name.isdigit() else name
        try:
            place = parent[key]
        except (LookupError, TypeError):
            raise AuditError(f"personal path '{path}' leads nowhere in the event's body") from None
    if not isinstance(place, str):
        raise AuditError(f"personal path '{path}' names {type(place).__name__}, not text")
    parent[key] = seal(place)


ALL_KINDS = cast("tuple[Kind, ...]", get_args(Kind))
