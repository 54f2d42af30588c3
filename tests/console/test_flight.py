"""The plugin and the policies in a real API server: real logins, real requests, what the log says afterwards."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from airgate.audit.store import AuditStore
from airgate.authoring.scaffold import create

ROOT = Path(__file__).parents[2]
START_LIMIT = 180  # seconds; 20 on a quiet machine, most of it Airflow's own migrations
TAME = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset
with DAG("tame", schedule=None):
    EmptyOperator(task_id="one") >> EmptyOperator(task_id="two") >> EmptyOperator(
        task_id="three", outlets=[Asset(name="tumour.drift", uri="airgate://tumour/drift")])
"""
WILD = """
from airflow.sdk import dag, task
@dag(schedule=None)
def wild():
    @task
    def fit():
        import xgboost
    fit()
wild()
"""


class Airflow:
    """A running API server and the audit log behind it."""

    def __init__(self, address: str, home: Path, store: AuditStore) -> None:
        self.address, self.store = address, store
        self._clients: dict[str, httpx.Client] = {}
        self._passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())

    def login(self, user: str) -> httpx.Client:
        if user in self._clients:
            return self._clients[user]
        client = self._clients[user] = httpx.Client(base_url=self.address, timeout=60)
        answer = client.post("/auth/token", json={"username": user, "password": self._passwords[user]}).raise_for_status()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def changes(self, after: int | None = None):
        return [stored.event for stored in self.store.events(kind="manual.change", after=after)]


def environment(home: Path, url: str) -> dict[str, str]:
    settings = {
        "AIRFLOW_HOME": home, "AIRFLOW__CORE__DAGS_FOLDER": home / "dags", "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": ROOT / "plugins", "AIRGATE_HOME": home, "AIRGATE_AUDIT_URL": url,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ana:admin,ugo:user,vera:viewer", "AIRGATE_MODELS": home / "models",
        "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64, "AIRFLOW__API__SECRET_KEY": "s" * 32,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(home / "site")]),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AIRGATE"))}
    return kept | {name: str(value) for name, value in settings.items()}


def install_entry_point(home: Path) -> None:
    """What pip does with the entry point in pyproject.toml."""
    info = home / "site" / "airgate-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airgate\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[airflow.policy]\nairgate = airgate.governance.policies\n")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "tame.py").write_text(TAME)
    (home / "dags" / "wild.py").write_text(WILD)
    (home / "models").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRGATE_MODELS", str(home / "models"))
        create("tumour", owner="mia")
    install_entry_point(home)
    url = f"sqlite:///{home}/audit.db"
    AuditStore(url).create()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen([sys.executable, str(Path(__file__).with_name("serve.py")), str(port)], stdout=output,
                                  stderr=output, env=environment(home, url), cwd=home)
    try:
        wait_for(f"http://127.0.0.1:{port}", server, log)
        running = Airflow(f"http://127.0.0.1:{port}", home, AuditStore(url))
        yield running
        running.close()
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and server.poll() is None:
        try:
            if httpx.get(f"{address}/api/v2/version").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.25)
    pytest.fail("the API server did not start:\n" + log.read_text(errors="replace")[-3000:])


@pytest.fixture
def run(airflow):
    """The path of a new DAG run, asked for by ugo. No scheduler runs, so its tasks wait."""
    ugo = airflow.login("ugo")
    ugo.patch("/api/v2/dags/tame", json={"is_paused": True})
    answer = ugo.post("/api/v2/dags/tame/dagRuns", json={"logical_date": None}).raise_for_status()
    return f"/api/v2/dags/tame/dagRuns/{answer.json()['dag_run_id']}"


@pytest.fixture
def before(airflow, run):
    """The number of events before the test's own requests."""
    return airflow.store.head()[0] - 1


@pytest.mark.flight
def test_marking_a_task_success_is_on_record_with_who_did_it(airflow, run, before):
    answer = airflow.login("ugo").patch(f"{run}/taskInstances/one", json={"new_state": "success"})
    assert answer.status_code == 200
    [event] = airflow.changes(before)
    assert (event.actor.name, event.source, event.task.task_id, event.body["state"]) == ("ugo", "listener", "one", "success")
    assert run.endswith(event.task.run_id)


