"""When nobody is asked at all, and where a request leads its readers."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from tests.lifecycle.conftest import DIGEST, MODEL, Context, House
from tests.lifecycle.test_promotion import judged, promote, requested, tasks

from airgate.audit.event import Actor, AuditEvent, TaskRef, task_event
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.stages import ARCHIVED, StageMove
from airgate.errors import PromotionError
from airgate.lifecycle.promotion_request import links_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def test_a_version_in_production_is_not_asked_for_again(house: House, spec: ModelSpec, context: Context) -> None:
    assert promote(house, spec, context, "1", "p1")["outcome"] == "applied"
    event_id = judged(house, spec, run="t9", production="1")
    with pytest.raises(PromotionError, match="version 1 is in production already: there is nothing to ask for"):
        tasks(spec)[0].execute(context("promotion", "request", run="p2", payloads=[{"event_id": event_id}]))


def test_an_archived_version_is_not_asked_for(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    archived = StageMove(cause="archiving", stage=ARCHIVED, to_version="1", model_digest=DIGEST, reason="superseded")
    house.log.append(AuditEvent(event_id=uuid4(), kind="stage.moved", occurred_at=datetime.now(UTC), model=MODEL, version="1",
                                actor=Actor(kind="user", name="ana"), source="operator", body=archived.model_dump(mode="json")))
    with pytest.raises(PromotionError, match="version 1 was archived and cannot be promoted again: train a new one"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))


def test_an_alias_that_the_log_does_not_know_is_said(house: House, spec: ModelSpec, context: Context) -> None:
    house.registry._client.set_registered_model_alias("diagnosis_classifier", "production", "2")
    event_id = judged(house, spec, production="2")
    with pytest.raises(PromotionError, match="MLflow says that version 2 .* the last move on record put version none there"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))


@pytest.mark.parametrize(("people", "approvers", "expected"), [
    ("closed: true\npeople: {ana: {}, omar: {}}", {"a": ["ana"], "b": ["omar"]},
     "people.yaml is closed and does not name everybody who asked for this"),
    ("people: {ana: {aliases: [omar]}}", {"a": ["ana"], "b": ["omar"]}, "names one person in both roles: by people.yaml all are "
     "accounts of ana. Two different people must agree. Correct model.yaml, or the people file."),
    ("service_accounts: ['om*']", {"a": ["ana"], "b": ["omar"]}, r"promotion.approvers.b names nobody who may answer \(omar\)"),
])
def test_people_who_cannot_ask_or_never_agree(
        house: House, spec: ModelSpec, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: str,
        approvers: dict[str, list[str]], expected: str) -> None:
    (tmp_path / "people.yaml").write_text(people)
    monkeypatch.setenv("AIRGATE_PEOPLE", str(tmp_path / "people.yaml"))
    rules = spec.promotion.model_copy(update={"approvers": approvers})
    request = tasks(spec.model_copy(update={"promotion": rules}))[0]
    with pytest.raises(PromotionError, match=expected):
        request.execute(context("promotion", "request", user="eve", payloads=[{"event_id": judged(house, spec)}]))
    assert house.kinds() == ["gate.verdict"]


def judged_again(house: House, event_id: str, *, passed: bool, dag: str = f"{MODEL}_validation") -> str:
    """A later verdict on the same version; gives its event id."""
    found = house.log.get(event_id)
    assert found
    task = TaskRef(dag_id=dag, run_id="v-later", task_id="verdict", try_number=1)
    later = task_event("gate.verdict", task, actor=Actor(kind="asset", name="a"), source="operator", model=MODEL,
                       version=found.event.version, body={**found.event.body, "passed": passed})
    house.log.append(later)
    return str(later.event_id)


@pytest.mark.attack("a pass is requested that a later verdict overtook")
@pytest.mark.parametrize(("passed", "said"), [(False, "did not pass"), (True, "passed")])
def test_only_the_newest_verdict_on_a_version_counts(
        house: House, spec: ModelSpec, context: Context, passed: bool, said: str) -> None:
    first = judged(house, spec)
    later = judged_again(house, first, passed=passed)
    judged(house, spec, "2", "t2")  # a verdict on another version overtakes nothing
    with pytest.raises(PromotionError, match=f"verdict {first} of {MODEL} version 1 was overtaken: run v-later of "
                                             rf"{MODEL}_validation judged version 1 again at [-0-9: ]+ UTC, and it {said}\."):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": first}]))
    assert "promotion.requested" not in house.kinds()
    if passed:
        assert tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": later}]))["digest"]


def test_a_verdict_of_another_dag_overtakes_nothing(house: House, spec: ModelSpec, context: Context) -> None:
    first = judged(house, spec)
    judged_again(house, first, passed=False, dag="my_own")
    for payloads in ([{"event_id": first}], []):
        assert tasks(spec)[0].execute(context("promotion", "request", run=f"p{len(payloads)}", payloads=payloads))["digest"]


@pytest.mark.attack("a version is approved that failed its gates after the request")
def test_a_later_verdict_refuses_what_was_asked_for(house: House, spec: ModelSpec, context: Context) -> None:
    first = judged(house, spec)
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": first}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    judged_again(house, first, passed=False)
    [reason] = apply.execute(context("promotion", "apply"))["reasons"]
    assert reason.startswith("after this request run v-later of diagnosis_classifier_validation judged version 1 again at ")
    assert reason.endswith("and it did not pass")


@pytest.mark.attack("a pass is requested after the thresholds were changed")
def test_a_pass_by_other_thresholds_is_not_asked_about(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    stricter = spec.model_copy(update={"gates": spec.gates.model_copy(update={"confidence": 0.999})})
    with pytest.raises(PromotionError, match=r"version 1 passed thresholds sha256:[0-9a-f]{12}; in model\.yaml now are sha256:"
                                             r"[0-9a-f]{12}\. Nobody is asked about a version that was not held to them: train"):
        tasks(stricter)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))
    assert house.kinds() == ["gate.verdict"]


def test_the_environment_and_the_links_are_part_of_the_request(
        house: House, spec: ModelSpec, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_ENVIRONMENT", "staging")
    text = tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    assert requested(house).environment == "staging"
    assert requested(house).links == {"all records of the model": "/airgate/?model=diagnosis_classifier"}
    assert "[all records of the model](/airgate/?model=diagnosis_classifier)" in text["body"]


def test_a_link_to_mlflow_never_holds_the_password(house: House, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_MLFLOW_URI", "https://airgate:s3cret@mlflow.example.com:5000/ml/")
    assert links_of(house.trained(spec))["the version in MLflow"] == (
        "https://mlflow.example.com:5000/ml/#/models/diagnosis_classifier/versions/1")
