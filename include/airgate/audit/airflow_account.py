"""Airflow's account of its task tries, read over its public REST API (v2)."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from airgate import settings
from airgate.audit.completeness import ANSWERS, TaskTry
from airgate.errors import AuditError, ConfigError

PAGE = 100  # Airflow's default [api] maximum_page_limit
_UNAUTHORIZED = 401


def every_dag(_dag_id: str) -> bool:
    """Take the tries of all DAGs: the policies put the governance callbacks on every one."""
    return True


class RestAccount:
    """Reads tries with a user's name and password. The user needs no more than Airflow's viewer role.

    `dags` says which DAG ids count. `transport` replaces the network in tests.
    """

    def __init__(
        self,
        address: str,
        username: str,
        password: str,
        *,
        dags: Callable[[str], bool] = every_dag,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Take the API's address, such as http://localhost:8080, and a timeout in seconds. Nothing is sent yet."""
        self._address = address.rstrip("/")
        self._user, self._password, self._dags = username, password, dags
        self._client = httpx.Client(timeout=timeout, transport=transport)
        self._token = ""

    @classmethod
    def from_environment(cls) -> "RestAccount":
        """Take the address from the settings and the user from AIRGATE_API_USER and AIRGATE_API_PASSWORD.

        Raises ConfigError when one of them is missing.
        """
        user, password = os.environ.get("AIRGATE_API_USER"), os.environ.get("AIRGATE_API_PASSWORD")
        if not user or not password:
            raise ConfigError(
                "comparing the log with Airflow needs an Airflow user: set AIRGATE_API_USER and AIRGATE_API_PASSWORD "
                "(the viewer role is enough)"
            )
        return cls(settings.load().airflow_api, user, password)

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
            raise AuditError(f"Airflow at {self._address} answered in an unknown shape: {error!r}") from error

    def _instances(self, since: datetime | None) -> Iterator[dict[str, Any]]:
        # A cursor, not an offset: rows that appear while we page must not push others out of sight.
        parameters: dict[str, Any] = {"limit": PAGE, "order_by": "id", "cursor": ""}
        if since is not None:
            parameters["updated_at_gte"] = since.isoformat()
        while True:
            page = self._get("/api/v2/dags/~/dagRuns/~/taskInstances", parameters)
            yield from page["task_instances"]
            if not page["next_cursor"]:
                return
            parameters["cursor"] = page["next_cursor"]

    def _history(self, instance: dict[str, Any]) -> list[dict[str, Any]]:
        dag, run, task = (quote(instance[key], safe="") for key in ("dag_id", "dag_run_id", "task_id"))
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/{instance['map_index']}/tries"
        return list(self._get(path, {})["task_instances"])

    def _get(self, path: str, parameters: dict[str, Any]) -> Any:
        response = self._send(path, parameters)
        if response.status_code == _UNAUTHORIZED:  # the token ran out, or this is the first request
            self._token = self._login()
            response = self._send(path, parameters)
        if not response.is_success:
            raise AuditError(f"Airflow at {self._address} answered {response.status_code} to GET {path}")
        return response.json()

    def _send(self, path: str, parameters: dict[str, Any]) -> httpx.Response:
        if not self._token:
            self._token = self._login()
        headers = {"Authorization": f"Bearer {self._token}"}
        return self._request("GET", path, params=parameters, headers=headers)

    def _login(self) -> str:
        body = {"username": self._user, "password": self._password}
        response = self._request("POST", "/auth/token", json=body)
        if not response.is_success:
            raise AuditError(
                f"Airflow at {self._address} refused the login of '{self._user}' ({response.status_code}); "
                "check AIRGATE_API_USER and AIRGATE_API_PASSWORD"
            )
        return str(response.json()["access_token"])

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, self._address + path, **options)
        except httpx.HTTPError as error:
            raise AuditError(
                f"Airflow at {self._address} cannot be reached ({type(error).__name__}: {error}); is it running? "
                "The address is AIRGATE_AIRFLOW_API"
            ) from error


def _try_of(record: dict[str, Any]) -> TaskTry:
    return TaskTry(
        dag_id=record["dag_id"], run_id=record["dag_run_id"], task_id=record["task_id"], map_index=record["map_index"],
        try_number=record["try_number"], state=record["state"], start=_moment(record["start_date"]),
        end=_moment(record["end_date"]), operator=record.get("operator_name") or record.get("operator"),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
