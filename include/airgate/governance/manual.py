"""A change that a person makes through Airflow's API: which requests are one, and the events that put it on record.

Three parts meet here. The middleware (`airgate.console.middleware`) opens a ManualRequest for each request that changes
something, and knows who asked. The listener (`airgate.governance.listener`) notes in it every task try and run whose
state Airflow changed for it. When Airflow has committed and answered with success, `events` makes the record:

- no effect noted (clearing, deleting, XComs, asset events, answers of approvers, pauses): one event for the request;
- one effect: one event, which says both what was asked and what became of it;
- several effects: one event for the request and one for each effect, tied together by `body.request_id`.

The event of a request says in `body.runs` which runs it may have touched; see `airgate.governance.touched`.

So nothing is recorded twice, and nothing that failed is recorded as done.
"""

import json
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airgate import redaction
from airgate.governance import touched

if TYPE_CHECKING:
    from airgate.audit.event import Actor, AuditEvent, Source

BODY_LIMIT = 8 * 1024

# DOTALL and the true end: an id may hold a line break, and must not hide a change.
_API = re.compile(r"(?:^|/)api/v2/(?P<rest>.+?)/?\Z", re.DOTALL)
_IDS = re.compile(
    r"^dags/(?P<dag_id>[^/]+)"
    r"(?:/dagRuns/(?P<run_id>[^/]+)(?:/taskInstances/(?P<task_id>[^/]+)(?:/(?P<map_index>-?\d+)(?=/|$))?)?)?")
_RUN, _TASK = r"dags/[^/]+/dagRuns", r"dags/[^/]+/dagRuns/[^/]+/taskInstances"
_NOTHING = ""
# What a request does, by method and path; the first that fits. `_NOTHING` asks for a new run, only looks, only tests.
# What fits none is 'other': a route of a later Airflow is seen, but its body, which may be secret, is not kept.
_CHANGES = [(methods.split(), re.compile(path), change) for methods, path, change in (
    ("PATCH", rf"{_TASK}/[^/]+/-?\d+/hitlDetails", "approval.answered"),
    ("POST PATCH DELETE", rf"{_TASK}/[^/]+/xcomEntries(/.+)?", "xcom.changed"),
    ("PUT PATCH DELETE", rf"{_TASK}/[^/]+/state-store(/.+)?", "task_state_store.changed"),
    ("POST", rf"{_TASK}/list|{_RUN}/list|{_RUN}", _NOTHING),
    ("PATCH", rf"{_TASK}/[^/]+(/-?\d+)?/dry_run|{_RUN}/[^/]+/taskGroupInstances/[^/]+/dry_run", _NOTHING),
    ("DELETE", rf"{_TASK}/[^/]+", "task.deleted"),
    ("PATCH", rf"{_TASK}/[^/]+(/-?\d+)?|{_RUN}/[^/]+/taskGroupInstances/[^/]+", "task.changed"),
    ("PATCH", _TASK, "tasks.changed"),
    ("POST", r"dags/[^/]+/clearTaskInstances", "task.cleared"),
    ("POST", rf"{_RUN}/[^/]+/clear|dags/[^/]+/clear(DagRuns|Partitions)", "run.cleared"),
    ("DELETE", rf"{_RUN}/[^/]+", "run.deleted"),
    ("PATCH", rf"{_RUN}/[^/]+", "run.changed"),
    ("PATCH", _RUN, "runs.changed"),
    ("POST", r"assets/events", "asset.event"),
    ("POST", r"assets/\d+/materialize", _NOTHING),
    ("PUT PATCH DELETE", r"assets/.+|dags/[^/]+/assets/.+", "asset.changed"),
    ("POST", r"dags/[^/]+/(un)?favorite", _NOTHING),
    ("DELETE", r"dags/[^/]+", "dag.deleted"),
    ("PATCH", r"dags(/[^/]+)?", "dag.changed"),
    ("POST", r"backfills/dry_run", _NOTHING),
    ("POST PUT", r"backfills(/.+)?", "backfill.changed"),
    ("PUT", r"parseDagFile/.+", _NOTHING),
    ("POST", r"connections/(test|enqueue-test|defaults)", _NOTHING),
)]
_PREVIEWED = ("task.cleared", "run.cleared")
_NAMED_BY_PATH = ("xcom.changed", "task_state_store.changed")
_PERSONAL = ("user_id", "request")
# Recorded themselves in any case: they may clear or delete too, and no listener tells of that.
_SEVERAL = ("tasks.changed", "runs.changed", "task.cleared", "run.cleared", "backfill.changed")


@dataclass(frozen=True)
class Effect:
    """One state that Airflow changed for a request. `task_id` is None for a whole run; `state` is Airflow's word."""

    dag_id: str
    run_id: str
    state: str
    task_id: str | None = None
    map_index: int = -1
    try_number: int = 0


