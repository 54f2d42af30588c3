"""What every task of every DAG puts on record beside its own work: it started, succeeded, failed, was skipped.

A policy appends these five functions to each task, so authors write nothing. They are the second channel, not the
record that counts: Airflow runs them after the state is sent, kills them after `[core] task_success_overtime`, and a
worker that is killed runs none. Steps put themselves on record before they succeed; for them only what happens outside
the operator's own code (a template that cannot be rendered, a skip) is added. While the log is down, events wait in the
spool. What nobody could write, the audit sweep adds as recovered.

An event has one id for each try and kind, and the first writer wins, so a callback that runs twice changes nothing.
"""

import logging
from typing import TYPE_CHECKING, Any

from airgate.errors import AirgateError

if TYPE_CHECKING:
    from airgate.audit.event import Actor, AuditEvent, Kind

log = logging.getLogger(__name__)
MESSAGE_LIMIT = 2000
# Seconds to wait for a log that is down: Airflow gives callbacks little time, and the DAG processor runs some of them too.
PATIENCE = 3.0


def on_execute(context: Any) -> None:
    """Record `task.started`; a step does so itself, with what it was asked. Secrets in the run's conf are masked from here on."""
    from airgate.runtime import record

    record.mask_conf(context)
    if not _is_step(context):
        _record(context, "task.started", {})


def on_success(context: Any) -> None:
    """Record `task.succeeded`; a step has done so before its success was sent."""
    if not _is_step(context):
        _record(context, "task.succeeded", {"state": "success"})


def on_failure(context: Any) -> None:
    """Record `task.failed` with the class and the text of the exception, masked and at most 2000 characters long."""
    _record(context, "task.failed", {"state": "failed", **_error(context)})


def on_retry(context: Any) -> None:
    """Record `task.retrying`, as `on_failure` does: this try failed and another will come."""
    _record(context, "task.retrying", {"state": "up_for_retry", **_error(context)})


def on_skipped(context: Any) -> None:
    """Record `task.skipped`: the task skipped itself. What the scheduler skips runs no callback; the sweep adds it."""
    _record(context, "task.skipped", {"state": "skipped"})


def _is_step(context: Any) -> bool:
    task = context["task"]
    if getattr(task, "plan", None) is None:  # most tasks: spare them the import
        return False
    from airgate.runtime.record import is_step

    return is_step(task)


def _record(context: Any, kind: "Kind", body: dict[str, Any]) -> None:
    """Append the event unless it is there. If the log fails, the task's log says at level ERROR what is missing."""
    from airgate.audit.delivery import NotRecorded

    ti = context["ti"]
    what = f"{kind} of {ti.dag_id}, run {ti.run_id}, task {ti.task_id}, try {ti.try_number}, map index {ti.map_index}"
    try:
        from airgate import settings
        from airgate.runtime import record

        patience = min(PATIENCE, settings.load().audit_patience)
        record.delivery(patience).append_if_absent(event_for(context, kind, body))
    except NotRecorded as error:
        log.error("Not in the audit log yet: %s. %s.", what, error)
    except AirgateError as error:
        log.error("Not in the audit log: %s. %s. The audit sweep adds what Airflow knows of it; until then the log is "
                  "incomplete.", what, error)


def event_for(context: Any, kind: "Kind", body: dict[str, Any]) -> "AuditEvent":
    """Make the event of a task try from Airflow's callback context.

    Raises ConfigError when the settings are wrong.
    """
    from airgate.contracts.model_spec import ModelSpec
    from airgate.runtime import record

    task = context["task"]
    spec = getattr(getattr(task, "plan", None) or task, "spec", None)
    return record.task_event(
        context["ti"], kind, "callback", _actor(context), {"operator": task.task_type, **body},
        model=spec.name if isinstance(spec, ModelSpec) else None,
    )


def _actor(context: Any) -> "Actor":
    """Who started the run. The DAG processor, which reports killed tasks, may not know the run."""
    from airgate.audit.event import Actor
    from airgate.runtime import record

    run = context.get("dag_run")
    return record.actor_of(run) if run is not None else Actor(kind="system", name="dag processor")


def _error(context: Any) -> dict[str, str]:
    error = context.get("exception")
    if error is None:
        return {}
    name = type(error).__name__ if isinstance(error, BaseException) else "str"
    return {"error": name, "message": masked(str(error))[:MESSAGE_LIMIT]}


def masked(text: str) -> str:
    """The text with every secret that Airflow knows in this process replaced by ***."""
    from airgate.runtime import record

    hidden = str(record.masked(text))
    return hidden.replace("\x00", "").encode("utf-8", "replace").decode()
