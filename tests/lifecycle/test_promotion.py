import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from tests.lifecycle.conftest import MODEL, REPORT, Context, House

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate, GateResult, Verdict
from airgate.contracts.promotion import PromotionRequest
from airgate.errors import AuditError, PromotionError
from airgate.lifecycle.moves import Unsettled
from airgate.lifecycle.promotion import ApplyPromotion
from airgate.lifecycle.promotion_request import RequestPromotion

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def judged(house: House, spec: ModelSpec, version: str = "1", run: str = "t1", passed: bool = True, actor: str = "mia",
           production: str | None = None, candidate: Candidate | None = None) -> str:
    """A training, unless its candidate is given, and its verdict in the log; gives the verdict's event id."""
    from airgate.audit.event import Actor, TaskRef, task_event

    verdict = Verdict(candidate=candidate or house.trained(spec, version, run, actor), passed=passed, evaluation_digest=REPORT,
                      production_version=production,
                      gates=[GateResult(name="metric.roc_auc", passed=passed, evidence="0.98")])
    event = task_event("gate.verdict", TaskRef(dag_id=f"{MODEL}_validation", run_id=f"v-{run}", task_id="verdict", try_number=1),
                       actor=Actor(kind="asset", name="a"), source="operator", model=MODEL, version=version,
                       body=verdict.model_dump(mode="json", exclude={"event_id"}))
    house.log.append(event)
    return str(event.event_id)


def tasks(spec: ModelSpec) -> tuple[RequestPromotion, ApplyPromotion]:
    with DAG(f"{MODEL}_promotion"):
        return RequestPromotion(task_id="request", spec=spec), ApplyPromotion(task_id="apply", spec=spec)


def requested(house: House) -> PromotionRequest:
    return PromotionRequest.model_validate(house.log.events(kind="promotion.requested", newest_first=True, limit=1)[0].event.body)


def promote(house: House, spec: ModelSpec, context: Context, version: str, run: str) -> dict[str, Any]:
    event_id = judged(house, spec, version, f"t-{run}", production=live(house))
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", run=run, payloads=[{"event_id": event_id}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    return apply.execute(context("promotion", "apply", run=run))


def live(house: House) -> str | None:
    found = house.registry.live(MODEL)
    return found.version if found else None


def test_two_approvals_move_the_alias_and_every_act_is_on_record(house: House, spec: ModelSpec, context: Context) -> None:
    assert promote(house, spec, context, "1", "p1") == {"outcome": "applied", "version": "1", "reasons": []}
    assert live(house) == "1"
    assert house.kinds() == ["gate.verdict", "promotion.requested", "promotion.approved", "promotion.approved", "stage.moving",
                             "stage.moved"]
    approved = [item.event for item in house.log.events(kind="promotion.approved")]
    assert [(event.actor.kind, event.actor.name) for event in approved] == [("user", "ana"), ("user", "omar")]
    assert {event.body["request_digest"] for event in approved} == {requested(house).digest()}
    assert promote(house, spec, context, "2", "p2")["outcome"] == "applied"
    assert live(house) == "2"


def test_the_request_shows_the_gates_and_names_who_asked(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec, actor="ana")
    text = tasks(spec)[0].execute(context("promotion", "request", user="eve", payloads=[{"event_id": event_id}]))
    assert text["subject"] == "put diagnosis_classifier version 1 into production?"
    assert "- **metric.roc_auc** passed: 0.98" in text["body"]
    assert requested(house).requesters == ["user:ana", "user:eve"]
    assert requested(house).digest() in text["body"]


def test_a_repeated_request_is_the_same_request(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    request, _ = tasks(spec)
    first = request.execute(context("promotion", "request", payloads=[{"event_id": event_id}]))
    assert request.execute(context("promotion", "request", attempt=2, payloads=[{"event_id": event_id}])) == first
    assert house.kinds().count("promotion.requested") == 1


@pytest.mark.parametrize("payload", [{"event_id": "00000000-0000-0000-0000-000000000000"}, {"event_id": "../x"},
                                     {"event_id": "made up", "passed": True}])
def test_a_payload_that_names_no_verdict_of_the_log(house: House, spec: ModelSpec, context: Context, payload: Any) -> None:
    judged(house, spec)
    with pytest.raises(PromotionError, match="the audit log has no gate verdict"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[payload]))


def test_a_failed_verdict_cannot_be_promoted(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec, passed=False)
    with pytest.raises(PromotionError, match="version 1 did not pass: metric.roc_auc. It cannot be promoted"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))


def test_a_version_changed_in_mlflow_since_training(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    house.registry._client.set_model_version_tag(MODEL, "1", "airgate.digest", REPORT)
    with pytest.raises(PromotionError, match="Someone changed the version"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))


def test_nobody_answers_is_a_refusal_and_is_final(house: House, spec: ModelSpec, context: Context) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    first = apply.execute(context("promotion", "apply"))
    assert first["outcome"] == "refused"
    assert "ml_engineer: nobody answered" in first["reasons"][0]
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    assert apply.execute(context("promotion", "apply", attempt=2)) == first
    assert live(house) is None
    assert house.kinds()[-1] == "promotion.refused"