@dataclass
class ManualRequest:
    """A request under way. `change` says what it does; the ids are those that its path names."""

    method: str
    path: str
    change: str
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int = -1
    effects: list[Effect] = field(default_factory=list)
    request_id: str = field(default_factory=lambda: str(uuid4()))


current: ContextVar[ManualRequest | None] = ContextVar("airgate_manual_request", default=None)


def classify(method: str, path: str) -> ManualRequest | None:
    """Give the change that a request asks for, None for one that changes nothing on record.

    `path` is the decoded path of the URL, with or without the address prefix of the installation.
    """
    match = _API.search(path)
    if method not in ("POST", "PUT", "PATCH", "DELETE") or match is None:
        return None
    rest = match["rest"]
    fitting = (change for methods, pattern, change in _CHANGES if method in methods and pattern.fullmatch(rest))
    change = next(fitting, "other")
    if change == _NOTHING:
        return None
    ids = _IDS.match(rest)
    found = {name: text for name, text in (ids.groupdict() if ids else {}).items() if text and text != "~"}
    return ManualRequest(method, path, change, found.get("dag_id"), found.get("run_id"), found.get("task_id"),
                         int(found.get("map_index", -1)))


def is_preview(request: ManualRequest, body: Any) -> bool:
    """Whether Airflow only computed what a clearing would do. What is not a plain `true` it may have read as false."""
    return request.change in _PREVIEWED and isinstance(body, dict) and body.get("dry_run", True) is True


def masked(request: ManualRequest, body: Any) -> Any:
    """Give the body of a request with *** for what looks like a secret.

    The name of a single value that is set may be the last word of the path: PATCH .../xcomEntries/api_token.
    """
    name = request.path.rstrip("/").rpartition("/")[2] if request.change in _NAMED_BY_PATH else ""
    return redaction.masked(body, name)


def events(request: ManualRequest, actor: "Actor", user_id: str, body: Any,
           mask: Callable[[Any], Any] = lambda body: body) -> list["AuditEvent"]:
    """Make the `manual.change` events of a request that succeeded.

    `body` is the decoded JSON, or text where it is none; `mask` hides its secrets. It is kept as text, at most 8 KiB of it:
    JSON that no event can hold must not keep a change off the record. The runs that it names are read from it as it came: a
    run whose id looks like a secret is touched all the same. An event's `body.state` is the new state, None where there
    is none. A request's own event has try number 0: a request names no try.

    The user's id and what the user wrote are the user's: sealed in the log under the key of the actor.
    """
    kept = mask(body)
    about: dict[str, Any] = {"change": request.change, "method": request.method, "path": redaction.redact(request.path)[:1000],
                             "user_id": user_id, "request_id": request.request_id}
    asked = about | {"request": None if request.change == "other" else _text(kept)}
    if len(request.effects) == 1 and request.change not in _SEVERAL:
        return [_event(request, request.effects[0], actor, "listener", asked)]
    runs = touched.runs_of(request.change, request.dag_id, request.run_id, body)
    said = kept if isinstance(kept, dict) else {}
    state = _short(said.get("new_state") or said.get("state"))
    run_id = request.run_id or _short(said.get("dag_run_id"))  # clearing tasks names its run in the body
    named = Effect(request.dag_id or "", run_id, state, request.task_id, request.map_index)
    return [_event(request, named, actor, "api", asked | ({"runs": list(map(list, runs))} if runs else {})),
            *(_event(request, effect, actor, "listener", about) for effect in request.effects)]


def _event(
    request: ManualRequest, effect: Effect, actor: "Actor", source: "Source", body: dict[str, Any]
) -> "AuditEvent":
    from airgate.audit.event import AuditEvent, CodeRef, TaskRef, event_id_of
    from airgate.settings import load

    task = None
    if effect.task_id and effect.run_id:
        task = TaskRef(dag_id=effect.dag_id, run_id=effect.run_id, task_id=effect.task_id,
                       map_index=max(-1, effect.map_index), try_number=max(0, effect.try_number))
    what = (source, effect.dag_id, effect.run_id, effect.task_id or "", effect.map_index, effect.state)
    return AuditEvent(
        event_id=event_id_of("manual.change", request.request_id, *what), kind="manual.change",
        occurred_at=datetime.now(UTC), actor=actor, task=task, source=source, code=CodeRef(commit=load().code_version),
        body={**body, "state": effect.state or None, "dag_id": effect.dag_id or None, "run_id": effect.run_id or None},
        personal={name: actor.name for name in _PERSONAL if isinstance(body.get(name), str)})


def _short(value: Any) -> str:
    return value[:250] if isinstance(value, str) else ""


def _text(body: Any) -> str | None:
    text = json.dumps(body) if body is not None else None  # ASCII: no character can trouble a reader
    return text if text is None or len(text) <= BODY_LIMIT else text[:BODY_LIMIT] + " ..."
