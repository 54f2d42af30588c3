from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.governance.test_stages import NOW, Chain

from airgate.audit.event import Actor
from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.people import People, Person
from airgate.contracts.promotion import Answer
from airgate.contracts.stages import StageMove
from airgate.errors import PromotionError
from airgate.governance.identities import Identities
from airgate.governance.rollback import check_actor, check_run, plan, reason_in, weigh_review
from airgate.governance.stages import Move

RULES = PromotionSpec(approvers={"ml_engineer": ["ana"], "risk_officer": ["omar"]})
PEOPLE = Identities(People(people={"ana": Person(aliases=["ana.diaz"]), "omar": None}, service_accounts=["svc-*"]))
LATER = NOW + timedelta(minutes=1)
ALLOWED = "Allowed: the people whom promotion.approvers in model.yaml names, by starting the run in Airflow."


@pytest.mark.parametrize("name", ["ana", "Ana ", "ana.diaz", "omar"])
def test_an_approver_may_act_alone_under_each_account(name: str) -> None:
    check_actor(Actor(kind="user", name=name), RULES, PEOPLE)


@pytest.mark.parametrize(("actor", "said"), [
    (Actor(kind="user", name="mia"), "whoever started this run may not change a stage alone. "),
    (Actor(kind="user", name="svc-deploy"), "this run was started by a service account; a person must answer for it. "),
    (Actor(kind="schedule", name="ana"), "this run was started by a schedule; a person must answer for it. "),
    (Actor(kind="backfill", name="ana"), "this run was started by a backfill; a person must answer for it. "),
    (Actor(kind="system", name="operator_triggered"), "this run was started by a task of another DAG; a person must answer"),
])
def test_nobody_else_may(actor: Actor, said: str) -> None:
    with pytest.raises(PromotionError) as caught:
        check_actor(actor, RULES, PEOPLE)
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(ALLOWED)
    assert actor.name not in str(caught.value)  # a failed task's message is on record in clear


def asking(**changes: Any) -> None:
    ana = Actor(kind="user", name="ana")
    check_run(**{"asked_at": NOW, "now": LATER, "cleared": False, "touched_by": [ana, Actor(kind="system", name="sweep")],
                 "actor": ana, "identities": PEOPLE, **changes})


def test_a_run_that_is_new_and_its_owners_alone_may_act() -> None:
    asking()
    asking(now=NOW + timedelta(hours=1), touched_by=[Actor(kind="user", name="ana.diaz")])


@pytest.mark.parametrize(("changes", "said"), [
    ({"now": NOW + timedelta(hours=1, seconds=1)}, f"this run was asked for at {NOW:%Y-%m-%d %H:%M} UTC, more than an hour"),
    ({"cleared": True}, "this run was cleared, and it would act in the name of whoever started it. "),
    ({"touched_by": [Actor(kind="user", name="mia")]}, "this run was changed by somebody else, and it would act in the name of "),
    ({"cleared": True, "touched_by": [Actor(kind="user", name="mia")]}, "this run was changed by somebody else, and it would"),
])
def test_an_old_run_and_one_that_others_touched_may_not(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PromotionError) as caught:
        asking(**changes)
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("Look again at what is live, then start a new run.")


def test_a_closed_people_file_must_name_whoever_acts_alone_or_reviews(chain: Chain) -> None:
    closed = Identities(People(closed=True, people={"ana": None}))
    check_actor(Actor(kind="user", name="ana"), RULES, closed)
    with pytest.raises(PromotionError, match="whoever started this run may not change a stage alone"):
        check_actor(Actor(kind="user", name="omar"), RULES, closed)
    answered = Answer(role="reviewer", received=True, user="omar", chosen=["Agree"], reason="seen", subject="s", body="b")
    review = weigh_review(chain.read().moves[0], answered, RULES, closed, subject="s", body="b")
    assert review.problem == "omar is not in people.yaml, which is closed"


@pytest.mark.parametrize("text", [None, "", "  x ", "y" * 4001])
def test_a_reason_that_is_none(text: Any) -> None:
    with pytest.raises(PromotionError, match=r"the reason has \d+ characters; 3 to 4000 are allowed. Say what is wrong"):
        reason_in(text)


def test_a_reason_is_one_line() -> None:
    assert reason_in(" the scores\nare off ") == "the scores are off"


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    chain.move("1", model_digest="d1", data_revision="c0ffee", window={"start": "2026-01-01"}, signature="s1",
               approvers=[{"role": "risk_officer", "user": "omar"}])
    chain.move("2", model_digest="d2", from_version="1")
    return chain


def test_a_rollback_repeats_what_the_promotion_said(chain: Chain) -> None:
    wanted = plan(chain.read(), "rollback", None, "scores are off", asked_at=LATER)
    first = chain.read().moves[0]
    assert (wanted.cause, wanted.from_version, wanted.to_version, wanted.reason) == ("rollback", "2", "1", "scores are off")
    assert (wanted.approved_by, wanted.request_digest, wanted.signature) == (first.event_id, "r1", "s1")
    assert (wanted.model_digest, wanted.data_revision, wanted.window) == ("d1", "c0ffee", {"start": "2026-01-01"})
    assert [one.user for one in wanted.approvers] == ["omar"]


