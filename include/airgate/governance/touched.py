"""Which runs a change by hand may have touched. Whoever touched the run that a version comes from has a hand in that version.

Marking a task leaves an event that names it. Clearing does not: a clearing names a run, several, or none at all (all between
two dates), and Airflow tells no listener what became of it. What a request leaves open, it is taken to have touched.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# A run as (DAG id, run id); None stands for any.
Run = tuple[str | None, str | None]

OF_RUNS = frozenset({"task.changed", "tasks.changed", "task.cleared", "task.deleted", "run.changed", "runs.changed",
                     "run.cleared", "run.deleted", "xcom.changed", "task_state_store.changed"})
BACKFILL = "backfill.changed"  # may run what ran before again
MOST = 50  # runs that an event names; a request for more is taken for one that named only their DAGs
_HELD = re.compile(r"[^\x00\ud800-\udfff]{1,250}", re.DOTALL)


def runs_of(change: str, dag_id: str | None, run_id: str | None, body: Any) -> list[Run]:
    """The runs that a request may have touched; none for a change of something else.

    `dag_id` and `run_id` are those of its path. `body` is its decoded JSON, None without one, text where it could not be read.
    """
    if change == BACKFILL:
        return [] if body is None else [(_id(body.get("dag_id")) if isinstance(body, dict) else None, None)]
    if change not in OF_RUNS:
        return []
    if body is not None and not isinstance(body, dict):
        return [(dag_id, None)]
    return _few(dict.fromkeys(_named(change, dag_id, run_id, body or {})))


def may_have_touched(event_body: Mapping[str, Any], dag_id: str, run_id: str) -> bool:
    """Whether a `manual.change` with this body may have touched a run that was there before it."""
    runs = event_body.get("runs")
    if not isinstance(runs, list):  # an effect, which is one of one run; or a request that an earlier release recorded
        runs = [(event_body.get("dag_id"), event_body.get("run_id"))] if event_body.get("change") in OF_RUNS else []
    return any(dag in (None, dag_id) and run in (None, run_id) for dag, run in runs)


def _named(change: str, dag_id: str | None, run_id: str | None, body: dict[str, Any]) -> Iterator[Run]:
    entries = [*_list(body.get("dag_runs")), *(entry for action in _list(body.get("actions")) if isinstance(action, dict)
                                               for entry in _list(action.get("entities")))]
    if not entries:
        named = run_id or _id(body.get("dag_run_id")) or _id(body.get("run_id"))
        yield dag_id, None if _reaches_on(body) else named
    for entry in entries:
        if isinstance(entry, dict):
            # Airflow goes by what the entry names, and by the path only for what it leaves out.
            named = _id(entry.get("dag_run_id")) or run_id
            yield _id(entry.get("dag_id")) or dag_id, None if _reaches_on(entry) else named
        else:  # to be deleted, by its bare id
            yield dag_id, _id(entry) if change == "runs.changed" else run_id


def _reaches_on(entry: Mapping[str, Any]) -> bool:
    """Whether the same tasks of earlier or later runs are meant too."""
    return bool(entry.get("include_past") or entry.get("include_future"))


def _few(runs: Mapping[Run, None]) -> list[Run]:
    if len(runs) <= MOST:
        return list(runs)
    dags = dict.fromkeys(dag for dag, _ in runs)
    return [(None, None)] if None in dags or len(dags) > MOST else [(dag, None) for dag in dags]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _id(value: Any) -> str | None:
    """An id as Airflow has them and an event can hold it; None for what names nothing, or everything."""
    return value if isinstance(value, str) and value != "~" and _HELD.fullmatch(value) else None
