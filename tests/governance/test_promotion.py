from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.people import People
from airgate.contracts.promotion import LONGEST_REASON, Answer, PromotionRequest
from airgate.governance.identities import Identities, canonical_person
from airgate.governance.promotion import decide, headline, impossible

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
RULES = PromotionSpec(approvers={"ml_engineer": ["ana", "mia"], "risk_officer": ["omar"]})
D = "sha256:" + "a" * 64
SAYS = {"ml_engineer": "I reviewed the evaluation. I accept.", "risk_officer": "I accept the risk."}
REQUEST = PromotionRequest(
    schema_version=2, model="m", version="2", environment="production", from_stage="development", model_digest=D, gates_hash=D,
    reports={"gates": D, "evaluation": D, "data_check": D}, statements=SAYS, verdict_event="e", expected_current="1",
    requesters=["user:mia"], requested_at=NOW, expires_at=NOW + timedelta(hours=72), code_version="c", nonce="n")
WHO = Identities(People.model_validate({
    "people": {"ana": {"aliases": ["ana.diaz", "17"]}, "mia": {"aliases": ["MIA@example.com"]}, "omar": {}},
    "service_accounts": ["svc-*"]}))


SUBJECT, BODY = "put m version 2 into production?", f"gates ... `{REQUEST.digest()}`"


def answer(role: str, user: str | None, **changes: object) -> Answer:
    return Answer.model_validate({"role": role, "received": True, "user": user, "chosen": ["Approve"], "at": NOW,
                                  "reason": "read it", "subject": headline(role, SUBJECT), "body": BODY, **changes})


ANA, OMAR = answer("ml_engineer", "ana"), answer("risk_officer", "omar")


def reasons(*answers: Answer, request: PromotionRequest = REQUEST, now: datetime = NOW) -> list[str]:
    decision = decide(request, answers, RULES, now, subject=SUBJECT, body=BODY, identities=WHO)
    assert decision.approved is (not decision.reasons)
    return decision.reasons


def test_two_named_people_who_did_not_ask() -> None:
    decision = decide(REQUEST, [ANA, OMAR], RULES, NOW, subject=SUBJECT, body=BODY, identities=WHO)
    assert decision.approved
    assert [(a.role, a.user, a.person, a.meaning, a.request_digest) for a in decision.approvals] == [
        ("ml_engineer", "ana", "ana", SAYS["ml_engineer"], REQUEST.digest()),
        ("risk_officer", "omar", "omar", SAYS["risk_officer"], REQUEST.digest())]


def test_nobody_answered() -> None:
    assert reasons() == ["ml_engineer: nobody answered (a timeout, or a task marked by hand, is no answer)",
                         "risk_officer: nobody answered (a timeout, or a task marked by hand, is no answer)"]


@pytest.mark.parametrize(("changed", "expected"), [
    (answer("risk_officer", "omar", received=False), "nobody answered"),
    (answer("risk_officer", None), "nobody answered"),
    (answer("risk_officer", "omar", at=None), "nobody answered"),
    (answer("risk_officer", "omar", chosen=["Refuse"], reason="recall is too low"),
     "risk_officer: omar refused: recall is too low"),
    (answer("risk_officer", "omar", chosen=["Refuse"], reason=" \n"), "risk_officer: omar refused without a reason"),
    (answer("risk_officer", "omar", reason="  "), "omar approved without a reason; an approval says what was looked at"),
    (answer("risk_officer", "omar", reason="x" * (LONGEST_REASON + 1)), "a reason of 4001 characters; at most 4000 are kept"),
    (answer("risk_officer", "omar", chosen=[]), "omar refused"),
    (answer("risk_officer", "omar", chosen=["Approve", "Refuse"]), "omar refused"),
    (answer("risk_officer", "eve"), "eve is not named for this role in model.yaml"),
    (answer("risk_officer", "omar", body="another text"), "is not the text of this request"),
    (answer("risk_officer", "omar", body=f"all fine `{REQUEST.digest()}`"), "is not the text of this request"),
    (answer("risk_officer", "omar", subject="risk officer: a mere formality"), "is not the text of this request"),
    (answer("risk_officer", "omar", subject=f"Only a drill. risk officer: {SUBJECT}"), "is not the text of this request"),
    (answer("risk_officer", "omar", subject=f"risk officer: Never {SUBJECT}"), "is not the text of this request"),
    (answer("risk_officer", "omar", subject=headline("ml_engineer", SUBJECT)), "is not the text of this request"),
    (answer("risk_officer", "omar", at=NOW + timedelta(hours=73)), "answered after the request had expired"),
])
def test_an_answer_that_does_not_count(changed: Answer, expected: str) -> None:
    found = reasons(ANA, changed)
    assert len(found) == 1
    assert expected in found[0]


def test_the_requester_cannot_approve_however_the_name_is_written() -> None:
    assert reasons(answer("ml_engineer", " Mia"), OMAR) == ["ml_engineer: mia asked for this promotion and cannot approve it"]


@pytest.mark.parametrize("account", ["mia@example.com", "Mia@Example.com ", "user:mia"])
def test_the_requester_cannot_approve_under_another_account(account: str) -> None:
    [reason] = reasons(answer("ml_engineer", account), OMAR)
    assert reason.endswith("asked for this promotion and cannot approve it")
    request = REQUEST.model_copy(update={"requesters": ["user:ana.diaz"]})
    assert reasons(ANA, OMAR, request=request) == ["ml_engineer: ana asked for this promotion and cannot approve it"]


