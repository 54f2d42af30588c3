"""Drive a running Airflow as one of its users: trigger, wait, follow what a run set off, answer, and read why it failed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from airgate.airflow_api import AirflowApi, task_path
from airgate.errors import StepError

SETTLE = timedelta(seconds=2)
POLL = 0.5
ENDED = ("success", "failed")
# States of a task that nothing follows without a person or a new try.
TASK_ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")


@dataclass(frozen=True)
class Run:
    """One DAG run, by its ids."""

    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """The API's path of it."""
        return f"dags/{quote(self.dag_id, safe='')}/dagRuns/{quote(self.run_id, safe='')}"


@dataclass(frozen=True)
class Leg:
    """A run that was waited for: its end state, and how long it took from queued to end in seconds."""

    run: Run
    state: str
    seconds: float
    tasks: dict[str, str]


@dataclass(frozen=True)
class Question:
    """A human-in-the-loop task that waits for an answer, and the user names that may give it."""

    run: Run
    task_id: str
    people: tuple[str, ...]


def exists(api: AirflowApi, dag_id: str) -> bool:
    """True when Airflow knows the DAG."""
    try:
        api.get(f"dags/{quote(dag_id, safe='')}")
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return False
        raise
    return True


def wait_for_dags(api: AirflowApi, dag_ids: list[str], patience: float = 120.0) -> None:
    """Return when Airflow has parsed them all. Raises StepError with Airflow's import errors when it has not in time."""
    deadline = time.monotonic() + patience
    while missing := [dag_id for dag_id in dag_ids if not exists(api, dag_id)]:
        if time.monotonic() > deadline:
            errors = "\n".join(f"{error['filename']}:\n{error['stack_trace']}"
                               for error in api.get("importErrors")["import_errors"])
            raise StepError(f"Airflow has not loaded {', '.join(missing)} after {patience:.0f} s.\n"
                            f"{errors or 'It reports no import errors; see `make logs`.'}")
        time.sleep(POLL)


def unpause(api: AirflowApi, dag_ids: list[str]) -> None:
    """Let their runs be scheduled."""
    for dag_id in dag_ids:
        api.patch(f"dags/{quote(dag_id, safe='')}", {"is_paused": False})


def trigger(api: AirflowApi, dag_id: str, conf: dict[str, Any]) -> Run:
    """Start a run as the session's user."""
    answer = api.post(f"dags/{quote(dag_id, safe='')}/dagRuns", {"logical_date": None, "conf": conf})
    return Run(dag_id, answer["dag_run_id"])


def wait(api: AirflowApi, run: Run, on_task: Callable[[str, str, float], None]) -> Leg:
    """Wait for the run's end; `on_task` is called once for each task that ended, with its id, state and seconds.

    Raises StepError, with the failed tasks and the ends of their logs, when the run fails.
    """
    told: set[str] = set()
    while True:
        state = api.get(run.path)
        tasks = list(_tasks(api, run))
        for task in tasks:
            if task["state"] in TASK_ENDED and task["task_id"] not in told:
                told.add(task["task_id"])
                on_task(task["task_id"], task["state"], float(task["duration"] or 0.0))
        if state["state"] == "failed":
            raise StepError(explain_failure(api, run))
        if state["state"] == "success":
            return Leg(run, state["state"], float(state["duration"] or 0.0),
                       {task["task_id"]: task["state"] for task in tasks})
        time.sleep(POLL)


