"""Airflow's account of its task tries, read over its public REST API (v2)."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx

from airgate import settings
from airgate.airflow_api import AirflowApi, task_path
from airgate.audit.completeness import ANSWERS, TaskTry
from airgate.errors import AuditError

PAGE = 100  # Airflow's default [api] maximum_page_limit


def every_dag(_dag_id: str) -> bool:
    """Take the tries of all DAGs: the policies put the governance callbacks on every one."""
    return True


class RestAccount:
    """Reads tries as the user of an AirflowApi, which needs no more than Airflow's viewer role. `dags` says which ids count."""

    def __init__(self, api: AirflowApi, *, dags: Callable[[str], bool] = every_dag) -> None:
        self._api, self._dags = api, dags

    @classmethod
    def from_environment(cls) -> "RestAccount":
        """The service account of the settings. Raises ConfigError when its name or password is missing."""
        return cls(AirflowApi.from_environment(settings.load().airflow_api))

    def tries(self, since: datetime | None = None) -> Iterator[TaskTry]:
        """Give every try of every task instance updated since then (all, if None), earlier tries included.

        Raises AuditError when Airflow cannot be reached, refuses the login or answers in an unknown shape.
        """
        try:
            for instance in self._instances(since):
                if not self._dags(instance["dag_id"]):
                    continue
                # Earlier tries stand in a history of their own; a task that was cleared or waits for a retry may still
                # carry the number of its last try.
                if instance["try_number"] <= 1 and instance["state"] in ANSWERS:
                    yield _try_of(instance)
                elif instance["try_number"] > 0:
                    yield from map(_try_of, self._history(instance))
        except (KeyError, TypeError, ValueError) as error:
            raise AuditError(f"Airflow at {self._api.address} answered in an unknown shape: {error!r}") from error

    def _instances(self, since: datetime | None) -> Iterator[dict[str, Any]]:
        # A cursor, not an offset: rows that appear while we page must not push others out of sight.
        parameters: dict[str, Any] = {"limit": PAGE, "order_by": "id", "cursor": ""}
        if since is not None:
            parameters["updated_at_gte"] = since.isoformat()
        while True:
            page = self._get("dags/~/dagRuns/~/taskInstances", parameters)
            yield from page["task_instances"]
            if not page["next_cursor"]:
                return
            parameters["cursor"] = page["next_cursor"]

    def _history(self, instance: dict[str, Any]) -> list[dict[str, Any]]:
        path = f"{task_path(instance['dag_id'], instance['dag_run_id'], instance['task_id'])}/{instance['map_index']}/tries"
        return list(self._get(path, {})["task_instances"])

    def _get(self, path: str, parameters: dict[str, Any]) -> Any:
        try:
            return self._api.get(path, **parameters)
        except httpx.HTTPError as error:
            raise AuditError(str(error)) from error


def _try_of(record: dict[str, Any]) -> TaskTry:
    return TaskTry(
        dag_id=record["dag_id"], run_id=record["dag_run_id"], task_id=record["task_id"], map_index=record["map_index"],
        try_number=record["try_number"], state=record["state"], start=_moment(record["start_date"]),
        end=_moment(record["end_date"]), operator=record.get("operator_name") or record.get("operator"),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
