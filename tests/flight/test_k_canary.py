"""No secret reaches the log: canaries are planted wherever secrets are, and looked for wherever anything is kept.

Each canary carries the name of its source, so that a leak says where it came from.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from tests.flight.place import Place, wait_until

from airgate.airflow_api import task_path
from airgate.audit.event import canonical
from airgate.contracts.runs import dag_id
from airgate.platform import airflow_client as client
from airgate.platform.airflow_client import ENDED, Run
from airgate.platform.story import MODEL

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500),
              pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")]
HERE = Path(__file__).parent
# Letters alone: what holds a base64 text or an AWS key id must hold it.
NAMES = ("ConnPassword", "ConnToken", "ConnEdited", "Variable", "Conf", "ConfNested", "ConfPassword", "ConfUrl", "RunNote",
         "TaskNote", "Xcom", "XcomEdited", "XcomUrl", "AssetExtra", "UrlPassword", "UrlQuery", "Bearer", "Basic", "ApiKey",
         "Awsi", "AwsSecret", "Assigned", "Json", "Option", "Pem", "MetricName", "Fact", "FactUrl", "FactName", "Atta", "Value")
CANARY = {name: f"Canary{name}Yranac" for name in NAMES}
FOUND = re.compile(rb"canary([a-z]{1,20}?)yranac", re.IGNORECASE)
# What Airflow keeps because somebody asked it to keep just that; it is Airflow's, and shown to who may see the run.
BY_NATURE = {
    "airflow.dag_run": {"conf", "confnested", "confpassword", "confurl"},
    "airflow.dag_run_note": {"runnote"},
    "airflow.task_instance_note": {"tasknote"},
    "airflow.xcom": {"xcom", "xcomedited", "xcomurl"},  # set by hand; what tasks and steps return is not in it
    "airflow.asset_event": {"assetextra"},
    # Airflow's own event log: what people sent to its API, of which it hides what has a name that it knows
    "airflow.log": {"confnested", "confurl", "runnote", "tasknote", "xcom", "xcomedited", "xcomurl"},
}
SECRET_FILES = {"canaries.json"}  # the test's own


@pytest.fixture(scope="module")
def flown(place: Place) -> list[Run]:
    """The runs, ended, and what people did by hand before and after."""
    (place.home / "canaries.json").write_text(json.dumps(CANARY))
    plant(place)
    (place.models / "canary").mkdir()
    shutil.copy(HERE / "canary_steps.py", place.models / "canary" / "steps.py")
    shutil.copy(HERE / "canary_dag.py", place.dags / "canary.py")
    place.ready("canary", dag_id(MODEL, "batch_inference"))
    conf = {"api_token": CANARY["Conf"], "password": CANARY["ConfPassword"],
            "nested": {"credentials": {"word": CANARY["ConfNested"]}}, "source": f"https://ana:{CANARY['ConfUrl']}@host/x"}
    runs = [place.start("mia", "canary", **conf), place.start("mia", dag_id(MODEL, "batch_inference"), day="2026-01-08", **conf)]
    for run in runs:
        wait_until(lambda run=run: place.admin.get(run.path)["state"] in ENDED, f"{run.dag_id} ends")
    meddle(place, runs[0])
    return runs


def plant(place: Place) -> None:
    """A connection and a variable, as an administrator makes them."""
    connection = {"connection_id": "canary", "conn_type": "postgres", "host": "db", "login": "ana",
                  "password": CANARY["ConnEdited"], "extra": json.dumps({"token": CANARY["ConnToken"]})}
    place.admin.post("connections", connection)
    place.admin.patch("connections/canary", connection | {"password": CANARY["ConnPassword"]})
    place.admin.post("variables", {"key": "canary_api_key", "value": CANARY["Variable"]})


def meddle(place: Place, run: Run) -> None:
    """What people write through Airflow's API into a run, and an asset event."""
    task = task_path(run.dag_id, run.run_id, "connect")
    place.admin.patch(run.path, {"note": f"password={CANARY['RunNote']}"})
    place.admin.patch(task, {"note": f"see https://ana:{CANARY['TaskNote']}@host/x"})
    place.admin.post(f"{task}/xcomEntries", {"key": "api_token", "value": CANARY["Xcom"]})
    place.admin.post(f"{task}/xcomEntries", {"key": "where", "value": f"https://ana:{CANARY['XcomUrl']}@host/x"})
    place.admin.patch(f"{task}/xcomEntries/api_token", {"value": CANARY["XcomEdited"]})
    [asset] = place.admin.get("assets", name_pattern="canary")["assets"]
    place.admin.post("assets/events", {"asset_id": asset["id"], "extra": {"api_token": CANARY["AssetExtra"]}})


def canaries(data: bytes) -> set[str]:
    """The sources of the canaries in some bytes."""
    return {name.decode().lower() for name in FOUND.findall(data)}