def wait_started(api: AirflowApi, run: Run, patience: float = 120.0) -> None:
    """Return once the run exists, for runs that another run starts under a name known before. Raises StepError."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            api.get(run.path)
            return
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
        time.sleep(POLL)
    raise StepError(f"no run {run.run_id} of {run.dag_id} began within {patience:.0f} s.")


def asset_event(api: AirflowApi, run: Run) -> dict[str, Any] | None:
    """The newest asset event that the run emitted, or None."""
    answer = api.get("assets/events", source_dag_id=run.dag_id, source_run_id=run.run_id, order_by="-timestamp")
    return answer["asset_events"][0] if answer["asset_events"] else None


def set_off(api: AirflowApi, run: Run, dag_id: str, meanwhile: Callable[[], object] = lambda: None,
            patience: float = 120.0) -> Run:
    """The run of `dag_id` that this run's asset event started; `meanwhile` is called each time we look for it.

    Raises StepError when none begins in `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        meanwhile()
        event = asset_event(api, run)
        for created in (event or {}).get("created_dagruns", []):
            if created["dag_id"] == dag_id:
                return Run(dag_id, created["run_id"])
        time.sleep(POLL)
    raise StepError(f"{run.dag_id} ended well, but its asset event started no run of {dag_id} within {patience:.0f} s. "
                    "Is that DAG paused?")


def questions(api: AirflowApi, dag_id: str) -> list[Question]:
    """The human-in-the-loop tasks of all runs of the DAG that wait for an answer.

    Only those asked a moment ago at least: when an answer comes within a second, Airflow may take the task's ended process
    for a failure of the task that it has just queued again. The promotion reads the answer all the same.
    """
    found, asked_before = [], datetime.now(UTC) - SETTLE
    for detail in api.get(Run(dag_id, "~").path + "/hitlDetails", response_received=False)["hitl_details"]:
        task = detail["task_instance"]
        if task["state"] in ("awaiting_input", "deferred") and datetime.fromisoformat(detail["created_at"]) < asked_before:
            people = tuple(user["id"] for user in detail["assigned_users"])
            found.append(Question(Run(dag_id, task["dag_run_id"]), task["task_id"], people))
    return found


def answer(api: AirflowApi, question: Question, option: str, reason: str) -> None:
    """Answer as the session's user."""
    path = task_path(question.run.dag_id, question.run.run_id, question.task_id)
    api.patch(f"{path}/-1/hitlDetails", {"chosen_options": [option], "params_input": {"reason": reason}})


def xcom(api: AirflowApi, run: Run, task_id: str) -> Any:
    """What a task returned, for show: an XCom can be set by hand, so nothing may be decided by it. None if there is none."""
    try:
        path = task_path(run.dag_id, run.run_id, task_id)
        return api.get(f"{path}/xcomEntries/return_value", deserialize=False, stringify=False)["value"]
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return None
        raise


def explain_failure(api: AirflowApi, run: Run) -> str:
    """Which tasks failed, and the end of each one's log."""
    parts = [f"{run.dag_id} failed (run {run.run_id})."]
    for task in _tasks(api, run):
        if task["state"] == "failed":
            log = "\n".join(f"  | {line}" for line in _log_tail(api, run, task))
            parts.append(f"Task '{task['task_id']}', try {task['try_number']}:\n{log}")
    return "\n".join(parts)


def _tasks(api: AirflowApi, run: Run) -> Iterator[dict[str, Any]]:
    yield from sorted(api.get(f"{run.path}/taskInstances", limit=100)["task_instances"],
                      key=lambda task: task["end_date"] or "9")


def _log_tail(api: AirflowApi, run: Run, task: dict[str, Any], count: int = 20) -> list[str]:
    path = task_path(run.dag_id, run.run_id, task["task_id"])
    try:
        content = api.get(f"{path}/logs/{max(1, task['try_number'])}", map_index=task["map_index"], full_content=True)["content"]
    except httpx.HTTPStatusError as error:
        return [f"(its log cannot be read: {error.response.status_code})"]
    lines = []
    for entry in content:
        if not isinstance(entry, dict):
            lines.append(str(entry))
            continue
        lines += str(entry.get("event", "")).splitlines()
        for detail in entry.get("error_detail") or []:
            lines.append(f"{detail.get('exc_type')}: {detail.get('exc_value')}")
    return lines[-count:]
