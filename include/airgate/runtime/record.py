"""What is put on record about a task try: events made from what Airflow knows of it, and the store they go to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from airgate import redaction, settings
from airgate.audit import runs
from airgate.audit.delivery import Delivery
from airgate.audit.event import Actor, AuditEvent, CodeRef, Kind, Source, TaskRef
from airgate.audit.event import task_event as new_event
from airgate.audit.spool import DrainReport, Spool
from airgate.contracts import digests
from airgate.contracts.step import ArtifactRef, StepCall, StepFailure, StepResult

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore
    from airgate.runtime.plan import StepPlan

# An event holds 64 KiB at most. These parts are the ones whose size an author decides.
PART_LIMIT = 12 * 1024
MESSAGE_LIMIT = 8 * 1024


class TaskTry(Protocol):
    """What Airflow says of a task try, in a task, a callback or a listener."""

    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    map_index: int | None


def store(patience: float = 0.0) -> AuditStore:
    """Open the installation's audit store (AIRGATE_AUDIT_URL), for readers and for decisions.

    `patience` (seconds) is how long a database that is down is asked again. Raises ConfigError when the URL cannot serve.
    """
    from airgate.audit.store import AuditStore  # SQLAlchemy, which a DAG that is only parsed does not need

    return AuditStore(settings.load().audit_url, patience=patience)


def patient_store() -> AuditStore:
    """The same for tasks, which can wait for the database: AIRGATE_AUDIT_PATIENCE."""
    return store(settings.load().audit_patience)


def delivery(patience: float | None = None) -> Delivery:
    """The way to the log for what happened, decisions aside: when the log is down, it waits in this machine's spool.

    `patience` (seconds) is AIRGATE_AUDIT_PATIENCE unless given; a lock or a connection is then waited for no longer either.
    """
    now = settings.load()
    if patience is None:
        return Delivery(now.audit_url, now.audit_spool, now.audit_patience)
    return Delivery(now.audit_url, now.audit_spool, patience, timeout=min(10.0, max(1.0, patience)))


def drain() -> DrainReport:
    """Record what waits in this machine's spool. Raises AuditError when the folder, ConfigError when the URL cannot serve."""
    return Spool(settings.load().audit_spool).drain(store())


def task_event(ti: TaskTry, kind: Kind, source: Source, actor: Actor, body: dict[str, Any], *,
               code: CodeRef | None = None, **fields: Any) -> AuditEvent:
    """Make the event of this kind for a task try. A try has one event of a kind, whoever writes it first.

    `fields` are further fields of AuditEvent: model, version, recovered, occurred_at.
    """
    version = getattr(ti, "dag_version_id", None)
    body = {**body, "dag_version": str(version)} if version else body
    return new_event(kind, task_of(ti), actor=actor, source=source, code=code or code_of(ti), body=body, **fields)


def task_of(ti: TaskTry) -> TaskRef:
    """The task try as events name it."""
    return TaskRef(dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, try_number=max(0, ti.try_number),
                   map_index=-1 if ti.map_index is None else ti.map_index)


def is_step(task: Any) -> bool:
    """Tell whether a task puts itself on record, so that callbacks leave its starts, successes and failures alone."""
    from airgate.runtime.operator import StepTask

    return isinstance(task, StepTask)


def actor_of(run: Any) -> Actor:
    """Who or what started a DAG run (`dag_run` of a context): for a run by hand the user, else what made it start."""
    assets = [event.asset.name for event in getattr(run, "consumed_asset_events", None) or []]
    kind = str(getattr(run.run_type, "value", run.run_type))
    return runs.actor_of(run.dag_id, kind, getattr(run, "triggering_user_name", None), assets, str(getattr(run, "run_id", "")))


def actor_text(actor: Actor) -> str:
    """The actor as a RunContext names it: 'user:ana', 'schedule', 'asset', 'backfill'."""
    return f"user:{actor.name}" if actor.kind == "user" else actor.kind


def code_of(ti: Any, image: str = "local") -> CodeRef:
    """Which code a task try runs: the commit of its DAG bundle, else AIRGATE_CODE_VERSION."""
    version = getattr(getattr(ti, "bundle_instance", None), "version", None)
    return CodeRef(commit=str(version) if version else settings.load().code_version, image=image)


