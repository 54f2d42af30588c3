"""What a run stands on goes away for a while, on a real cluster: the run ends right, on record, and leaves no pod.

A training run of the demo's model is interrupted while a step's pod runs. The seconds in the table are from the moment when all
was there again until the interrupted step had succeeded; in brackets, how long it was away.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.flight.place import wait_until
from tests.kubernetes.conftest import IN_PODS, Report
from tests.kubernetes.outages import NAMESPACE, PodPlace, down, frozen, of_this_machine

from airgate.contracts.runs import dag_id
from airgate.platform.airflow_client import Run

pytestmark = [*IN_PODS, pytest.mark.outage, pytest.mark.timeout(900)]
MODEL, DAY = "diagnosis_classifier", "2026-01-08"
AWAY = 60  # seconds


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, api: Any, image: str) -> Iterator[PodPlace]:
    base = Path(tempfile.mkdtemp(prefix="airgate-flight-", dir="/tmp"))
    installation = PodPlace(base, image)
    try:
        installation.up()
        installation.ready(dag_id(MODEL, "training"))
        yield installation
    finally:
        installation.down()
        with suppress(Exception):  # what went wrong before is what counts
            api.delete_namespace(NAMESPACE)
        if request.session.testsfailed:
            say = request.config.pluginmanager.getplugin("terminalreporter").write_line
            say(f"\nthe installation stays in {base}: logs in home/logs and home/airflow/logs")
        else:
            shutil.rmtree(base)


@pytest.fixture
def interrupted(place: PodPlace, api: Any, report: Report) -> Callable[..., None]:
    """Fly a training; `outage` is called while a step's pod runs, and gives for how many seconds something was away."""

    def fly(name: str, outage: Callable[[], float]) -> None:
        run = place.start("mia", dag_id(MODEL, "training"), day=DAY)
        task = wait_until(lambda: running(api, run), "a step's pod runs")
        away = outage()
        began = time.monotonic()
        wait_until(lambda: place.task(run, task)["state"] in ("success", "failed"), f"{task} ended", 300)
        seconds = time.monotonic() - began
        told = place.task(run, task)
        leg = place.finish(run)
        assert set(leg.tasks.values()) <= {"success", "skipped"}, leg.tasks
        ends = [event.kind for event in place.events(run, task=task)]
        assert ends[0] == "task.started" and ends.count("task.succeeded") == 1 and ends[-1] == "task.succeeded", ends
        wait_until(lambda: not pods(api), "no pod is left", 90)
        assert "completeness: ok" in place.verified(60)
        outcome = f"'{task}' {told['state']} at try {told['try_number']}, run {leg.state}, log complete (away {away:.0f} s)"
        report(name, outcome, seconds)

    return fly


def pods(api: Any) -> list[Any]:
    return list(api.list_namespaced_pod(NAMESPACE).items)


def running(api: Any, run: Run) -> str | None:
    """The task whose pod runs."""
    names = [pod.metadata.labels["airgate.io/task"] for pod in pods(api) if pod.status.phase == "Running"]
    return names[0] if names else None


def timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_the_scheduler_is_killed(place: PodPlace, interrupted: Any) -> None:
    interrupted("scheduler killed -9", lambda: timed(lambda: (place.kill("scheduler"), place.repair())))


def test_the_triggerer_is_killed(place: PodPlace, interrupted: Any) -> None:
    interrupted("triggerer killed -9", lambda: timed(lambda: (place.kill("triggerer"), place.repair())))


def test_mlflow_is_down(place: PodPlace, interrupted: Any) -> None:
    interrupted("MLflow killed -9", lambda: timed(lambda: (place.kill("mlflow"), time.sleep(10), place.repair())))


def test_the_kubelet_is_stopped(place: PodPlace, api: Any, interrupted: Any) -> None:
    kubelet = of_this_machine(api, "kubelet")

    def outage() -> float:
        with frozen(kubelet):
            time.sleep(AWAY)
        return AWAY

    interrupted("the node's kubelet stopped and started", outage)


def test_the_api_server_is_down(place: PodPlace, api: Any, interrupted: Any) -> None:
    server = of_this_machine(api, "kube-apiserver")

    def outage() -> float:
        with down(server):
            time.sleep(AWAY)
        return AWAY

    interrupted("API server down", outage)
