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
        try:
            return cls(address, os.environ["AIRGATE_API_USER"], os.environ["AIRGATE_API_PASSWORD"])
        except KeyError as missing:
            raise ConfigError(f"{missing.args[0]} is not set: Airgate reads approvals and task states from Airflow's API "
                              "as a service account. See docs/platform.md.") from None

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
        answer = self._http.request(method, f"/api/v2/{path}", **options)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # tokens live a day; a run may wait longer for its people
            self._sign_in()
            answer = self._http.request(method, f"/api/v2/{path}", **options)
        if answer.is_error:
            raise httpx.HTTPStatusError(f"{method} {answer.url.path} as {self.user}: {answer.status_code} {answer.text[:500]}",
                                        request=answer.request, response=answer)
        return answer.json() if answer.content else None

    def _sign_in(self) -> None:
        self._http.headers.pop("Authorization", None)
        answer = self._http.post("/auth/token", json={"username": self.user, "password": self._password})
        if answer.is_error:
            raise httpx.HTTPStatusError(f"Airflow at {self.address} refused to sign in {self.user}: {answer.status_code}",
                                        request=answer.request, response=answer)
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def task_path(dag_id: str, run_id: str, task_id: str) -> str:
    """The API's path of one task instance; ids are percent-encoded, for run ids carry '+' and ':'."""
    return f"dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances/{quote(task_id, safe='')}"
