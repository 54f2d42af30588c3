"""Past days: each is scored from its own partition, once, and scoring it again gives the same scores."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.flight.place import Place, wait_until

from airgate.contracts.runs import dag_id
from airgate.platform import airflow_client as client
from airgate.platform.airflow_client import Run
from airgate.platform.story import MODEL, Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]
DAG = dag_id(MODEL, "batch_inference")
DAYS = ("2026-01-06", "2026-01-07")


@pytest.fixture(scope="module")
def backfilled(place: Place, story: Story) -> dict[str, Run]:
    """A finished run by day."""
    place.admin.post("backfills", {"dag_id": DAG, "from_date": f"{DAYS[0]}T00:00:00Z", "to_date": f"{DAYS[-1]}T00:00:00Z",
                                   "max_active_runs": 2})

    def ended() -> list[dict[str, Any]] | None:
        made: list[dict[str, Any]] = place.admin.get(f"dags/{DAG}/dagRuns", run_type="backfill")["dag_runs"]
        return made if made and all(run["state"] in client.ENDED for run in made) else None

    runs = wait_until(ended, "the backfill's runs end")
    assert {run["state"] for run in runs} == {"success"}
    found = {run["data_interval_start"][:10]: Run(DAG, run["dag_run_id"]) for run in runs}
    assert len(found) == len(runs)
    return found


def folder(place: Place, day: str) -> Path:
    return place.home / "predictions" / MODEL / f"date={day}"


def scores(path: Path) -> dict[str, tuple[float, int]]:
    table: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    rows = {key: value for key, *value in zip(table["id"], table["score"], table["predicted"], strict=True)}
    assert len(rows) == len(table["id"]), "a sample is there once"
    return {key: (score, predicted) for key, (score, predicted) in rows.items()}


def test_each_day_was_scored_once_from_its_own_rows(place: Place, backfilled: dict[str, Run]) -> None:
    assert sorted(backfilled) == list(DAYS)
    for day, run in backfilled.items():
        [event] = place.events(run, "task.succeeded", "predict")
        assert event.body["window"] is not None
        assert (event.body["window"]["start"], event.version) == (day, "2")
        assert (event.actor.kind, event.actor.name) == ("backfill", "admin")
        [file] = folder(place, day).iterdir()
        rows = pq.read_table(place.home / "data" / "breast_cancer" / f"date={day}").to_pydict()
        assert sorted(scores(file)) == sorted(rows["sample_id"])


def test_a_past_day_again_replaces_the_file_with_the_same_scores(place: Place, backfilled: dict[str, Run]) -> None:
    [file] = folder(place, DAYS[0]).iterdir()
    before, old = scores(file), pq.read_table(file)["scored_at"][0].as_py()
    place.finish(place.start("mia", DAG, day=DAYS[0]))
    [again] = folder(place, DAYS[0]).iterdir()
    assert again == file
    assert scores(again) == before
    assert pq.read_table(again)["scored_at"][0].as_py() > old
