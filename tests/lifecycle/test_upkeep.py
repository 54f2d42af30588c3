"""The sweep as Airflow runs it, against a server that answers like Airflow's API."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of, task_event
from airgate.audit.spool import Spool
from airgate.audit.store import AuditStore
from airgate.errors import AuditError
from airgate.lifecycle.upkeep import OVERLAP, SweepOperator

Context = Callable[..., dict[str, Any]]
RUN = {"dag_id": "d", "dag_run_id": "r", "state": "success", "run_type": "manual", "triggering_user_name": "mia",
       "start_date": None, "end_date": "2026-01-08T12:00:00Z", "logical_date": None, "bundle_version": None}
NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def airflow(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An Airflow where one run ended, without a task."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._send({"access_token": "t"})

        def do_GET(self) -> None:
            asked.append(self.path)
            every = {"dag_runs": [RUN], "task_instances": [], "hitl_details": [], "next_cursor": None}
            self._send(RUN if self.path.endswith("/dagRuns/r") else every)

        def _send(self, body: Any) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("AIRGATE_AIRFLOW_API", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AIRGATE_API_USER", "airgate")
    monkeypatch.setenv("AIRGATE_API_PASSWORD", "secret")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AuditStore:
    monkeypatch.setenv("AIRGATE_HOME", str(tmp_path))
    monkeypatch.setenv("AIRGATE_MODELS", str(tmp_path / "models"))
    for name in ("AIRGATE_AUDIT_URL", "AIRGATE_MLFLOW_URI", "AIRGATE_AUDIT_SPOOL"):
        monkeypatch.delenv(name, raising=False)
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


@pytest.fixture
def sweeping(context: Context) -> dict[str, Any]:
    return context("upkeep", "sweep")


def swept(log: AuditStore, context: dict[str, Any], at: datetime = NOW, **fields: Any) -> None:
    """An earlier sweep that ended well."""
    task = TaskRef(dag_id=context["ti"].dag_id, run_id=at.isoformat(), task_id="sweep", try_number=1)
    log.append(task_event("task.succeeded", task, actor=Actor(kind="schedule", name="x"), source="callback", occurred_at=at,
                          **fields))


def since(asked: list[str]) -> set[bool]:
    wanted = "updated_at_gte=" + (NOW - OVERLAP).isoformat().replace(":", "%3A").replace("+", "%2B")
    return {wanted in path for path in asked if "dagRuns/r" not in path and "hitlDetails" not in path}


def test_what_is_missing_is_added(log: AuditStore, sweeping: dict[str, Any]) -> None:
    found = SweepOperator(task_id="sweep").execute(sweeping)
    assert found == {"runs": 1, "tries": 0, "answers": 0, "versions": 0, "added": 1}
    [event] = [stored.event for stored in log.events()]
    assert (event.kind, event.actor.name, event.recovered) == ("run.ended", "mia", True)
    assert SweepOperator(task_id="sweep").execute(sweeping)["added"] == 0


def test_the_first_sweep_looks_at_everything(log: AuditStore, sweeping: dict[str, Any], asked: list[str]) -> None:
    SweepOperator(task_id="sweep").execute(sweeping)
    assert not [path for path in asked if "updated_at_gte" in path]


def test_a_sweep_looks_back_to_a_day_before_the_last_complete_one(
        log: AuditStore, sweeping: dict[str, Any], asked: list[str]) -> None:
    swept(log, sweeping, NOW - timedelta(days=9))
    swept(log, sweeping)
    SweepOperator(task_id="sweep").execute(sweeping)
    assert since(asked) == {True}


def test_a_sweep_that_somebody_marked_as_a_success_does_not_count(
        log: AuditStore, sweeping: dict[str, Any], asked: list[str]) -> None:
    swept(log, sweeping)
    swept(log, sweeping, NOW + timedelta(days=3), recovered=True)
    SweepOperator(task_id="sweep").execute(sweeping)
    assert since(asked) == {True}


def test_what_cannot_be_explained_fails_the_task_after_all_else(
        log: AuditStore, sweeping: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    log.append(AuditEvent(event_id=event_id_of("moved"), kind="stage.moved", occurred_at=NOW, model="m", source="operator",
                          actor=Actor(kind="user", name="ana"), body={"to_version": "1"}))
    line = "m production is no version in MLflow, the last move on record put version 1 there"
    with pytest.raises(AuditError) as caught:
        SweepOperator(task_id="sweep").execute(sweeping)
    assert str(caught.value) == (
        f"what Airflow or MLflow say cannot be explained by the audit log in 1 place(s), the first: {line}. Each is on record "
        "as an audit.alarm; see docs/auditor.md")
    assert f"unexplained: {line}" in capsys.readouterr().out
    assert [stored.event.kind for stored in log.events()] == ["stage.moved", "run.ended", "audit.alarm"]


def test_what_waits_in_the_spool_goes_first(log: AuditStore, sweeping: dict[str, Any], tmp_path: Path) -> None:
    late = task_event("task.failed", TaskRef(dag_id="d", run_id="r", task_id="t", try_number=1), source="operator",
                      actor=Actor(kind="user", name="ana"), occurred_at=NOW)
    Spool(tmp_path / "spool").put(late)
    SweepOperator(task_id="sweep").execute(sweeping)
    assert [stored.event.kind for stored in log.events()] == ["task.failed", "run.ended"]
    assert Spool(tmp_path / "spool").is_empty()