@pytest.mark.flight
def test_the_login_of_the_ui_is_a_cookie_and_counts_as_well(airflow, run, before):
    token = airflow.login("ana").headers["Authorization"].removeprefix("Bearer ")
    httpx.patch(airflow.address + f"{run}/taskInstances/one", json={"new_state": "skipped"}, cookies={"_token": token})
    [event] = airflow.changes(before)
    assert (event.actor.name, event.body["state"]) == ("ana", "skipped")


@pytest.mark.flight
def test_what_airflow_refuses_is_not_recorded(airflow, run, before):
    assert airflow.login("vera").patch(f"{run}/taskInstances/one", json={"new_state": "success"}).status_code == 403
    assert airflow.login("ana").patch(f"{run}/taskInstances/none", json={"new_state": "success"}).status_code == 404
    assert airflow.login("ana").patch(f"{run}/taskInstances/one/dry_run", json={"new_state": "success"}).is_success
    assert airflow.changes(before) == []


@pytest.mark.flight
def test_every_task_that_one_request_changes_is_named(airflow, run, before):
    airflow.login("ana").patch(f"{run}/taskInstances/one", json={"new_state": "failed", "include_downstream": True})
    made = airflow.changes(before)
    assert made[0].source == "api"
    assert sorted(event.task.task_id for event in made[1:]) == ["one", "three", "two"]
    assert {event.source for event in made[1:]} == {"listener"}


@pytest.mark.flight
def test_clearing_xcoms_runs_and_deleting_are_on_record(airflow, run, before):
    ana = airflow.login("ana")
    clearing = {"dag_run_id": run.rpartition("/")[2], "task_ids": ["one"], "only_failed": False}
    ana.post("/api/v2/dags/tame/clearTaskInstances", json=clearing).raise_for_status()
    ana.post("/api/v2/dags/tame/clearTaskInstances", json={**clearing, "dry_run": False}).raise_for_status()
    ana.post(f"{run}/taskInstances/one/xcomEntries", json={"key": "return_value", "value": {"by": "mia"}}).raise_for_status()
    ana.patch(run, json={"state": "failed"}).raise_for_status()
    ana.delete(f"{run}/taskInstances/two").raise_for_status()
    ana.delete(run).raise_for_status()
    made = airflow.changes(before)
    assert [event.body["change"] for event in made] == [
        "task.cleared", "xcom.changed", "run.changed", "task.deleted", "run.deleted"]
    assert {event.actor.name for event in made} == {"ana"}
    assert made[0].body["run_id"] == clearing["dag_run_id"]
    assert '"mia"' in made[1].body["request"]


@pytest.mark.flight
def test_an_outside_verdict_becomes_an_asset_event(airflow):
    verdict = {"model": "tumour", "version": None, "window": {"start": "2026-01-01", "end": "2026-01-02"}, "drifted": True,
               "share": 0.8}
    assert airflow.login("vera").post("/airgate/api/drift-verdicts", json=verdict).status_code == 403
    answer = airflow.login("ugo").post("/airgate/api/drift-verdicts", json=verdict).raise_for_status().json()
    assert answer["asset_event"] is True
    [event] = airflow.login("ana").get("/api/v2/assets/events").raise_for_status().json()["asset_events"]
    assert event["extra"]["event_id"] == answer["event_id"]
    assert event["name"] == "tumour.drift"


@pytest.mark.flight
def test_the_console_needs_a_login_and_the_navigation_leads_to_it(airflow):
    assert httpx.get(airflow.address + "/airgate/").status_code == 401
    assert httpx.get(airflow.address + "/airgate/api/audit/verify").status_code == 401
    vera = airflow.login("vera")
    assert "integrity: ok" in vera.get("/airgate/").raise_for_status().text
    [plugin] = airflow.login("ana").get("/api/v2/plugins").raise_for_status().json()["plugins"]
    assert plugin["external_views"][0]["href"] == "/airgate/"


@pytest.mark.flight
def test_a_dag_outside_the_gates_is_an_import_error_in_the_ui(airflow):
    ana = airflow.login("ana")
    [error] = ana.get("/api/v2/importErrors").raise_for_status().json()["import_errors"]
    assert "Task 'fit' uses xgboost in 'fit', outside any step" in error["stack_trace"]
    assert [dag["dag_id"] for dag in ana.get("/api/v2/dags").json()["dags"]] == ["tame"]
