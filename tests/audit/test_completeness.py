"""Task tries, and the sweep over all that an account says."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.audit.accounts import NOW, Airflow, answer, attempt, ended

from airgate.audit.completeness import Finding, batches, recorded
from airgate.audit.event import Actor, TaskRef, event_id_of, task_event
from airgate.audit.store import AuditStore
from airgate.audit.sweep import compare, sweep
from airgate.audit.tries import ANSWERS, missing


@pytest.fixture
def log(tmp_path):
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


def record(log, kind, task_id="t", try_number=1, source="operator", **fields):
    task = TaskRef(dag_id="d", run_id="r", task_id=task_id, try_number=try_number)
    log.append(task_event(kind, task, actor=Actor(kind="system", name="x"), source=source, **fields))


@pytest.mark.parametrize("state", [*ANSWERS, "running", "queued", "deferred", "awaiting_input", "up_for_retry", None])
def test_only_tries_that_ended_need_a_record(log, state):
    assert [found.kind for found in missing([attempt(state=state)], [])] == list(ANSWERS.get(state, ()))[:1]
    assert [found.kind for found in compare(Airflow(attempt(state=state)), log).added] == list(ANSWERS.get(state, ()))[:1]


@pytest.mark.parametrize(("state", "kind"), [(state, kind) for state, kinds in ANSWERS.items() for kind in kinds])
def test_the_kind_that_belongs_to_the_state_answers(log, state, kind):
    record(log, "task.started")
    assert missing([attempt(state=state)], log.events())
    record(log, kind)
    assert missing([attempt(state=state)], log.events()) == []
    assert compare(Airflow(attempt(state=state)), log).added == []


@pytest.mark.parametrize(
    "other",
    [attempt(try_number=2), attempt(task_id="u"), attempt(run_id="q"), attempt(map_index=0), attempt(state="failed")],
)
def test_another_try_task_run_or_outcome_does_not_answer(log, other):
    record(log, "task.succeeded")
    assert len(missing([attempt(), other], log.events())) == 1
    assert [found.attempt for found in compare(Airflow(attempt(), other), log).added] == [other]


def test_a_person_who_ended_the_try_and_is_on_record_answers(log):
    record(log, "manual.change", body={"state": "success"})
    assert compare(Airflow(attempt()), log).added == []
    assert len(compare(Airflow(attempt(state="failed")), log).added) == 1


def test_a_missing_record_is_named():
    (found,) = missing([attempt(map_index=3, state="failed", try_number=2)], [])
    assert found.line() == "d r t[3] try 2: Airflow says failed, no task.failed"


def test_the_sweep_adds_what_is_missing_once(log):
    record(log, "task.succeeded", body={"fuller": True})
    account = Airflow(
        attempt(), attempt("killed", "failed"), attempt("killed", "success", 2), attempt("after", "upstream_failed", 0),
        attempt("gone", "removed", 0, end=None), attempt("now", "running"), attempt("t", "skipped", run_id="q"),
        ended(bundle_version="c0ffee"), answer(),
    )
    assert len(compare(account, log).added) == 7
    assert log.head()[0] == 1
    report = sweep(account, log)
    assert report.line() == "1 runs, 7 task tries, 1 answers, 0 model versions compared"
    assert len(report.added) == 7
    assert sweep(account, log).added == []
    assert compare(account, log).added == []
    assert list(compare(account, log).verdict()) == ["completeness: ok"]
    events = [stored.event for stored in log.events(after=0)]
    assert sorted(event.kind for event in events) == [
        "manual.change", "run.ended", "task.failed", "task.skipped", "task.skipped", "task.succeeded", "task.upstream_failed",
    ]
    assert all(event.recovered and event.source == "sweep" and event.body["account"] == "airflow rest api" for event in events)
    killed = log.events(task_id="killed")[0].event
    assert killed.occurred_at == NOW
    assert killed.body == {"state": "failed", "operator": "StepOperator", "account": "airflow rest api", "dag_version": None}
    assert log.verify().ok


def test_what_is_recovered_has_the_actor_and_the_code_of_its_run(log):
    sweep(Airflow(attempt(), attempt("lost", run_id="deleted"), ended(bundle_version="c0ffee")), log)
    kept, lost = log.events(task_id="t")[0].event, log.events(task_id="lost")[0].event
    assert (kept.actor, kept.code.commit) == (Actor(kind="user", name="ana"), "c0ffee")
    assert (lost.actor, lost.code.commit) == (Actor(kind="system", name="audit sweep"), "unknown")


def test_a_fresh_end_is_left_to_its_callback_for_a_while(log):
    now = datetime.now(UTC)
    account = Airflow(attempt(end=now), attempt("old"), ended("new", end=now), ended("old"), answer("new", at=now), answer("old"))
    lines = [found.line().split(":")[0] for found in sweep(account, log, settle=timedelta(minutes=1)).added]
    assert lines == ["d old", "d r old try 1", "d r old"]
    assert len(sweep(account, log).added) == 3


def test_a_sweep_asks_for_what_changed_and_a_comparison_for_everything(log):
    account = Airflow()
    sweep(account, log, since=NOW)
    assert account.asked == [NOW, NOW, NOW]
    compare(account, log)
    assert account.asked[3:] == [None, None, None]


def test_a_callback_that_comes_after_the_sweep_changes_nothing(log):
    sweep(Airflow(attempt(state="failed")), log)
    task = attempt().task
    late = task_event("task.failed", task, actor=Actor(kind="system", name="x"), source="callback")
    assert log.append_if_absent(late) == 0
    assert log.events(kind="audit.alarm") == []


@pytest.mark.parametrize("kind", ["task.failed", "task.retrying"])
def test_a_success_of_what_failed_by_the_logs_word_cannot_be_explained(log, kind):
    record(log, kind)
    report = sweep(Airflow(attempt()), log)
    assert list(report.doubts()) == [
        "completeness: UNEXPLAINED 1",
        "  d r t try 1: Airflow says success; the log says that it failed, and nobody is on record who marked it"]
    [alarm] = [stored.event for stored in log.events(kind="audit.alarm")]
    assert alarm.body == {"alarm": "unexplained", "what": report.unexplained[0].line}
    assert log.events(kind="task.succeeded")[0].event.recovered
    assert sweep(Airflow(attempt()), log).unexplained == []


def test_a_step_whose_success_is_not_on_record_cannot_be_explained(log):
    record(log, "task.started", source="operator")
    record(log, "task.started", "plain", source="callback")
    account = Airflow(attempt(), attempt("plain"))
    assert [finding.line for finding in compare(account, log).unexplained] == [
        "d r t try 1: Airflow says success; a step records its success before Airflow hears of it, this one did not, and nobody "
        "is on record who marked it"]
    record(log, "manual.change", body={"state": "success"})
    assert compare(account, log).unexplained == []


def test_a_step_that_was_killed_after_its_success_was_recorded_is_no_riddle(log):
    record(log, "task.started")
    record(log, "task.succeeded")
    report = sweep(Airflow(attempt(state="failed")), log)
    assert [found.kind for found in report.added] == ["task.failed"]
    assert report.unexplained == []


def test_an_alarm_is_recorded_once_a_day_for_each_content(log):
    """So a finding that was resolved and comes back is on record again."""
    evening = datetime(2026, 1, 8, 23, 59, tzinfo=UTC)
    for finding in (Finding("a"), Finding("b", model="m", version="2")):
        elsewhere = evening.astimezone(timezone(timedelta(hours=2)))  # tomorrow there
        for now in (evening, evening.replace(hour=1), elsewhere, evening + timedelta(hours=1)):
            log.append_if_absent(finding.event(now))
    assert [(stored.event.body["what"], stored.event.version, stored.event.occurred_at.day) for stored in log.events()] == [
        ("a", None, 8), ("a", None, 9), ("b", "2", 8), ("b", "2", 9)]


def test_an_event_whose_contents_expired_is_still_there(log):
    from sqlalchemy import text

    record(log, "task.succeeded")
    with log.database.engine.begin() as owner:
        for name in ("airgate_events_no_update", "airgate_events_expire_only"):
            owner.execute(text(f"DROP TRIGGER IF EXISTS {name}"))
        owner.execute(text("UPDATE airgate_events SET entry = NULL"))
    assert log.events() == []
    assert compare(Airflow(attempt()), log).added == []


def test_ids_are_looked_up_in_batches(log):
    record(log, "task.succeeded")
    there = log.events()[0].event.event_id
    ids = [event_id_of("nothing", number) for number in range(1200)]
    assert recorded(log, [*ids, there]) == {there}
    assert [len(batch) for batch in batches(range(7), 3)] == [3, 3, 1]
