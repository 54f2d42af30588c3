"""How the light tasks read and write the audit log. A decision is written once: a repeated task meets what it decided before."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airgate.audit.event import AuditEvent, event_id_of
from airgate.audit.store import AuditStore
from airgate.contracts import calls
from airgate.contracts.step import ArtifactRef
from airgate.errors import ArtifactError
from airgate.runtime import record as step_record


def store() -> AuditStore:
    """The installation's audit log."""
    return step_record.store()


def record(context: Any, kind: str, model: str, version: str | None, body: dict[str, Any], *, once: Sequence[str],
           actor: str | None = None) -> AuditEvent:
    """Append a decision of this task and give the event, or give the one that an earlier try of it appended.

    `once` tells apart several decisions of one kind in one task. `actor` is who decided, if not who started the run.
    """
    ti = context["ti"]
    event_id = event_id_of(ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), kind, *once)
    log = store()
    earlier = log.get(event_id)
    if earlier is not None:
        return earlier.event
    event = step_record.decision_event(context, event_id=event_id, kind=kind, model=model, version=version, body=body, actor=actor)
    log.append(event)
    return event


def payloads(context: Any) -> list[dict[str, Any]]:
    """Extras of the asset events that started this run, oldest first; empty when it was started by hand."""
    events = context.get("triggering_asset_events") or {}
    found = [event for asset in events for event in events[asset]]
    found.sort(key=lambda event: event.timestamp or datetime.min.replace(tzinfo=UTC))
    return [dict(event.extra or {}) for event in found]


def emit(context: Any, outlets: Sequence[Any], payload: dict[str, Any]) -> None:
    """Let the task's asset events carry the payload."""
    for asset in outlets:
        context["outlet_events"][asset].extra = payload


def newest(kind: str, model: str, run_id: str | None = None) -> AuditEvent | None:
    """The newest event of a kind for a model, optionally from one DAG run."""
    found = store().events(kind=kind, model=model, run_id=run_id, newest_first=True, limit=1)
    return found[0].event if found else None


def newest_success(dag_id: str, task_id: str, run_id: str | None = None) -> AuditEvent | None:
    """The newest success that a step's own operator recorded; a success set by hand leaves no such event."""
    found = store().events(kind="task.succeeded", dag_id=dag_id, task_id=task_id, run_id=run_id, newest_first=True)
    return next((item.event for item in found if item.event.source == "operator"), None)


def history(kind: str, model: str) -> list[AuditEvent]:
    """All events of a kind for a model, oldest first."""
    return [item.event for item in store().events(kind=kind, model=model)]


def by_id(event_id: str) -> AuditEvent | None:
    """One event, None when the log does not have it or the text is no event id."""
    from uuid import UUID

    try:
        wanted = UUID(event_id)
    except ValueError:
        return None
    found = store().get(wanted)
    return found.event if found else None


def output_of(event: AuditEvent) -> Any:
    """The JSON value a step gave, read by the reference in its success event. Raises ArtifactError on other bytes."""
    ref = ArtifactRef.model_validate(event.body["output"])
    raw = calls.read_bytes(ref.uri)
    found = "sha256:" + hashlib.sha256(raw).hexdigest()
    if found != ref.digest:
        raise ArtifactError(f"{ref.uri} has digest {found}, the audit log says {ref.digest}: the file was changed. "
                            "Run the step again.")
    return json.loads(raw)


def actor_text(actor: Any) -> str:
    """'user:ana' for a person, otherwise the kind of thing that acted, with its name."""
    return f"{actor.kind}:{actor.name}" if actor.name else str(actor.kind)


def actor_of(context: Any) -> str:
    """Who started this DAG run."""
    return step_record.actor_of(context["dag_run"])


def code_version(context: Any) -> str:
    """Commit of the DAG bundle, or what the installation names."""
    return step_record.code_version(context)