def test_a_rollback_goes_past_what_cannot_be_used_and_says_so(chain: Chain) -> None:
    chain.move("3", from_version="2")
    broken = {"2": "it is gone"}

    def back() -> StageMove:
        return plan(chain.read(), "rollback", None, "off", asked_at=LATER,
                    unusable=lambda move: broken.get(str(move.body.to_version)))

    wanted = back()
    assert (wanted.to_version, wanted.passed_over) == ("1", ["version 2: it is gone"])
    broken["1"] = "y" * 1000
    with pytest.raises(PromotionError) as caught:
        back()
    assert str(caught.value).startswith(
        "m has no approved version before version 3 that can be used (version 2: it is gone; version 1: yyy")
    assert len(str(caught.value)) < 700


def test_a_demotion_carries_no_approval_on(chain: Chain) -> None:
    wanted = plan(chain.read(), "demote", "2", "all wrong", asked_at=LATER)
    assert (wanted.cause, wanted.from_version, wanted.to_version) == ("demotion", "2", None)
    assert (wanted.model_digest, wanted.request_digest, wanted.approvers) == (None, None, [])


def test_an_archiving_follows_the_one_before(chain: Chain) -> None:
    chain.move("7", "archiving", stage="archived")
    wanted = plan(chain.read(), "archive", "1", "superseded", asked_at=LATER, digest="d1")
    assert (wanted.cause, wanted.stage, wanted.from_version, wanted.to_version, wanted.model_digest) == (
        "archiving", "archived", "7", "1", "d1")


@pytest.mark.parametrize(("action", "version", "asked_at", "said"), [
    ("rolback", None, LATER, "no action 'rolback'. Allowed: rollback, demote, archive"),
    ("archive", None, LATER, "which version is to be archived? Give it as 'version' when you start the run."),
    ("rollback", "3", LATER, "production of m is version 2, not version 3. Look again at what is live, then start a new run."),
    ("demote", None, NOW - timedelta(seconds=1),
     "production of m moved after you asked: promotion of version 2 to production by run p3 of m_promotion. Look again at what"),
    ("archive", "1", NOW - timedelta(seconds=1), "production of m moved after you asked: promotion of version 2"),
])
def test_what_cannot_be_planned(chain: Chain, action: str, version: str | None, asked_at: datetime, said: str) -> None:
    with pytest.raises(PromotionError) as caught:
        plan(chain.read(), action, version, "reason", asked_at=asked_at)
    assert str(caught.value).startswith(said)


def test_nothing_to_go_back_to_and_nothing_to_leave(chain: Chain) -> None:
    chain.move("1", "rollback")
    with pytest.raises(PromotionError) as caught:
        plan(chain.read(), "rollback", None, "reason", asked_at=LATER)
    assert str(caught.value) == ("m has no approved version before version 1. To stop inference, demote: start a new run with "
                                 "action 'demote'.")
    chain.move(None, "demotion", from_version="1")
    with pytest.raises(PromotionError, match="m has no version in production, so there is nothing to demote."):
        plan(chain.read(), "demote", None, "reason", asked_at=LATER)
    chain.move("1", "archiving", stage="archived")
    with pytest.raises(PromotionError, match="version 1 of m is archived already."):
        plan(chain.read(), "archive", "1", "reason", asked_at=LATER)


@pytest.fixture
def move(chain: Chain) -> Move:
    chain.move("1", "rollback", from_version="2")
    return chain.read().moves[-1]


def answer(**changes: Any) -> Answer:
    return Answer(**{"role": "reviewer", "received": True, "user": "omar", "chosen": ["Agree"], "reason": "saw it too",
                     "at": datetime(2026, 1, 11, tzinfo=UTC), "subject": "s", "body": "b", **changes})


@pytest.mark.parametrize(("chosen", "said"), [("Agree", "agreed"), ("Disagree", "disagreed")])
def test_a_review(move: Move, chosen: str, said: str) -> None:
    found = weigh_review(move, answer(chosen=[chosen]), RULES, PEOPLE, subject="s", body="b")
    assert (found.move, found.cause, found.answer, found.reviewer, found.problem) == (
        move.event_id, "rollback", said, "omar", None)


@pytest.mark.parametrize(("changes", "problem"), [
    ({"received": False}, "nobody reviewed it (a timeout, or a task marked by hand, is no review)"),
    ({"user": "ana.diaz"}, "ana.diaz (an account of ana) did it and cannot review it"),
    ({"user": "mia"}, "mia is not named as an approver in model.yaml"),
    ({"user": "svc-1"}, "svc-1 is not named as an approver in model.yaml"),
    ({"chosen": ["Approve"]}, "omar answered Approve"),
    ({"body": "another"}, "the text that was answered is not the text of this move"),
    ({"reason": " "}, "omar gave no reason; a review says what was looked at"),
])
def test_what_is_no_review(move: Move, changes: dict[str, Any], problem: str) -> None:
    found = weigh_review(move, answer(**changes), RULES, PEOPLE, subject="s", body="b")
    assert found.problem == problem
    assert found.answer == ("none" if "received" in changes else "agreed" if "chosen" not in changes else "disagreed")