def tables(place: Place, database: str) -> Iterator[tuple[str, bytes]]:
    """Every row of every table of a database, as text; what it keeps as bytes also as those."""
    keys = json.loads((place.home / "keys.json").read_text())
    port = json.loads((place.home / "ports.json").read_text())["postgres"]
    engine = create_engine(f"postgresql+psycopg2://postgres:{keys['postgres']}@127.0.0.1:{port}/{database}")
    try:
        with engine.connect() as connection:
            found = connection.execute(text("SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN "
                                            "('pg_catalog', 'information_schema')")).all()
            for schema, table in found:
                for (row,) in connection.execute(text(f'SELECT t::text FROM "{schema}"."{table}" t')):
                    blobs = b"\n".join(bytes.fromhex(hexes) for hexes in re.findall(r"\\x((?:[0-9a-f]{2})+)", row))
                    yield f"{database}.{table}", row.encode() + b"\n" + blobs
    finally:
        engine.dispose()


def leaks(pieces: Iterator[tuple[str, bytes]]) -> dict[str, set[str]]:
    """Where canaries are, by place, those aside that are there by nature."""
    found: dict[str, set[str]] = {}
    for where, data in pieces:
        new = canaries(data) - BY_NATURE.get(where, set())
        if new:
            found.setdefault(where, set()).update(new)
    return found


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every file under the folders. A socket is none."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in SECRET_FILES:
                yield str(path), str(path).encode() + b"\n" + path.read_bytes()


def test_the_runs_said_what_they_should_hide(place: Place, flown: list[Run]) -> None:
    run = flown[0]
    ended = {task["task_id"]: task["state"] for task in place.admin.get(f"{run.path}/taskInstances")["task_instances"]}
    assert {name for name, state in ended.items() if state == "success"} == {"whisper"}
    assert "upstream_failed" not in ended.values()
    told = {name: str(place.events(run, "task.failed", name)[0].body["message"]) for name in ended if name != "whisper"}
    assert "GET https://***@host/x failed" in told["leak"] and "-----BEGIN RSA PRIVATE KEY-----***" in told["leak"]
    assert told["read_conf"] == "*** at ***"
    assert "Invalid isoformat string: '***'" in told["render"] and "Invalid isoformat string: '***'" in told["render_step"]
    assert told["give_away"].startswith("what the step returned looks like a secret at 'api_token'")
    for name, place_of_it in {"take_param": "api_token", "take_conf": "source", "take_connection": "source"}.items():
        assert told[name].startswith(f"canary.steps:take: '{place_of_it}' looks like a secret")
    assert {event.body["change"] for event in place.by_hand(run)} >= {"run.changed", "task.changed", "xcom.changed"}


def test_no_canary_is_in_the_audit_log(place: Place, flown: list[Run]) -> None:
    opened = ((f"event {stored.seq}", canonical(stored.event)) for stored in place.audit.events())
    assert leaks(opened) == {}
    assert leaks(tables(place, "airgate_audit")) == {}


def test_no_canary_is_in_an_export_of_it(place: Place, flown: list[Run], tmp_path: Path) -> None:
    code, said = place.airgate("audit", "export", "--readable", str(tmp_path / "copy"))
    assert code == 0, said
    assert leaks(files(tmp_path)) == {}


def test_no_canary_is_in_a_file_of_the_installation(place: Place, flown: list[Run]) -> None:
    """Task logs, the logs of all processes, calls and results, MLflow's artifacts, the spool, checkpoints, settings."""
    kept = [path for path in place.home.iterdir() if path.is_dir() and path.name != "postgres"]
    found = dict(files(*kept))
    for part in ("calls/canary/", "airflow/logs/dag_id=canary/", "home/logs/"):
        assert any(part in name for name in found), f"{part} is looked into"
    assert leaks(iter(found.items())) == {}


def test_no_canary_is_in_the_logs_and_xcoms_that_airflow_shows(place: Place, flown: list[Run]) -> None:
    def shown() -> Iterator[tuple[str, bytes]]:
        for run in flown:
            for task in place.admin.get(f"{run.path}/taskInstances")["task_instances"]:
                if task["state"] == "upstream_failed":  # never ran
                    continue
                path = task_path(run.dag_id, run.run_id, task["task_id"])
                log = place.admin.get(f"{path}/logs/{max(1, task['try_number'])}", full_content=True)
                yield f"log of {task['task_id']}", json.dumps(log).encode()
                yield f"task {task['task_id']}", json.dumps({key: value for key, value in task.items() if key != "note"}).encode()
                yield f"xcom of {task['task_id']}", json.dumps(client.xcom(place.admin, run, task["task_id"])).encode()

    assert leaks(shown()) == {}


def test_no_canary_is_in_airflows_database_that_nobody_put_there_by_hand(place: Place, flown: list[Run]) -> None:
    """XComs, rendered fields, serialized DAGs, import errors, Airflow's own event log, and the rest."""
    assert leaks(tables(place, "airflow")) == {}


def test_no_canary_is_in_mlflow(place: Place, flown: list[Run]) -> None:
    from mlflow.tracking import MlflowClient

    mlflow = MlflowClient(place.settings()["AIRGATE_MLFLOW_URI"])
    runs = mlflow.search_runs([experiment.experiment_id for experiment in mlflow.search_experiments()])
    said: list[dict[str, Any]] = [run.to_dictionary() for run in runs]
    assert any("score of token____" in name for run in said for name in run["data"]["metrics"])
    assert leaks((f"MLflow run {run['info']['run_id']}", json.dumps(run).encode()) for run in said) == {}
    assert leaks(tables(place, "mlflow")) == {}
