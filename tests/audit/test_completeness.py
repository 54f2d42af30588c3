from datetime import UTC, datetime, timedelta

import pytest

from airgate.audit.completeness import ANSWERS, TaskTry, missing
from airgate.audit.event import Actor, TaskRef, task_event
from airgate.audit.store import AuditStore
from airgate.audit.sweep import compare, sweep

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)


def attempt(task_id="t", state="success", try_number=1, run_id="r", map_index=-1, end=NOW):
    return TaskTry("d", run_id, task_id, map_index, try_number, state, NOW - timedelta(minutes=1), end, "StepOperator")


class Account:
    """Airflow's account as a list."""

    def __init__(self, *tries):
        self.list = tries

    def tries(self, since=None):
        return iter(self.list)


@pytest.fixture
def log(tmp_path):
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


def record(log, kind, task_id="t", try_number=1, **fields):
    task = TaskRef(dag_id="d", run_id="r", task_id=task_id, try_number=try_number)
    log.append(task_event(kind, task, actor=Actor(kind="system", name="x"), source="operator", **fields))


@pytest.mark.parametrize("state", [*ANSWERS, "running", "queued", "deferred", "awaiting_input", "up_for_retry", None])
def test_only_tries_that_ended_need_a_record(state):
    assert [found.kind for found in missing([attempt(state=state)], [])] == list(ANSWERS.get(state, ()))[:1]


@pytest.mark.parametrize(("state", "kind"), [(state, kind) for state, kinds in ANSWERS.items() for kind in kinds])
def test_the_kind_that_belongs_to_the_state_answers(log, state, kind):
    record(log, "task.started")
    assert missing([attempt(state=state)], log.events())
    record(log, kind)
    assert missing([attempt(state=state)], log.events()) == []


@pytest.mark.parametrize(
    "other",
    [attempt(try_number=2), attempt(task_id="u"), attempt(run_id="q"), attempt(map_index=0), attempt(state="failed")],
)
def test_another_try_task_run_or_outcome_does_not_answer(log, other):
    record(log, "task.succeeded")
    assert len(missing([attempt(), other], log.events())) == 1


def test_a_person_who_ended_the_try_and_is_on_record_answers(log):
    record(log, "manual.change", body={"state": "success"})
    assert missing([attempt()], log.events()) == []
    assert len(missing([attempt(state="failed")], log.events())) == 1


def test_a_missing_record_is_named():
    (found,) = missing([attempt(map_index=3, state="failed", try_number=2)], [])
    assert found.line() == "d r t[3] try 2: Airflow says failed, no task.failed"


def test_the_sweep_adds_what_is_missing_once(log):
    record(log, "task.succeeded", body={"fuller": True})
    account = Account(
        attempt(), attempt("killed", "failed"), attempt("killed", "success", 2), attempt("after", "upstream_failed", 0),
        attempt("gone", "removed", 0, end=None), attempt("now", "running"), attempt("t", "skipped", run_id="q"),
    )
    assert len(compare(account, log).added) == 5
    assert log.head()[0] == 1
    report = sweep(account, log)
    assert (report.tries, len(report.added)) == (7, 5)
    assert sweep(account, log).added == []
    assert compare(account, log).added == []
    events = [stored.event for stored in log.events(after=0)]
    assert sorted(event.kind for event in events) == [
        "task.failed", "task.skipped", "task.skipped", "task.succeeded", "task.upstream_failed",
    ]
    assert all(event.recovered and event.source == "sweep" and event.code.commit == "unknown" for event in events)
    killed = log.events(task_id="killed")[0].event
    assert killed.occurred_at == NOW
    assert killed.body == {"state": "failed", "operator": "StepOperator", "account": "airflow rest api"}
    assert log.verify().ok


def test_a_fresh_end_is_left_to_its_callback_for_a_while(log):
    account = Account(attempt(end=datetime.now(UTC)), attempt("old"))
    assert [found.attempt.task_id for found in sweep(account, log, settle=timedelta(minutes=1)).added] == ["old"]
    assert [found.attempt.task_id for found in sweep(account, log).added] == ["t"]


def test_a_callback_that_comes_after_the_sweep_changes_nothing(log):
    sweep(Account(attempt(state="failed")), log)
    task = attempt().task
    late = task_event("task.failed", task, actor=Actor(kind="system", name="x"), source="callback")
    assert log.append_if_absent(late) == 0
    assert log.events(kind="audit.alarm") == []