def test_an_approval_under_an_alias_is_the_persons_and_names_the_account() -> None:
    decision = decide(REQUEST, [answer("ml_engineer", "Ana.Diaz"), OMAR], RULES, NOW, subject=SUBJECT, body=BODY, identities=WHO)
    assert decision.approved
    assert [(a.user, a.person) for a in decision.approvals] == [("Ana.Diaz", "ana"), ("omar", "omar")]


def test_one_person_in_both_roles_under_two_accounts() -> None:
    rules = PromotionSpec(approvers={"ml_engineer": ["ana"], "risk_officer": ["omar", "ana.diaz"]})
    decision = decide(REQUEST, [ANA, answer("risk_officer", "ana.diaz")], rules, NOW, subject=SUBJECT, body=BODY, identities=WHO)
    assert not decision.approved
    assert decision.reasons == ["ana and ana.diaz are one person, who answered in both roles: two different people must agree"]


def test_a_service_account_approves_nothing_even_where_model_yaml_names_it() -> None:
    rules = PromotionSpec(approvers={"ml_engineer": ["ana"], "risk_officer": ["svc-risk"]})
    decision = decide(REQUEST, [ANA, answer("risk_officer", "svc-risk")], rules, NOW, subject=SUBJECT, body=BODY, identities=WHO)
    assert decision.reasons == ["risk_officer: svc-risk is a service account; only a person can approve"]


def test_a_closed_people_file_knows_who_may_ask_and_answer() -> None:
    closed = Identities(People.model_validate({"closed": True, "people": {"ana": {}, "mia": {}}, "service_accounts": ["svc-*"]}))
    request = REQUEST.model_copy(update={"requesters": ["asset:m.validated", "user:eve", "user:svc-ci"]})
    decision = decide(request, [ANA, OMAR], RULES, NOW, subject=SUBJECT, body=BODY, identities=closed)
    assert decision.reasons == ["people.yaml is closed and does not name everybody who asked for this",
                                "risk_officer: omar is not in people.yaml, which is closed"]


def test_a_request_without_reports_is_asked_again() -> None:
    old = PromotionRequest(model="m", version="2", model_digest=D, gates_hash=D, evaluation_digest=D, verdict_event="e",
                           expected_current="1", requesters=["user:mia"], requested_at=NOW, expires_at=NOW + timedelta(hours=72),
                           code_version="c", nonce="n")
    assert reasons(ANA, OMAR, request=old) == [
        "an earlier release made this request, without the digests of its reports. Ask again"]


@pytest.mark.parametrize(("approvers", "expected"), [
    ({"a": ["ana"], "b": ["omar"]}, []),
    ({"a": ["ana"], "b": ["svc-risk"]}, ["promotion.approvers.b names nobody who may answer (svc-risk): people.yaml has them as "
                                         "service accounts, or is closed and does not name them"]),
    ({"a": ["ana"], "b": ["ana.diaz"]}, ["promotion.approvers names one person in both roles: by people.yaml all are accounts of "
                                         "ana. Two different people must agree"]),
])
def test_approvers_who_could_never_agree(approvers: dict[str, list[str]], expected: list[str]) -> None:
    assert list(impossible(PromotionSpec(approvers=approvers), WHO)) == expected


def test_one_person_in_both_roles() -> None:
    rules = PromotionSpec(approvers={"ml_engineer": ["ana"], "risk_officer": ["omar", "ana"]})
    decision = decide(REQUEST, [ANA, answer("risk_officer", "ANA")], rules, NOW, subject=SUBJECT, body=BODY, identities=WHO)
    assert not decision.approved
    assert decision.reasons == ["ana answered in both roles: two different people must agree"]


def test_an_expired_request() -> None:
    assert reasons(ANA, OMAR, now=NOW + timedelta(hours=73)) == ["the request expired at 2026-01-13 12:00 UTC"]


def test_canonical_person() -> None:
    assert {canonical_person(name) for name in ("ana", "Ana ", "user:ana", " USER:Ana", "backfill:ana")} == {"ana"}


def test_who_started_a_backfill_asked_for_what_came_of_it() -> None:
    request = REQUEST.model_copy(update={"requesters": ["backfill:Ana"]})
    decision = decide(request, [ANA, OMAR], RULES, NOW, subject=SUBJECT, body=BODY, identities=WHO)
    assert decision.reasons == ["ml_engineer: ana asked for this promotion and cannot approve it"]


names = st.sampled_from(["ana", "omar", "mia", "eve", "Ana", " OMAR ", "ana.diaz", "17", "mia@example.com", "svc-risk"])
answers = st.builds(
    answer, st.sampled_from(["ml_engineer", "risk_officer", "other"]), st.none() | names, received=st.booleans(),
    chosen=st.lists(st.sampled_from(["Approve", "Refuse"]), max_size=2),
    body=st.sampled_from([BODY, "else"]), at=st.none() | st.just(NOW))


@given(st.lists(answers, max_size=5))
def test_approved_only_by_two_distinct_named_people_who_did_not_ask(given_answers: list[Answer]) -> None:
    decision = decide(REQUEST, given_answers, RULES, NOW, subject=SUBJECT, body=BODY, identities=WHO)
    if decision.approved:
        assert {WHO.person(a.user) for a in decision.approvals} == {"ana", "omar"} == {a.person for a in decision.approvals}
        assert {a.role for a in decision.approvals} == set(RULES.approvers)
    else:
        assert decision.reasons
