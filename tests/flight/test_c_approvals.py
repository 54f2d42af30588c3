"""Whatever is forged, and whoever answers that may not: the alias stays where it is, and the log says who tried."""

import json
from typing import Any

import pytest
from tests.flight.place import SECOND, Place, asked

from airgate.airflow_api import task_path
from airgate.contracts.promotion import APPROVE, REFUSE
from airgate.contracts.runs import dag_id
from airgate.platform import airflow_client as client
from airgate.platform.airflow_client import Run

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]
ENGINEER, OFFICER = "approve_ml_engineer", "approve_risk_officer"


def answered(place: Place, ended: dict[str, tuple[str, str, str]]) -> Run:
    """A promotion asked for by mia; `ended` has who answers each task, how, and why."""
    promotion = place.start("mia", dag_id(SECOND, "promotion"))
    questions = asked(place, promotion)
    for task, (person, option, reason) in ended.items():
        client.answer(place.people[person], questions[task], option, reason)
    place.finish(promotion)
    return promotion


def outcome(place: Place, promotion: Run) -> Any:
    """What `apply` gave, and what it put on record."""
    [event] = place.events(promotion, task="apply", kind="promotion.refused")
    result = place.xcom(promotion, "apply")
    assert result["outcome"] == "refused"
    assert result["reasons"] == event.body["reasons"]
    return event.body["reasons"]


def test_tasks_and_xcoms_forged_by_a_user_are_no_approval(place: Place, first_promotion: Run) -> None:
    mia = place.people["mia"]
    asked(place, first_promotion)
    for task, person in ((ENGINEER, "ana"), (OFFICER, "omar")):
        path = task_path(first_promotion.dag_id, first_promotion.run_id, task)
        forged = {"chosen_options": [APPROVE], "params_input": {"reason": "fine"}, "responded_at": "2026-01-09T08:00:00+00:00",
                  "responded_by_user": {"id": person, "name": person}}
        mia.post(f"{path}/xcomEntries", {"key": "return_value", "value": forged})
        mia.patch(path, {"new_state": "success"})
    place.finish(first_promotion)

    assert {place.task(first_promotion, task)["state"] for task in (ENGINEER, OFFICER)} == {"success"}
    assert outcome(place, first_promotion) == [
        f"{role}: nobody answered (a timeout, or a task marked by hand, is no answer)"
        for role in ("ml_engineer", "risk_officer")]
    assert place.live(SECOND) is None
    assert place.events(first_promotion, "stage.moving") + place.events(first_promotion, "stage.moved") == []
    by_hand = place.by_hand(first_promotion)
    assert {event.actor.name for event in by_hand} == {"mia"}
    assert sorted((event.body["change"], event.task.task_id) for event in by_hand if event.task) == [
        ("task.changed", ENGINEER), ("task.changed", OFFICER), ("xcom.changed", ENGINEER), ("xcom.changed", OFFICER)]
    assert all("ana" in str(event.body["request"]) for event in by_hand
               if event.body["change"] == "xcom.changed" and event.task and event.task.task_id == ENGINEER)


def test_who_asked_cannot_approve_even_where_the_model_names_her(place: Place, first_promotion: Run) -> None:
    promotion = answered(place, {ENGINEER: ("mia", APPROVE, "It is mine."), OFFICER: ("omar", APPROVE, "Read it.")})
    assert outcome(place, promotion) == ["ml_engineer: mia asked for this promotion and cannot approve it"]
    assert place.live(SECOND) is None


def test_one_no_is_a_no_with_its_reason(place: Place, first_promotion: Run) -> None:
    promotion = answered(place, {ENGINEER: ("ana", APPROVE, "Read it."), OFFICER: ("omar", REFUSE, "Recall is too uncertain.")})
    assert outcome(place, promotion) == ["risk_officer: omar refused: Recall is too uncertain."]
    assert place.live(SECOND) is None


def test_the_same_version_goes_live_by_two_honest_answers(place: Place, first_promotion: Run) -> None:
    promotion = answered(place, {ENGINEER: ("ana", APPROVE, "Read it."), OFFICER: ("omar", APPROVE, "Read it.")})
    assert place.xcom(promotion, "apply") == {"outcome": "applied", "version": "1", "reasons": []}
    assert place.live(SECOND) == "1"
    [moved] = place.events(promotion, "stage.moved")
    assert json.loads(json.dumps(moved.body["approvers"])) == [
        {"role": "ml_engineer", "user": "ana"}, {"role": "risk_officer", "user": "omar"}]
