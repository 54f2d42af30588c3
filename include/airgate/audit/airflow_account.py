"""Airflow's account of its runs, task tries and human answers, read over its public REST API (v2)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import httpx

from airgate import settings
from airgate.airflow_api import AirflowApi, task_path
from airgate.audit.answers import HumanAnswer
from airgate.audit.runs import ENDED, DagRun
from airgate.audit.tries import ANSWERS, TaskTry
from airgate.errors import AuditError

PAGE = 100  # Airflow's default [api] maximum_page_limit
# Runs that are read one by one, for what is recovered; neighbours are often of one run.
_KEPT = 1000


def every_dag(_dag_id: str) -> bool:
    """Take what all DAGs did: the policies put the governance callbacks on every one."""
    return True


class RestAccount:
    """Reads as the user of an AirflowApi, which needs no more than Airflow's viewer role. `dags` says which ids count."""

    def __init__(self, api: AirflowApi, *, dags: Callable[[str], bool] = every_dag) -> None:
        self._api, self._dags = api, dags
        self._run = lru_cache(_KEPT)(self._read_run)

    @classmethod
    def from_environment(cls) -> "RestAccount":
        """The service account of the settings. Raises ConfigError when its name or password is missing."""
        return cls(AirflowApi.from_environment(settings.load().airflow_api))

    def runs(self, since: datetime | None = None) -> Iterator[DagRun]:
        """Give every DAG run that ended and was updated since then (all, if None), without its assets.

        Raises AuditError when Airflow cannot be reached, refuses the login or answers in an unknown shape.
        """
        with self._shapes():
            for record in self._pages("dags/~/dagRuns", "dag_runs", since, state=list(ENDED)):
                if self._dags(record["dag_id"]):
                    yield _run_of(record)

    def run(self, dag_id: str, run_id: str) -> DagRun | None:
        """Give one DAG run with the assets whose events started it, None when it was deleted. Raises AuditError."""
        with self._shapes():
            return self._run(dag_id, run_id)

    def tries(self, since: datetime | None = None) -> Iterator[TaskTry]:
        """Give every try of every task instance updated since then (all, if None), earlier tries included.

        Raises AuditError when Airflow cannot be reached, refuses the login or answers in an unknown shape.
        """
        with self._shapes():
            for instance in self._pages("dags/~/dagRuns/~/taskInstances", "task_instances", since):
                if not self._dags(instance["dag_id"]):
                    continue
                # Earlier tries stand in a history of their own; a task that was cleared or waits for a retry may still
                # carry the number of its last try.
                if instance["try_number"] <= 1 and instance["state"] in ANSWERS:
                    yield _try_of(instance)
                elif instance["try_number"] > 0:
                    yield from map(_try_of, self._history(instance))

    def answers(self, since: datetime | None = None) -> Iterator[HumanAnswer]:
        """Give every answer that a person gave since then (all, if None), the newest first.

        A task that took its default at a timeout was answered by nobody; its try is on record. Airflow forgets an answer when
        its task is cleared. Raises AuditError as `tries` does.
        """
        with self._shapes():
            offset = 0
            while True:
                page = self._get("dags/~/dagRuns/~/hitlDetails", {
                    "response_received": True, "order_by": "-responded_at", "limit": PAGE, "offset": offset})["hitl_details"]
                for record in page:
                    if since is not None and _moment(record["responded_at"]) < since:
                        return
                    if record["responded_by_user"] and self._dags(record["task_instance"]["dag_id"]):
                        yield _answer_of(record)
                if len(page) < PAGE:
                    return
                offset += PAGE

    def _pages(self, path: str, name: str, since: datetime | None, **more: Any) -> Iterator[dict[str, Any]]:
        # A cursor, not an offset: rows that appear while we page must not push others out of sight.
        parameters: dict[str, Any] = {"limit": PAGE, "order_by": "id", "cursor": "", **more}
        if since is not None:
            parameters["updated_at_gte"] = since.isoformat()
        while True:
            page = self._get(path, parameters)
            yield from page[name]
            if not page["next_cursor"]:
                return
            parameters["cursor"] = page["next_cursor"]

    def _history(self, instance: dict[str, Any]) -> list[dict[str, Any]]:
        path = f"{task_path(instance['dag_id'], instance['dag_run_id'], instance['task_id'])}/{instance['map_index']}/tries"
        return list(self._get(path, {})["task_instances"])

    def _read_run(self, dag_id: str, run_id: str) -> DagRun | None:
        path = f"dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        try:
            record = self._api.get(path)
            events = self._api.get(f"{path}/upstreamAssetEvents") if record["run_type"] == "asset_triggered" else {}
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise
        return _run_of(record, tuple(event["name"] or event["uri"] for event in events.get("asset_events", [])))

    def _get(self, path: str, parameters: dict[str, Any]) -> Any:
        return self._api.get(path, **parameters)

    @contextmanager
    def _shapes(self) -> Iterator[None]:
        """Turn what can go wrong while Airflow is read into AuditError."""
        try:
            yield
        except httpx.HTTPError as error:
            raise AuditError(str(error)) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AuditError(f"Airflow at {self._api.address} answered in an unknown shape: {error!r}") from error


def _run_of(record: dict[str, Any], assets: tuple[str, ...] = ()) -> DagRun:
    versions = record.get("dag_versions") or [{}]
    return DagRun(
        dag_id=record["dag_id"], run_id=record["dag_run_id"], state=record["state"], run_type=record["run_type"],
        user=record["triggering_user_name"], start=_time(record["start_date"]), end=_time(record["end_date"]),
        logical_date=_time(record["logical_date"]), bundle_version=record["bundle_version"],
        dag_version=versions[-1].get("id"), assets=assets,
    )


def _try_of(record: dict[str, Any]) -> TaskTry:
    return TaskTry(
        dag_id=record["dag_id"], run_id=record["dag_run_id"], task_id=record["task_id"], map_index=record["map_index"],
        try_number=record["try_number"], state=record["state"], start=_time(record["start_date"]),
        end=_time(record["end_date"]), operator=record.get("operator_name") or record.get("operator"),
        dag_version=(record.get("dag_version") or {}).get("id"),
    )


def _answer_of(record: dict[str, Any]) -> HumanAnswer:
    task, user = record["task_instance"], record["responded_by_user"]
    return HumanAnswer(
        dag_id=task["dag_id"], run_id=task["dag_run_id"], task_id=task["task_id"], map_index=task["map_index"],
        # `id` is the user name under SimpleAuthManager and the account number under FAB, where `name` is the user name.
        user=(user["name"] or user["id"])[:250], user_id=user["id"], at=_moment(record["responded_at"]),
        chosen=tuple(record["chosen_options"] or ()),
    )


def _time(text: str | None) -> datetime | None:
    return _moment(text) if text else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
