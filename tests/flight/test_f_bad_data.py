"""A revision of the data repository with broken partitions: they stop at the data check, and nothing else does."""

import os
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from tests.flight.place import Place

from airgate.airflow_api import task_path
from airgate.contracts.runs import dag_id
from airgate.errors import StepError
from airgate.platform.airflow_client import Run
from airgate.platform.story import LAST_DAY, MODEL, Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]
# Further apart than the 30 days that a training looks back, so that each is a window of its own.
NO_COLUMN, INFINITE, ONE_CLASS = "2026-03-01", "2026-05-01", "2026-07-01"


def commit(place: Place, partitions: dict[str, pd.DataFrame]) -> None:
    """Add partitions to the data set, as a data engineer does."""
    data = place.home / "data"
    for day, rows in partitions.items():
        path = data / "breast_cancer" / f"date={day}" / "part-0.parquet"
        path.parent.mkdir()
        rows.to_parquet(path, index=False)
    quiet = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(place.home / "dvc"), "GIT_CONFIG_GLOBAL": os.devnull}
    for command in (["-m", "dvc", "add", "-q", "breast_cancer"], ["-m", "dvc", "push", "-q"]):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in quiet.items():
                patch.setenv(name, value)
            place.python(*command, cwd=data)
    subprocess.run(["git", "commit", "-q", "--no-verify", "-am", "Three broken days"], cwd=data, check=True,
                   env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull})


@pytest.fixture(scope="module")
def flown(place: Place, story: Story) -> dict[str, Run]:
    """Training runs for the broken days, and beside them one that scores a sound day; all are started at once."""
    sound = pd.read_parquet(Path(place.home, "data", "breast_cancer", "date=2026-01-05"))
    infinite = sound.copy()
    infinite.loc[infinite.index[:3], "mean_radius"] = float("inf")
    commit(place, {NO_COLUMN: sound.drop(columns="mean_area"), INFINITE: infinite, ONE_CLASS: sound.assign(malignant=0)})
    runs = {day: place.start("mia", dag_id(MODEL, "training"), day=day) for day in (NO_COLUMN, INFINITE, ONE_CLASS)}
    runs[LAST_DAY] = place.start("mia", dag_id(MODEL, "batch_inference"), day=LAST_DAY)
    return runs


@pytest.mark.parametrize(("day", "line"), [
    (NO_COLUMN, "- mean_area: expected the column to be there; it is missing"),
    (INFINITE, "- mean_radius: expected finite numbers; 3 of 48 rows violate it, first: P"),
    (ONE_CLASS, "- malignant: expected "),
], ids=["a column is missing", "infinities", "one class"])
def test_broken_rows_stop_at_the_check_with_a_list(place: Place, flown: dict[str, Run], day: str, line: str) -> None:
    with pytest.raises(StepError) as error:
        place.finish(flown[day])
    [failed] = place.events(flown[day], "task.failed", "check")
    message = str(failed.body["message"])
    assert re.match(r"breast_cancer: 48 rows refused: [12] checks failed\n", message)
    assert message.splitlines()[1].startswith(line)
    assert all(text in str(error.value) for text in message.splitlines()), "the list is in the task's log too"
    assert (failed.body["error"], failed.body["retryable"]) == ("DataError", False)
    assert place.task(flown[day], "check")["try_number"] == 1
    assert place.task(flown[day], "train")["state"] == "upstream_failed"
    assert place.events(flown[day], "task.retrying") + place.events(flown[day], task="register") == []


def test_a_refused_check_cannot_be_waved_through_by_hand(place: Place, flown: dict[str, Run]) -> None:
    run = flown[NO_COLUMN]
    path = task_path(run.dag_id, run.run_id, "check")
    mia = place.people["mia"]
    mia.post(f"{path}/xcomEntries", {"key": "return_value", "value": place.xcom(run, "load_window")})
    mia.patch(path, {"new_state": "success"})  # Airflow clears what waited for it: the run goes on
    assert place.task(run, "check")["state"] == "success"
    with pytest.raises(StepError):
        place.finish(run)
    [failed] = place.events(run, "task.failed", "features")
    assert str(failed.body["message"]) == (
        "upstream step 'check' has a result in XCom but no success in the audit log: it was put there by hand. Clear 'check' "
        "so that it runs again.")
    assert [(event.actor.name, event.body["change"]) for event in place.by_hand(run)] == [
        ("mia", "xcom.changed"), ("mia", "task.changed")]


def test_nothing_was_registered_and_the_others_went_on(place: Place, flown: dict[str, Run]) -> None:
    place.finish(flown[LAST_DAY])
    assert place.live(MODEL) == "2"
    assert len(place.audit.events(kind="task.succeeded", dag_id=dag_id(MODEL, "training"), task_id="register")) == 2