def started_body(plan: StepPlan, call: StepCall, runtime: str) -> dict[str, Any]:
    """What was asked for. `gates_hash` shows that the thresholds stood before the step ran."""
    spec = call.spec
    return {
        "function": call.function,
        "runtime": runtime,
        "inputs": {name: ref.digest for name, ref in call.inputs.items()} | {
            name: bounded([ref.digest for ref in refs]) for name, refs in call.gathered.items()},
        "parameters": bounded(masked(call.parameters)),
        "window": call.run.window and call.run.window.model_dump(mode="json"),
        "gates_hash": spec and spec.gates.fingerprint(),
        "spec_hash": spec and fingerprint(spec.model_dump(mode="json")),
        "resources": plan.resources.model_dump(mode="json"),
        "call_try": call.run.try_number,
    }


def succeeded_body(plan: StepPlan, call: StepCall, result: StepResult, runtime: str) -> dict[str, Any]:
    """What was asked for and what came of it; digests, never the values."""
    return started_body(plan, call, runtime) | {
        "output": result.output and _reference(result.output),
        "attachments": bounded({name: ref.digest for name, ref in result.attachments.items()}),
        "metrics": bounded(dict(result.metrics)),
        "facts": bounded(dict(result.facts)),
        "environment": bounded(dict(result.environment)),
        "seconds": dict(result.seconds),
        "mlflow_run_id": result.mlflow_run_id,
        "emits": plan.emits.name if plan.emits is not None else None,
    }


def failed_body(plan: StepPlan, failure: StepFailure, ended: str, call: StepCall | None,
                runtime: str) -> dict[str, Any]:
    """Why a try failed. `ended` is how its process or pod ended; `call` is None when it was never asked."""
    asked: dict[str, Any] = {"function": plan.function, "runtime": runtime}
    if call is not None:
        asked = started_body(plan, call, runtime)
    message = str(masked(failure.message)).encode("utf-8", "replace").decode()  # a lone surrogate has no canonical form
    return asked | {
        "error": failure.error, "message": message[:MESSAGE_LIMIT], "retryable": failure.retryable, "ended": ended}


def masked(value: Any) -> Any:
    """Hide what Airflow knows to be secret, such as the passwords of connections that were read, and what looks like it."""
    from airflow.sdk._shared.secrets_masker import redact  # of the task process; it has no public name

    return redaction.masked(redact(value))


def mask_conf(context: Any) -> None:
    """Tell Airflow's masker, here and in the supervisor, the texts in a run's conf and params that look like secrets.

    From then on the task's log and rendered fields show *** for it, wherever it turns up.
    """
    from airflow.sdk.log import mask_secret

    conf = getattr(context.get("dag_run"), "conf", None) or {}
    secrets = redaction.secrets_of({**dict(context.get("params") or {}), **conf})
    if secrets:
        mask_secret(secrets)


def known_secret(value: Any) -> bool:
    """Whether a text in a JSON value holds a secret that Airflow knows, whatever its name."""
    from airflow.sdk._shared.secrets_masker import redact  # as above

    if isinstance(value, str):
        return bool(redact(value) != value)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(map(known_secret, inside))


def version_of(result: StepResult) -> str | None:
    """The model version that a step's value is about, where it names one (registering, scoring)."""
    value = result.value
    version = value.get("version") if isinstance(value, dict) and "model" in value else None
    return version if isinstance(version, str) and version else None


def bounded(value: Any) -> Any:
    """Give a JSON value, or its digest and size when it is too long for an event."""
    size = len(json.dumps(value, ensure_ascii=False).encode())
    return value if size <= PART_LIMIT else {"digest": fingerprint(value), "bytes": size}


def fingerprint(value: Any) -> str:
    """SHA-256 over a JSON value's text with sorted keys and no spaces, as 'sha256:...'."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digests.of_bytes(text.encode("utf-8", "replace"))


def _reference(ref: ArtifactRef) -> dict[str, Any]:
    return ref.model_dump(mode="json", include={"digest", "kind", "size", "uri"})
