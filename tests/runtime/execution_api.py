"""Airflow's task side without its servers: real task runner, real client, and an Execution API held in memory."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx


@dataclass
class TaskServer:
    """Runs tasks through Airflow's own task runner. Remembers XComs, and answers as the API server would.

    `before_wait` is called when a task is deferred, `before_resume` between the trigger's event and the task's return;
    with `dies_deferred` it never returns.
    """

    run_type: str = "manual"
    user: str | None = "ana"
    asset_names: tuple[str, ...] = ()
    run_id: str = "run-1"
    xcoms: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict)
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    before_wait: Callable[[], None] = lambda: None
    before_resume: Callable[[], None] = lambda: None
    trigger_breaks: bool = False
    dies_deferred: bool = False
    _resume: dict[str, Any] = field(default_factory=dict)
    _should_retry: bool = False
    _max_tries: int = 0
    _dag_id: str = ""

    def run(self, task: Any, *, try_number: int = 1, map_index: int = -1) -> Any:
        """Run one try of `task` and give Airflow's TaskRunResult (ti, state, msg, error); triggers are run in line."""
        from airflow.sdk.api.client import Client
        from airflow.sdk.api.datamodels._generated import TaskInstance
        from airflow.sdk.execution_time.supervisor import run_task_in_process

        self._dag_id, self._max_tries, self._resume = task.dag_id, task.retries, {}
        self._should_retry = try_number <= task.retries
        client = Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(self._answer))
        identity = TaskInstance(id=uuid4(), task_id=task.task_id, dag_id=task.dag_id, run_id=self.run_id,
                                try_number=try_number, map_index=map_index, dag_version_id=uuid4())
        while True:
            done = run_task_in_process(ti=identity, task=task, client=client)
            if done.state != "deferred" or self.dies_deferred:
                return done
            if self.trigger_breaks:
                self._resume = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure"}}
                continue
            self.before_wait()
            given = {**done.msg.next_kwargs, "event": self._wait(done.msg)}
            self._resume = {"next_method": done.msg.next_method, "next_kwargs": given}
            self.before_resume()

    def value(self, task_id: str, map_index: int = -1) -> Any:
        """The task's return value as it lies in XCom."""
        return self.xcoms[(task_id, "return_value", map_index)]

    @staticmethod
    def _wait(message: Any) -> dict[str, Any]:
        """Run the trigger until its first event, as the triggerer would, and give its payload."""
        import asyncio

        from airflow.sdk.module_loading import import_string
        from airflow.sdk.serde import deserialize, serialize

        async def first() -> Any:
            trigger = import_string(message.classpath)(**deserialize(message.trigger_kwargs))
            return await anext(trigger.run())

        return serialize(asyncio.run(first()).payload)  # type: ignore[return-value]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        parts = [part for part in request.url.path.split("/") if part]
        if parts[0] == "task-instances" and parts[-1] == "run":
            return httpx.Response(200, json=self._context())
        if parts[0] == "task-instances" and parts[-1] == "validate-inlets-and-outlets":
            return httpx.Response(200, json={"inactive_assets": []})
        if parts[0] == "task-instances":
            self.sent.append((parts[-1], json.loads(request.content or b"{}")))
            return httpx.Response(200, json={"ok": True})
        key: tuple[str, str, int] | str
        if parts[0] == "xcoms":
            key = (parts[3], parts[4], int(request.url.params.get("map_index", -1)))
            return self._keep(self.xcoms, key, request, wrap=lambda value: {"key": parts[4], "value": value})
        if parts[0] == "store":
            return self._keep(self.stored, parts[-1], request, wrap=lambda value: {"value": value["value"]})
        return httpx.Response(404, json={"detail": {"reason": "not_found", "message": request.url.path}})

    @staticmethod
    def _keep(place: dict[Any, Any], key: Any, request: httpx.Request, wrap: Any) -> httpx.Response:
        if request.method in ("POST", "PUT"):
            place[key] = json.loads(request.content)
            return httpx.Response(200, json={"ok": True})
        if request.method == "DELETE":
            place.pop(key, None)
            return httpx.Response(200, json={"ok": True})
        if key not in place:
            return httpx.Response(404, json={"detail": {"reason": "not_found", "message": str(key)}})
        return httpx.Response(200, json=wrap(place[key]))

    def _context(self) -> dict[str, Any]:
        moment = "2026-01-09T06:00:00Z"
        event = {"extra": {}, "source_task_id": None, "source_dag_id": None, "source_run_id": None,
                 "source_map_index": None, "source_aliases": [], "timestamp": moment, "partition_key": None}
        events = [{**event, "asset": {"name": name, "uri": f"airgate://{name}", "extra": {}}} for name in self.asset_names]
        return {
            "dag_run": {
                "dag_id": self._dag_id, "run_id": self.run_id, "logical_date": moment,
                "data_interval_start": "2026-01-08T00:00:00Z", "data_interval_end": "2026-01-09T00:00:00Z",
                "run_after": moment, "start_date": moment, "end_date": None, "run_type": self.run_type,
                "state": "running", "triggering_user_name": self.user, "consumed_asset_events": events,
                "partition_key": None,
            },
            "max_tries": self._max_tries, "should_retry": self._should_retry, **self._resume,
        }
