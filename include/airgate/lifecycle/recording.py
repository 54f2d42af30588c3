"""How the light tasks read and write the audit log. A decision is written once: a repeated task meets what it decided before."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airgate import redaction
from airgate.audit.event import Actor, AuditEvent, Kind, event_id_of
from airgate.contracts import digests
from airgate.contracts.promotion import Approval
from airgate.contracts.step import ArtifactRef
from airgate.encryption import at_rest
from airgate.errors import ArtifactError
from airgate.governance import touched
from airgate.runtime import record as step_record

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore


def store() -> "AuditStore":
    """The installation's audit log, waited for while it is down. No spool: a decision that cannot be recorded is not made."""
    return step_record.patient_store()


def record(context: Any, kind: Kind, model: str, version: str | None, body: dict[str, Any], *, once: Sequence[str],
           actor: Actor | None = None, personal: dict[str, str] | None = None) -> AuditEvent:
    """Append a decision of this task and give the event, or give the one that an earlier try of it appended.

    `once` tells apart several decisions of one kind in one task. `actor` is who decided, if not who started the run.
    `personal` names the texts of `body` that are about a person, and whom; see AuditEvent.
    """
    author = by(context, actor)
    task = author["task"]
    event_id = event_id_of(task.dag_id, task.run_id, task.task_id, task.map_index, kind, *once)
    log = store()
    earlier = log.get(event_id)
    if earlier is not None:
        return earlier.event
    event = AuditEvent(
        event_id=event_id, kind=kind, occurred_at=datetime.now(UTC), model=model, version=version, **author,
        body=redaction.masked(body), personal=personal or {},
    )
    log.append(event)
    return event


def by(context: Any, actor: Actor | None = None) -> dict[str, Any]:
    """The fields of an event that say who wrote it: `actor`, if not who started the run, by which task try, with which code."""
    ti = context["ti"]
    return {"actor": actor or actor_of(context), "source": "operator", "task": step_record.task_of(ti),
            "code": step_record.code_of(ti)}


def triggers(context: Any) -> list[Any]:
    """The asset events that started this run, as Airflow gives them, oldest first; empty when it was started by hand."""
    events = context.get("triggering_asset_events") or {}
    return sorted((event for asset in events for event in events[asset]), key=lambda event: event.timestamp)


def payloads(context: Any) -> list[dict[str, Any]]:
    """Extras of the asset events that started this run, oldest first; empty when it was started by hand."""
    return [dict(event.extra or {}) for event in triggers(context)]


def emit(context: Any, outlets: Sequence[Any], payload: dict[str, Any]) -> None:
    """Let the task's asset events carry the payload."""
    for asset in outlets:
        context["outlet_events"][asset].extra = payload


def newest(kind: Kind, model: str, run_id: str | None = None) -> AuditEvent | None:
    """The newest event of a kind for a model, optionally from one DAG run."""
    found = store().events(kind=kind, model=model, run_id=run_id, newest_first=True, limit=1)
    return found[0].event if found else None


def newest_success(dag_id: str, task_id: str, run_id: str | None = None) -> AuditEvent | None:
    """The newest success that a step's own operator recorded; a success set by hand leaves no such event."""
    found = store().events(kind="task.succeeded", dag_id=dag_id, task_id=task_id, run_id=run_id, newest_first=True)
    return next((item.event for item in found if item.event.source == "operator"), None)


def first_start(dag_id: str, task_id: str, run_id: str) -> AuditEvent | None:
    """The first start of a step in a run, as its own operator recorded it."""
    found = store().events(kind="task.started", dag_id=dag_id, task_id=task_id, run_id=run_id)
    return next((item.event for item in found if item.event.source == "operator"), None)


def history(kind: Kind, model: str) -> list[AuditEvent]:
    """All events of a kind for a model, oldest first."""
    return [item.event for item in store().events(kind=kind, model=model)]


def actors(dag_id: str, run_id: str) -> list[Actor]:
    """Whoever did something in a DAG run: started it, marked, cleared or deleted a task or the whole of it.

    Events of a task name the run. What was done to whole runs, or to several, is found by the bodies of what people changed
    since the run's first event.
    """
    log = store()
    own = log.events(dag_id=dag_id, run_id=run_id)
    by_hand = log.events(kind="manual.change", after=own[0].seq) if own else []
    also = [item for item in by_hand if touched.may_have_touched(item.event.body, dag_id, run_id)]
    return [item.event.actor for item in (*own, *also)]


def posters(since: datetime, until: datetime | None = None, *, after: AuditEvent | None = None) -> list[Actor]:
    """Whoever posted an asset event by hand between two moments, both included.

    `after` is an event that the log had before; it makes the search shorter.
    """
    log = store()
    known = log.get(after.event_id) if after else None
    found = log.events(kind="manual.change", after=known.seq if known else None)
    return [item.event.actor for item in found if item.event.body.get("change") == "asset.event"
            and since <= item.event.occurred_at and (until is None or item.event.occurred_at <= until)]


def began(dag_id: str, run_id: str) -> datetime | None:
    """When the first thing on record happened in a DAG run, None where there is nothing."""
    found = store().events(dag_id=dag_id, run_id=run_id, limit=1)
    return found[0].event.occurred_at if found else None


def approvals(model: str, run_id: str) -> list[Approval]:
    """The approvals that a promotion run has on record."""
    found = store().events(kind="promotion.approved", model=model, run_id=run_id)
    return [Approval.model_validate(item.event.body) for item in found]


def by_id(event_id: str) -> AuditEvent | None:
    """One event, None when the log does not have it or the text is no event id."""
    try:
        wanted = UUID(event_id)
    except ValueError:
        return None
    found = store().get(wanted)
    return found.event if found else None


def output_ref(event: AuditEvent) -> ArtifactRef:
    """Where a step's output lies, by its success event."""
    return ArtifactRef.model_validate(event.body.get("output"))


def output_of(event: AuditEvent) -> Any:
    """The JSON value a step gave, read by the reference in its success event. Raises ArtifactError on other bytes."""
    ref = output_ref(event)
    raw = at_rest.read_bytes(ref.uri)
    found = digests.of_bytes(raw)
    if found != ref.digest:
        raise ArtifactError(f"{ref.uri} has digest {found}, the audit log says {ref.digest}: the file was changed. "
                            "Run the step again.")
    return json.loads(raw)


def actor_of(context: Any) -> Actor:
    """Who or what started this DAG run."""
    return step_record.actor_of(context["dag_run"])


def actor_text(actor: Actor) -> str:
    """An actor in one word: 'user:mia', 'schedule:diagnosis_classifier_training'."""
    return f"{actor.kind}:{actor.name}"


def code_version(context: Any) -> str:
    """Commit of the DAG bundle, or what the installation names."""
    return step_record.code_of(context["ti"]).commit
