"""After everything that went wrong on these flights, the log is whole, and a sweep completes what nobody could write."""

from pathlib import Path

import pytest
from tests.flight.place import SECOND, Place, wait_until
from tests.flight.test_h_alias import UNEXPLAINED

from airgate.audit.airflow_account import RestAccount
from airgate.audit.answers import MissingAnswer
from airgate.audit.runs import MissingRun
from airgate.audit.store import AuditStore
from airgate.audit.sweep import compare
from airgate.contracts.runs import dag_id
from airgate.platform.airflow_client import Run
from airgate.platform.story import MODEL, Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]


def test_every_run_and_every_answer_put_itself_on_record(place: Place, story: Story, trained: Run) -> None:
    def lacking() -> list[str]:
        found = compare(RestAccount(place.admin), place.audit).added
        return [record.line() for record in found if isinstance(record, MissingRun | MissingAnswer)]

    wait_until(lambda: not lacking(), "the DAG processor writes down the last runs' ends")
    ends = place.audit.events(kind="run.ended")
    assert len(ends) >= len(story.legs)
    assert {(stored.event.source, stored.event.recovered) for stored in ends} == {("callback", False)}


def test_the_log_is_complete_after_a_sweep(place: Place, story: Story, trained: Run) -> None:
    code, said = place.airgate("audit", "sweep")
    assert code == 0, said
    said = place.verified()
    assert "integrity: ok" in said
    assert "completeness: ok" in said


def test_only_what_never_ran_had_to_be_recovered(place: Place, story: Story, trained: Run) -> None:
    events = [stored.event for stored in place.audit.events()]
    assert {event.kind for event in events if event.recovered} <= {"task.upstream_failed"}
    assert {event.body["what"] for event in events if event.kind == "audit.alarm"} <= {UNEXPLAINED}


def test_everything_was_done_by_somebody_or_something(place: Place, story: Story, trained: Run) -> None:
    events = [stored.event for stored in place.audit.events()]
    of_tasks = [event for event in events if event.task is not None or event.kind == "run.ended"]
    assert {event.actor.name for event in of_tasks if event.actor.kind == "user"} <= {"admin", "mia", "ana", "omar"}
    # The governor's task starts a training: Airflow hands on the user, and there was none, for drift had started the governor.
    # Then the training's run id says whose it is.
    assert {event.actor.name for event in of_tasks if event.actor.kind in ("system", "outside")} == {
        dag_id(MODEL, "retraining"), "registry guard"}


def test_a_log_that_forgot_everything_lacks_every_run_try_and_answer(place: Place, trained: Run, tmp_path: Path) -> None:
    empty = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    empty.create()
    found = compare(RestAccount(place.admin), empty)
    assert len(found.added) > found.runs + found.answers
    ended = f"{trained.dag_id} {trained.run_id}: Airflow says the run ended as "
    assert any(record.line().startswith(ended) for record in found.added)


def test_a_run_that_somebody_marked_by_hand_is_named_until_a_sweep_adds_it(place: Place, trained: Run) -> None:
    dag = dag_id(SECOND, "retraining")
    place.admin.patch(f"dags/{dag}", {"is_paused": True})
    run = place.start("mia", dag)
    place.people["ana"].patch(run.path, {"state": "failed"})
    code, said = place.airgate("audit", "verify", "--complete")
    assert code == 3
    assert f"  {dag} {run.run_id}: Airflow says the run ended as failed, no run.ended\n" in said
    assert place.airgate("audit", "sweep")[0] == 0
    [ended] = [stored.event for stored in place.audit.events(kind="run.ended") if stored.event.body["run_id"] == run.run_id]
    assert (ended.actor.name, ended.recovered, ended.body["state"]) == ("mia", True, "failed")
    assert {event.actor.name for event in place.by_hand(run)} == {"ana"}
    assert "completeness: ok" in place.verified()