@pytest.mark.parametrize(("user", "option", "reason"), [
    ("omar", "Refuse", "risk_officer: omar refused: r"), ("mia", "Approve", "risk_officer: mia is not named for this role"),
    ("ana", "Approve", "risk_officer: ana is not named for this role")])
def test_an_answer_that_does_not_count(
        house: House, spec: ModelSpec, context: Context, user: str, option: str, reason: str) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", user, text, option)
    outcome = apply.execute(context("promotion", "apply"))
    assert outcome["outcome"] == "refused"
    assert reason in outcome["reasons"][0]
    assert live(house) is None


def test_answers_to_a_forged_text(house: House, spec: ModelSpec, context: Context) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    for role, user in (("ml_engineer", "ana"), ("risk_officer", "omar")):
        house.answer(role, user, {**text, "body": f"All fine. `{text['digest']}`"})
    assert "is not the text of this request" in apply.execute(context("promotion", "apply"))["reasons"][0]


def test_another_version_went_live_meanwhile(house: House, spec: ModelSpec, context: Context) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", run="p1", payloads=[{"event_id": judged(house, spec)}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    house.registry.set_alias(MODEL, "production", "2")
    with pytest.raises(Unsettled) as caught:
        apply.execute(context("promotion", "apply", run="p1"))
    assert str(caught.value) == (
        f"{MODEL}: production is version 2 in MLflow by no move on record; this promotion was asked for when it was none. "
        "The DAG registry_guard puts the alias back: run this task again after it.")
    assert live(house) == "2" and house.kinds()[-1] == "promotion.approved"
    house.registry.set_alias(MODEL, "production", None)
    assert apply.execute(context("promotion", "apply", run="p1", attempt=2))["outcome"] == "applied"


def test_the_loser_of_two_promotions_is_told_who_won(house: House, spec: ModelSpec, context: Context) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", run="p2", payloads=[{"event_id": judged(house, spec, "2", "t2")}]))
    promote(house, spec, context, "1", "p1")
    for role, user in (("ml_engineer", "ana"), ("risk_officer", "omar")):
        house.answer(role, user, text)
    outcome = apply.execute(context("promotion", "apply", run="p2"))
    assert outcome["outcome"] == "refused" and live(house) == "1"
    winner = rf"the promotion of version 1 to production by run p1 of {MODEL}_promotion \(ana, omar\), [-0-9: ]+ UTC"
    assert re.fullmatch(rf"{MODEL}: production is version 1 since {winner}; this promotion was asked for when it was none\. "
                        r"Ask again\.", outcome["reasons"][0])
    [refused] = house.log.events(kind="promotion.refused")
    assert b"omar" not in refused.entry  # what names people is sealed


def test_a_version_that_was_never_signed_does_not_move(house: House, spec: ModelSpec, context: Context) -> None:
    signed = f"{MODEL} version 1 is not signed"
    apply = answered(house, spec, context)
    with closing(sqlite3.connect(house.log.where)) as connection:  # as release 0.2.0 left it
        connection.execute("UPDATE airgate_events SET entry = NULL WHERE kind = 'model.signed'")
        connection.commit()
    with pytest.raises(AirflowFailException, match=signed):
        apply.execute(context("promotion", "apply"))
    assert live(house) is None


def test_the_move_names_its_signature(house: House, spec: ModelSpec, context: Context) -> None:
    promote(house, spec, context, "1", "p1")
    [moving], [moved] = house.log.events(kind="stage.moving"), house.log.events(kind="stage.moved")
    signature = house.log.get(str(moved.event.body["signature"]))
    assert signature and signature.event.body["request_digest"] == requested(house).digest()
    assert moving.event.body["signature"] == moved.event.body["signature"]
    assert moved.event.body["claim"] == str(moving.event.event_id)
    assert b'"ana"' not in moved.entry


def test_a_crash_between_the_move_and_its_record_is_finished_by_the_next_try(
        house: House, spec: ModelSpec, context: Context) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    house.registry.set_alias(MODEL, "production", "1")  # what the first try did before it was killed
    assert apply.execute(context("promotion", "apply", attempt=2))["outcome"] == "applied"
    assert house.kinds()[-1] == "stage.moved"
    assert live(house) == "1"


def test_no_request_no_move(house: House, spec: ModelSpec, context: Context) -> None:
    with pytest.raises(AirflowFailException, match="no promotion request from this run"):
        tasks(spec)[1].execute(context("promotion", "apply"))
    assert live(house) is None


def test_a_comparison_with_a_version_that_is_no_longer_live(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec, "2", "t2", production=None)
    assert promote(house, spec, context, "1", "p1")["outcome"] == "applied"
    with pytest.raises(PromotionError, match="version 2 was compared with version none, but version 1 is in production now"):
        tasks(spec)[0].execute(context("promotion", "request", run="p2", payloads=[{"event_id": event_id}]))


