"""One installation for all flights. Whatever happens, it is stopped; after a failure its files stay for a look."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flight.place import ROOT, SECOND, Place, wait_until

from airgate.airflow_api import AirflowApi
from airgate.contracts.runs import FLOWS, dag_id
from airgate.platform import airflow_client as client
from airgate.platform.airflow_client import Run
from airgate.platform.story import Story

HERE = Path(__file__).parent
FORBIDDEN = '''"""A DAG that trains where nothing accounts for it."""
from airflow.sdk import dag, task
@dag(schedule=None)
def forbidden():
    @task
    def fit():
        import xgboost
    fit()
forbidden()
'''


@pytest.fixture(scope="package")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    # Not pytest's own folder: the path of a unix socket has 108 characters at most.
    base = Path(tempfile.mkdtemp(prefix="airgate-flight-", dir="/tmp"))
    installation = Place(base)
    add_models(installation)
    shutil.copy(ROOT / "docs" / "examples" / "morning_scores.py", installation.dags)
    try:
        installation.up()
        (installation.dags / "forbidden.py").write_text(FORBIDDEN)
        yield installation
    finally:
        installation.down()
        if request.session.testsfailed:
            say = request.config.pluginmanager.getplugin("terminalreporter").write_line  # past the capture of output
            say(f"\nthe flights' installation stays in {base}: logs in home/logs and home/airflow/logs")
        else:
            shutil.rmtree(base)


def add_models(installation: Place) -> None:
    """A sound one where mia may answer as an engineer, and a broken one; the network, slow to train, stays at home."""
    shutil.rmtree(installation.models / "diagnosis_network")
    text = (installation.models / "diagnosis_classifier" / "model.yaml").read_text()
    for old, new in {"name: diagnosis_classifier": f"name: {SECOND}", "ml_engineer: [ana]": "ml_engineer: [ana, mia]"}.items():
        assert old in text
        text = text.replace(old, new)
    (installation.models / SECOND).mkdir()
    (installation.models / SECOND / "model.yaml").write_text(text)
    shutil.copy(HERE / "second_opinion.py", installation.models / SECOND / "steps.py")
    (installation.models / "third_opinion").mkdir()
    (installation.models / "third_opinion" / "model.yaml").write_text(
        text.replace(f"name: {SECOND}", "name: third_opinion").replace("lookback_days: 30", "lookback_days: thirty"))
    shutil.copy(HERE / "second_opinion.py", installation.models / "third_opinion" / "steps.py")


@pytest.fixture(scope="package")
def story(place: Place) -> Story:
    """The demo's story, flown once: version 2 of diagnosis_classifier is in production afterwards."""
    actors: dict[str, AirflowApi] = {name: place.people[name] for name in ("mia", "ana", "omar")}
    told = Story(place.admin, actors, lambda text: None)
    told.fly()
    return told


@pytest.fixture(scope="package")
def trained(place: Place) -> Run:
    """A training run of the second model, asked for by mia, whose `train` step was killed in its first try."""
    place.ready(*(dag_id(SECOND, flow) for flow in FLOWS))
    hold, held = place.home / "hold", place.home / "held"
    hold.touch()
    try:
        run = place.start("mia", dag_id(SECOND, "training"), day="2026-01-08")
        wait_until(held.exists, "the train step begins")
        os.kill(int(held.read_text()), signal.SIGKILL)
    finally:
        hold.unlink()
    place.finish(run)
    return run


@pytest.fixture(scope="package")
def first_promotion(place: Place, trained: Run) -> Run:
    """The promotion that followed from that training; nobody has answered yet."""
    validation = client.set_off(place.admin, trained, dag_id(SECOND, "validation"))
    place.finish(validation)
    return client.set_off(place.admin, validation, dag_id(SECOND, "promotion"))
