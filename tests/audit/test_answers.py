"""Human answers: each is on record, by the middleware or by the sweep."""

from datetime import timedelta

import pytest
from tests.audit.accounts import NOW, Airflow, answer

from airgate.audit.event import Actor
from airgate.audit.store import AuditStore
from airgate.audit.sweep import compare, sweep
from airgate.governance import manual

PATH = "/api/v2/dags/d/dagRuns/r/taskInstances/approve/-1/hitlDetails"


@pytest.fixture
def log(tmp_path):
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


def by_middleware(log, user="ana", path=PATH, chosen="Approve", at=NOW):
    """What the middleware writes, with its random request id."""
    request = manual.classify("PATCH", path)
    said = {"chosen_options": [chosen], "params_input": {"reason": "x"}}
    [event] = manual.events(request, Actor(kind="user", name=user), user, said)
    log.append(event.model_copy(update={"occurred_at": at + timedelta(milliseconds=30)}))


def test_an_answer_that_nobody_wrote_down_is_named_without_its_person(log):
    report = compare(Airflow(answer()), log)
    assert list(report.verdict()) == [
        "completeness: MISSING 1", "  d r approve: Airflow has an answer of 2025-01-01T12:00:00.000000Z, no manual.change"]


def test_the_middlewares_record_answers_for_it(log):
    by_middleware(log)
    assert list(compare(Airflow(answer()), log).verdict()) == ["completeness: ok"]


@pytest.mark.parametrize("other", [
    answer(user="omar"), answer("approve_too"), answer(run_id="q"), answer(at=NOW + timedelta(hours=1))])
def test_another_persons_tasks_or_times_record_does_not(log, other):
    by_middleware(log)
    assert [found.answer for found in compare(Airflow(other), log).added] == [other]


def test_another_change_to_the_task_does_not(log):
    by_middleware(log, path=PATH.replace("hitlDetails", "xcomEntries/return_value"))
    assert len(compare(Airflow(answer()), log).added) == 1


def test_the_sweep_adds_it_once_with_the_person_who_gave_it(log):
    sweep(Airflow(answer()), log)
    assert sweep(Airflow(answer()), log).added == []
    [event] = [stored.event for stored in log.events()]
    assert (event.kind, event.recovered, event.source, event.occurred_at) == ("manual.change", True, "sweep", NOW)
    assert event.actor == Actor(kind="user", name="ana")
    assert event.task == answer().task
    assert event.body == {"change": "approval.answered", "dag_id": "d", "run_id": "r", "state": None, "user_id": "ana",
                          "request": '{"chosen_options": ["Approve"]}', "account": "airflow rest api"}
    assert event.personal == {"user_id": "ana", "request": "ana"}
    assert b"ana" not in log.events()[0].entry


def test_a_record_that_says_another_option_cannot_be_explained(log):
    by_middleware(log, chosen="Refuse")
    event = log.events()[0].event
    report = sweep(Airflow(answer()), log)
    assert [finding.line for finding in report.unexplained] == [
        f"d r approve: Airflow has another answer than event {event.event_id}"]
    assert report.added == []


@pytest.mark.parametrize("request_text", [None, "no JSON", "[]", '{"other": 1}', '{"chosen_options": 3}'])
def test_a_record_that_cannot_be_read_contradicts_nothing(log, request_text):
    request = manual.classify("PATCH", PATH)
    [event] = manual.events(request, Actor(kind="user", name="ana"), "ana", None)
    log.append(event.model_copy(update={"occurred_at": NOW, "body": event.body | {"request": request_text}}))
    assert list(compare(Airflow(answer()), log).verdict()) == ["completeness: ok"]


def test_a_person_who_was_erased_is_not_written_down_again(log):
    from airgate.audit.erasure import erase

    by_middleware(log)
    erase(log, "ana", by=Actor(kind="user", name="officer"), reason="asked for it")
    assert compare(Airflow(answer()), log).added == []
    assert compare(Airflow(answer(at=NOW + timedelta(hours=1))), log).added != []
