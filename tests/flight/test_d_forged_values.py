"""What travels between tasks can be overwritten by hand; the next step notices, refuses, and says so on record."""

import pytest
from tests.flight.place import Place

from airgate.contracts.runs import dag_id
from airgate.errors import StepError
from airgate.platform.airflow_client import Run
from airgate.platform.story import LAST_DAY, MODEL, Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]


def refused(place: Place, run: Run, task: str) -> str:
    """Clear a task and let it run; give the message it fails with, the same in its log and on record."""
    before = place.task(run, task)["try_number"]
    place.clear("mia", run, task)
    with pytest.raises(StepError) as error:
        place.finish(run)
    last = place.events(run, "task.failed", task)[-1]
    assert last.task is not None
    assert last.task.try_number == before + 1, "one try, no retry"
    assert place.task(run, task)["state"] == "failed"
    message = str(last.body["message"])
    assert message in str(error.value)
    return message


def test_a_result_exchanged_for_another_is_refused_by_the_next_step(place: Place, trained: Run) -> None:
    genuine, other = place.xcom(trained, "load_window"), place.xcom(trained, "features")
    assert genuine["output"]["digest"] != other["output"]["digest"]
    place.forge("mia", trained, "load_window", {**genuine, "output": other["output"]})
    message = refused(place, trained, "check")
    assert message == ("the XCom of upstream step 'load_window' is not what the audit log holds of it (its output): it was "
                       "changed by hand. Clear 'load_window' so that it runs again.")
    assert place.task(trained, "train")["state"] == "upstream_failed"


def test_an_older_version_named_as_the_live_one_is_refused(place: Place, story: Story) -> None:
    run = place.start("mia", dag_id(MODEL, "batch_inference"), day=LAST_DAY)
    place.finish(run)
    [earlier, _] = place.audit.events(kind="stage.moved", model=MODEL)
    genuine = place.xcom(run, "live_model")
    older = {**genuine, "version": earlier.event.body["to_version"], "digest": earlier.event.body["model_digest"]}
    place.forge("mia", run, "live_model", older)
    message = refused(place, run, "predict")
    assert message.startswith(f"this step was given version 1 of {MODEL} as the one in production, and it is not what the last "
                              "promotion on record put there (version 2)")
    assert {event.actor.name for event in place.by_hand(run)} == {"mia"}
