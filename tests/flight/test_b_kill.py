"""A step's process is killed in the middle of its work."""

import pytest
from tests.flight.place import Place

from airgate.platform.airflow_client import Run

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]


def test_a_killed_step_is_on_record_and_tried_again(place: Place, trained: Run) -> None:
    events = place.events(trained, task="train")
    assert [(event.kind, event.task.try_number, event.source) for event in events if event.task] == [
        ("task.started", 1, "operator"), ("task.retrying", 1, "operator"),
        ("task.started", 2, "operator"), ("task.succeeded", 2, "operator")]
    body = events[1].body
    assert (body["error"], body["ended"], body["retryable"]) == ("Killed", "killed by SIGKILL", True)
    assert "killed by signal 9 (out of memory, or killed by hand)" in str(body["message"])
    assert (place.task(trained, "train")["state"], place.task(trained, "train")["try_number"]) == ("success", 2)


def test_what_the_retry_made_was_registered_once(place: Place, trained: Run) -> None:
    [registered] = place.events(trained, "task.succeeded", "register")
    assert registered.version == "1"
    [trained_once] = place.events(trained, "task.succeeded", "train")
    assert registered.body["inputs"]["model"] == trained_once.body["output"]["digest"]


def test_the_log_lacks_nothing_of_it(place: Place, trained: Run) -> None:
    assert "completeness: ok" in place.verified()
