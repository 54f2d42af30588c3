from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.promotion import Answer, PromotionRequest
from airgate.governance.promotion import canonical_person, decide

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
RULES = PromotionSpec(approvers={"ml_engineer": ["ana", "mia"], "risk_officer": ["omar"]})
D = "sha256:" + "a" * 64
REQUEST = PromotionRequest(model="m", version="2", model_digest=D, gates_hash=D, evaluation_digest=D, verdict_event="e",
                           expected_current="1", requesters=["user:mia"], requested_at=NOW, expires_at=NOW + timedelta(hours=72),
                           code_version="c", nonce="n")


SUBJECT, BODY = "put m version 2 into production?", f"gates ... `{REQUEST.digest()}`"


def answer(role: str, user: str | None, **changes: object) -> Answer:
    return Answer.model_validate({"role": role, "received": True, "user": user, "chosen": ["Approve"], "at": NOW,
                                  "subject": f"{role}: {SUBJECT}", "body": BODY, **changes})


ANA, OMAR = answer("ml_engineer", "ana"), answer("risk_officer", "omar")


def reasons(*answers: Answer, request: PromotionRequest = REQUEST, now: datetime = NOW) -> list[str]:
    decision = decide(request, answers, RULES, now, subject=SUBJECT, body=BODY)
    assert decision.approved is (not decision.reasons)
    return decision.reasons


def test_two_named_people_who_did_not_ask() -> None:
    decision = decide(REQUEST, [ANA, OMAR], RULES, NOW, subject=SUBJECT, body=BODY)
    assert decision.approved
    assert [(a.role, a.user, a.request_digest) for a in decision.approvals] == [
        ("ml_engineer", "ana", REQUEST.digest()), ("risk_officer", "omar", REQUEST.digest())]


def test_nobody_answered() -> None:
    assert reasons() == ["ml_engineer: nobody answered (a timeout, or a task marked by hand, is no answer)",
                         "risk_officer: nobody answered (a timeout, or a task marked by hand, is no answer)"]


@pytest.mark.parametrize(("changed", "expected"), [
    (answer("risk_officer", "omar", received=False), "nobody answered"),
    (answer("risk_officer", None), "nobody answered"),
    (answer("risk_officer", "omar", at=None), "nobody answered"),
    (answer("risk_officer", "omar", chosen=["Refuse"], reason="recall is too low"),
     "risk_officer: omar refused: recall is too low"),
    (answer("risk_officer", "omar", chosen=[]), "omar refused"),
    (answer("risk_officer", "omar", chosen=["Approve", "Refuse"]), "omar refused"),
    (answer("risk_officer", "eve"), "eve is not named for this role in model.yaml"),
    (answer("risk_officer", "omar", body="another text"), "is not the text of this request"),
    (answer("risk_officer", "omar", body=f"all fine `{REQUEST.digest()}`"), "is not the text of this request"),
    (answer("risk_officer", "omar", subject="risk_officer: a mere formality"), "is not the text of this request"),
    (answer("risk_officer", "omar", at=NOW + timedelta(hours=73)), "answered after the request had expired"),
])
def test_an_answer_that_does_not_count(changed: Answer, expected: str) -> None:
    found = reasons(ANA, changed)
    assert len(found) == 1
    assert expected in found[0]


def test_the_requester_cannot_approve_however_the_name_is_written() -> None:
    assert reasons(answer("ml_engineer", " Mia"), OMAR) == ["ml_engineer: mia asked for this promotion and cannot approve it"]


def test_one_person_in_both_roles() -> None:
    rules = PromotionSpec(approvers={"ml_engineer": ["ana"], "risk_officer": ["omar", "ana"]})
    decision = decide(REQUEST, [ANA, answer("risk_officer", "ANA")], rules, NOW, subject=SUBJECT, body=BODY)
    assert not decision.approved
    assert decision.reasons == ["ana answered in both roles: two different people must agree"]


def test_an_expired_request() -> None:
    assert reasons(ANA, OMAR, now=NOW + timedelta(hours=73)) == ["the request expired at 2026-01-13 12:00 UTC"]


def test_canonical_person() -> None:
    assert {canonical_person(name) for name in ("ana", "Ana ", "user:ana", " USER:Ana", "backfill:ana")} == {"ana"}


def test_who_started_a_backfill_asked_for_what_came_of_it() -> None:
    request = REQUEST.model_copy(update={"requesters": ["backfill:Ana"]})
    decision = decide(request, [ANA, OMAR], RULES, NOW, subject=SUBJECT, body=BODY)
    assert decision.reasons == ["ml_engineer: ana asked for this promotion and cannot approve it"]


names = st.sampled_from(["ana", "omar", "mia", "eve", "Ana", " OMAR "])
answers = st.builds(
    answer, st.sampled_from(["ml_engineer", "risk_officer", "other"]), st.none() | names, received=st.booleans(),
    chosen=st.lists(st.sampled_from(["Approve", "Refuse"]), max_size=2),
    body=st.sampled_from([BODY, "else"]), at=st.none() | st.just(NOW))


@given(st.lists(answers, max_size=5))
def test_approved_only_by_two_distinct_named_people_who_did_not_ask(given_answers: list[Answer]) -> None:
    decision = decide(REQUEST, given_answers, RULES, NOW, subject=SUBJECT, body=BODY)
    if decision.approved:
        people = {canonical_person(a.user) for a in decision.approvals}
        assert people == {"ana", "omar"}
        assert {a.role for a in decision.approvals} == set(RULES.approvers)
    else:
        assert decision.reasons
