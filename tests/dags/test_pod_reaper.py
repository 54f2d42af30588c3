"""The reaper is there where steps are pods, and only there."""

from pathlib import Path

import pytest
from tests.dags.conftest import Load

FILE = Path(__file__).parents[2] / "dags" / "pod_reaper.py"


def test_there_is_no_reaper_without_pods(load: Load) -> None:
    assert load(FILE) == {}


def test_the_reaper_runs_every_five_minutes(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_RUNTIME", "kubernetes")
    dag = load(FILE)["pod_reaper"]
    assert dag.task_ids == ["reap"] and not dag.catchup and dag.max_active_runs == 1
