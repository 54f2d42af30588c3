"""The demo's story, as people and auditors find it afterwards."""

import pyarrow.parquet as pq
import pytest
from tests.flight.place import Place

from airgate.contracts.runs import dag_id
from airgate.platform.story import BATCH_DAY, DRIFT_DAY, LAST_DAY, MODEL, Story
from airgate.platform.summary import local_path

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]


def test_two_versions_were_promoted_one_after_the_other(place: Place, story: Story) -> None:
    moves = [stored.event.body for stored in place.audit.events(kind="stage.moved", model=MODEL)]
    assert [(move["from_version"], move["to_version"]) for move in moves] == [(None, "1"), ("1", "2")]
    assert place.live(MODEL) == "2"


def test_each_promotion_has_two_approvals_by_two_people(place: Place, story: Story) -> None:
    approvals = [stored.event for stored in place.audit.events(kind="promotion.approved", model=MODEL)]
    assert [(event.version, event.body["role"], event.actor.name) for event in approvals] == [
        (version, role, person) for version in ("1", "2") for role, person in (("ml_engineer", "ana"), ("risk_officer", "omar"))]
    requests = [stored.event for stored in place.audit.events(kind="promotion.requested", model=MODEL)]
    assert requests[0].body["requesters"][-1] == "user:mia"
    assert len({event.body["request_digest"] for event in approvals}) == 2


def test_one_drift_verdict_led_to_the_second_version(place: Place, story: Story) -> None:
    checked = place.audit.events(kind="drift.verdict", model=MODEL, dag_id=dag_id(MODEL, "drift_check"))
    [verdict] = [stored.event for stored in checked]
    assert verdict.body["drifted"] is True
    assert verdict.body["window"] == {"start": DRIFT_DAY, "end": LAST_DAY}
    [decision] = [stored.event for stored in place.audit.events(kind="retraining.decided", model=MODEL)]
    assert decision.body["drift_event_id"] == str(verdict.event_id)
    registered = place.audit.events(kind="task.succeeded", model=MODEL, task_id="register")
    assert [(stored.event.version, stored.event.task.run_id.startswith("retrain__")) for stored in registered if stored.event.task
            ] == [("1", False), ("2", True)]
    assert registered[1].event.task is not None
    assert registered[1].event.task.run_id == f"retrain__{verdict.event_id}"


@pytest.mark.parametrize(("number", "day", "version"), [(0, BATCH_DAY, "1"), (1, LAST_DAY, "2")])
def test_predictions_say_whose_they_are_of_which_version_and_when(place: Place, story: Story, number: int, day: str,
                                                                   version: str) -> None:
    [file] = story.predictions[number]["files"]
    table = pq.read_table(local_path(file)).to_pydict()
    rows = pq.read_table(place.home / "data" / "breast_cancer" / f"date={day}").to_pydict()
    assert sorted(table["id"]) == sorted(rows["sample_id"])
    assert set(table["model_version"]) == {version}
    assert {str(one) for one in table["day"]} == {day}
    assert all(0 <= score <= 1 for score in table["score"])
    [moment] = set(table["scored_at"])
    assert moment.tzinfo is not None


def test_the_log_is_whole_and_complete_by_its_own_command(place: Place, story: Story) -> None:
    said = place.verified()
    assert "integrity: ok" in said
    assert "completeness: ok" in said
    assert [stored.event for stored in place.audit.events() if stored.event.recovered] == []
