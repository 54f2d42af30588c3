"""One person goes back to the approved version before, at once; somebody else looks at it afterwards."""

import json
from datetime import UTC, datetime

import httpx
import pytest
from tests.flight.place import Place, wait_until

from airgate.contracts.runs import dag_id
from airgate.errors import StepError
from airgate.governance.rollback import AGREE
from airgate.platform import airflow_client as client
from airgate.platform.airflow_client import Question, Run
from airgate.platform.story import LAST_DAY, MODEL, Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]
ROLLBACK = dag_id(MODEL, "rollback")
REASON = "recall fell on the ward's newest samples; see ticket 4711"


@pytest.fixture(scope="module")
def rolled_back(place: Place, story: Story) -> Run:
    """The run in which ana rolled back and omar agreed."""
    place.ready(ROLLBACK)
    assert place.live(MODEL) == "2"
    run = place.start("ana", ROLLBACK, action="rollback", reason=REASON)
    question = wait_until(lambda: next(iter(client.questions(place.admin, ROLLBACK)), None), "the review is asked for")
    assert place.live(MODEL) == "1", "it does not wait for the review"
    _answer(place, question)
    place.finish(run)
    return run


def _answer(place: Place, question: Question) -> None:
    assert set(question.people) == {"ana", "omar"}
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        client.answer(place.people["mia"], question, AGREE, "mia is no approver")
    client.answer(place.people["omar"], question, AGREE, "seen the ticket; version 2 stays out")


def test_only_an_approver_may_do_it_alone(place: Place, story: Story) -> None:
    place.ready(ROLLBACK)
    run = place.start("mia", ROLLBACK, action="rollback", reason=REASON)
    with pytest.raises(StepError, match="whoever started this run may not change a stage alone"):
        place.finish(run)
    assert place.live(MODEL) == "2"


def test_it_is_on_record_with_its_reason_its_approvals_and_its_review(place: Place, rolled_back: Run) -> None:
    [moved] = place.events(rolled_back, "stage.moved")
    [before] = [one.event for one in place.audit.events(kind="stage.moved", model=MODEL, before=1_000_000)
                if one.event.body["to_version"] == "1" and one.event.body["cause"] == "promotion"]
    assert (moved.actor.name, moved.body["cause"], moved.body["reason"]) == ("ana", "rollback", REASON)
    assert (moved.body["from_version"], moved.body["to_version"]) == ("2", "1")
    assert (moved.body["request_digest"], moved.body["approved_by"]) == (before.body["request_digest"], str(before.event_id))
    [review] = place.events(rolled_back, "stage.reviewed")
    assert (review.actor.name, review.body["answer"], review.body["problem"]) == ("omar", "agreed", None)


def test_inference_goes_on_with_the_version_before(place: Place, rolled_back: Run) -> None:
    run = place.start("mia", dag_id(MODEL, "batch_inference"), day=LAST_DAY)
    place.finish(run)
    assert {event.version for event in place.events(run, "task.succeeded", "predict")} == {"1"}


def test_history_knows_what_was_live_when_and_when_that_was_known(place: Place, rolled_back: Run) -> None:
    [moved] = place.events(rolled_back, "stage.moved")
    code, said = place.airgate("model", "history", MODEL, "--json")
    assert code == 0, said
    story = json.loads(said)
    assert [period["version"] for period in story["periods"]] == ["1", "2", "1"]
    before = moved.occurred_at.astimezone(UTC).isoformat()
    code, said = place.airgate("model", "history", MODEL, "--at", datetime.now(UTC).isoformat(), "--known-at", before, "--json")
    assert code == 0, said
    assert '"2"' in said, "at that moment nobody knew of the rollback"


def test_both_versions_verify_and_so_does_the_log(place: Place, rolled_back: Run) -> None:
    for version in ("1", "2"):
        code, said = place.airgate("model", "verify", f"{MODEL}@{version}")
        assert code == 0, said
    # mia's run, whose first task failed: what never ran writes nothing, so the sweep adds it.
    assert place.airgate("audit", "sweep")[0] == 0
    said = place.verified()
    assert "integrity: ok" in said
    assert "completeness: ok" in said