def test_a_verdict_from_another_dag_is_none(house: House, spec: ModelSpec, context: Context) -> None:
    event = house.log.get(judged(house, spec))
    assert event
    forged = event.event.model_copy(update={
        "event_id": UUID(int=7), "task": event.event.task.model_copy(update={"dag_id": "my_own"})})
    house.log.append(type(event.event).model_validate(forged.model_dump(mode="json")))
    with pytest.raises(PromotionError, match="from diagnosis_classifier_validation"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": str(forged.event_id)}]))


def test_whoever_changed_the_training_by_hand_asked_too(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    house.succeeded(f"{MODEL}_training", "t1", "train", {"state": "cleared"}, "omar", "manual.change", "api")
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": event_id}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    assert apply.execute(context("promotion", "apply"))["reasons"] == [
        "risk_officer: omar asked for this promotion and cannot approve it"]


def refuses(house: House, kind: str, when: str = "", *, now: bool = True) -> None:
    """Let the log's database refuse events of one kind, as a full disk would refuse all, or take them again."""
    with closing(sqlite3.connect(house.log.where)) as connection:
        connection.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON airgate_events WHEN NEW.kind = '{kind}' {when} "
                           "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END" if now else "DROP TRIGGER refuse")


def answered(house: House, spec: ModelSpec, context: Context) -> ApplyPromotion:
    """A promotion that everybody agreed to, ready to be applied."""
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    return apply


def test_with_the_log_down_nothing_is_decided_and_nothing_moves(
        house: House, spec: ModelSpec, context: Context, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = answered(house, spec, context)
    with monkeypatch.context() as down:
        down.setenv("AIRGATE_AUDIT_URL", "postgresql://ana@127.0.0.1:1/audit")
        down.setenv("AIRGATE_AUDIT_PATIENCE", "0.01")
        with pytest.raises(AuditError, match="the audit store at 127.0.0.1:1/audit failed"):
            apply.execute(context("promotion", "apply"))
    assert live(house) is None and not spool.exists()
    assert apply.execute(context("promotion", "apply", attempt=2))["outcome"] == "applied"


@pytest.mark.parametrize("kind", ["promotion.approved", "stage.moving"])
def test_what_cannot_be_recorded_before_the_move_stops_it(
        house: House, spec: ModelSpec, context: Context, spool: Path, kind: str) -> None:
    apply = answered(house, spec, context)
    refuses(house, kind)
    with pytest.raises(AuditError, match="the disk is full"):
        apply.execute(context("promotion", "apply"))
    assert live(house) is None and not spool.exists()
    assert kind not in house.kinds() and "stage.moved" not in house.kinds()
    refuses(house, kind, now=False)
    assert apply.execute(context("promotion", "apply", attempt=2))["outcome"] == "applied"
    assert house.kinds().count("promotion.approved") == 2 and live(house) == "1"


def test_a_move_that_cannot_be_recorded_as_done_is_no_success_and_is_finished_by_the_next_try(
        house: House, spec: ModelSpec, context: Context, spool: Path) -> None:
    apply = answered(house, spec, context)
    refuses(house, "stage.moved")
    with pytest.raises(AuditError, match="the disk is full"):
        apply.execute(context("promotion", "apply"))
    assert house.kinds()[-1] == "stage.moving" and not spool.exists()  # the log says what is under way
    refuses(house, "stage.moved", now=False)
    assert apply.execute(context("promotion", "apply", attempt=2))["outcome"] == "applied"
    assert house.kinds()[-1] == "stage.moved" and live(house) == "1"


def test_a_request_that_cannot_be_recorded_is_not_made(
        house: House, spec: ModelSpec, context: Context, spool: Path) -> None:
    event_id = judged(house, spec)
    refuses(house, "promotion.requested")
    with pytest.raises(AuditError, match="the disk is full"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))
    assert house.kinds() == ["gate.verdict"] and not spool.exists()


def test_an_interrupted_move_is_finished_even_after_the_request_expired(
        house: House, spec: ModelSpec, context: Context) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    no_aliases(house)
    with pytest.raises(Exception, match="MLflow is down"):
        apply.execute(context("promotion", "apply"))
    assert house.kinds()[-1] == "stage.moving"
    no_aliases(house, now=False)
    house.answers.clear()  # nobody is asked again
    assert apply.execute(context("promotion", "apply", attempt=2))["outcome"] == "applied"
    assert live(house) == "1"
    moved = house.log.events(kind="stage.moved")[0].event
    assert [one["user"] for one in moved.body["approvers"]] == ["ana", "omar"]


def no_aliases(house: House, *, now: bool = True) -> None:
    """Let MLflow's database refuse aliases, or take them again."""
    with closing(sqlite3.connect(house.folder / "mlflow.db")) as connection:
        connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON registered_model_aliases "
                           "BEGIN SELECT RAISE(ABORT, 'MLflow is down'); END" if now else "DROP TRIGGER refuse")
