"""Airflow's public REST API (v2), as much of it as Airgate asks: a token, and JSON over HTTP."""

import os
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

import httpx

from airgate.errors import ConfigError


class AirflowApi:
    """A session with one Airflow as one user. Use it as a context manager."""

    def __init__(self, address: str, user: str, password: str, timeout: float = 30,
                 transport: httpx.BaseTransport | None = None) -> None:
        self.address = address.rstrip("/")
        self.user = user
        self._password = password
        self._http = httpx.Client(base_url=self.address, timeout=timeout, transport=transport)

    @classmethod
    def from_environment(cls, address: str) -> Self:
        """The service account in AIRGATE_API_USER and AIRGATE_API_PASSWORD. Raises ConfigError when one is missing."""
        user, password = os.environ.get("AIRGATE_API_USER"), os.environ.get("AIRGATE_API_PASSWORD")
        if not user or not password:
            raise ConfigError("Airgate reads approvals and task states from Airflow's API as a service account: set "
                              "AIRGATE_API_USER and AIRGATE_API_PASSWORD (the viewer role is enough). See docs/platform.md.")
        return cls(address, user, password)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """GET /api/v2/<path>; gives the JSON body. Raises httpx.HTTPError, with the status and what Airflow said."""
        return self._send("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST a JSON body to /api/v2/<path>."""
        return self._send("POST", path, json=dict(body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """PATCH /api/v2/<path> with a JSON body."""
        return self._send("PATCH", path, json=dict(body))

    def _send(self, method: str, path: str, **options: Any) -> Any:
        if "Authorization" not in self._http.headers:
            self._sign_in()
        answer = self._request(method, f"/api/v2/{path}", **options)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # tokens live a day; a run may wait longer for its people
            self._sign_in()
            answer = self._request(method, f"/api/v2/{path}", **options)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"Airflow at {self.address} answered {answer.status_code} to {method} {answer.request.url.raw_path.decode()} "
                f"as '{self.user}': {answer.text[:500]}", request=answer.request, response=answer)
        return answer.json() if answer.content else None

    def _sign_in(self) -> None:
        self._http.headers.pop("Authorization", None)
        answer = self._request("POST", "/auth/token", json={"username": self.user, "password": self._password})
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"Airflow at {self.address} refused the login of '{self.user}' ({answer.status_code}); check AIRGATE_API_USER "
                "and AIRGATE_API_PASSWORD", request=answer.request, response=answer)
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise type(error)(f"Airflow at {self.address} cannot be reached ({type(error).__name__}: {error}); is it running? "
                              "The address is AIRGATE_AIRFLOW_API") from error


def task_path(dag_id: str, run_id: str, task_id: str) -> str:
    """The API's path of one task instance; ids are percent-encoded, for run ids carry '+' and ':'."""
    return f"dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances/{quote(task_id, safe='')}"
