"""Airflow's listener hooks in the API server: which task tries and runs a request really changed.

The middleware registers this module, so it lives in the API server alone. Nowhere else is it wanted: a listener in
the scheduler can stop it, and Airflow refuses operators with `end_from_trigger` wherever a listener is registered. The
hooks fire inside the request's transaction, which may yet be rolled back; therefore they write nothing and only note
what they see in the request that is under way. Outside one (the execution API, a killed task) they do nothing.

Airflow calls them when somebody sets success, failed or skipped, for a task, a group, a whole run. It calls none when
somebody clears, deletes, or sets another state; the request itself is then the record.
"""

from typing import Any

from airflow.listeners import hookimpl

from airgate.governance.manual import Effect, current


@hookimpl  # type: ignore[untyped-decorator]
def on_task_instance_success(task_instance: Any) -> None:
    """Note a task that was marked success."""
    _note_task(task_instance, "success")


@hookimpl  # type: ignore[untyped-decorator]
def on_task_instance_failed(task_instance: Any) -> None:
    """Note a task that was marked failed."""
    _note_task(task_instance, "failed")


@hookimpl  # type: ignore[untyped-decorator]
def on_task_instance_skipped(task_instance: Any) -> None:
    """Note a task that was marked skipped."""
    _note_task(task_instance, "skipped")


@hookimpl  # type: ignore[untyped-decorator]
def on_dag_run_success(dag_run: Any) -> None:
    """Note a run that was marked success."""
    _note_run(dag_run, "success")


@hookimpl  # type: ignore[untyped-decorator]
def on_dag_run_failed(dag_run: Any) -> None:
    """Note a run that was marked failed."""
    _note_run(dag_run, "failed")


def _note_task(ti: Any, state: str) -> None:
    request = current.get()
    if request is not None:
        map_index = -1 if ti.map_index is None else ti.map_index
        request.effects.append(Effect(ti.dag_id, ti.run_id, state, ti.task_id, map_index, ti.try_number))


def _note_run(run: Any, state: str) -> None:
    request = current.get()
    if request is not None:
        request.effects.append(Effect(run.dag_id, run.run_id, state))
