from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from tests.lifecycle.conftest import DIGEST, MODEL, Context, House
from tests.lifecycle.moved import moved

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate
from airgate.contracts.standard_steps import COMPARE
from airgate.errors import ArtifactError, GateError
from airgate.lifecycle.candidate import CandidateOperator
from airgate.lifecycle.verdict import VerdictOperator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
SOUND = {"value": 0.98, "low": 0.96, "high": 0.99}


def evidence(**changes: Any) -> dict[str, Any]:
    return {"candidate": {"roc_auc": SOUND, "recall": SOUND, "brier": {"value": 0.03, "low": 0.01, "high": 0.05}},
            "production": None, "difference": None, "digest_verified": True, "candidate_digest": DIGEST, **changes}


def verdict_task(spec: ModelSpec) -> VerdictOperator:
    from airgate.authoring import assets

    with DAG(f"{MODEL}_validation"):
        return VerdictOperator(task_id="verdict", spec=spec, evidence=EmptyOperator(task_id="compare"),
                               outlets=[assets.validated(MODEL)])


def compared(house: House, found: dict[str, Any], candidate: Candidate, function: str = COMPARE,
             given: dict[str, Any] | None = None) -> dict[str, Any]:
    """The compare step's event; gives the reference to its output."""
    reference = house.artifact(found)
    parameters = {"candidate": candidate.model_dump(mode="json"), "production": {}, **(given or {})}
    house.succeeded(f"{MODEL}_validation", "run1", "compare",
                    {"output": reference, "function": function, "parameters": parameters})
    return reference


def test_the_candidate_is_what_the_log_says_not_what_the_payload_says(house: House, spec: ModelSpec, context: Context) -> None:
    real = house.trained(spec, "1", "t1")
    forged = {**real.model_dump(mode="json"), "version": "2", "digest": "sha256:" + "f" * 64}
    given = context("validation", "candidate", payloads=[forged])
    found = CandidateOperator(task_id="candidate", spec=spec).execute(given)
    assert (found["candidate"]["version"], found["candidate"]["digest"]) == ("1", DIGEST)
    assert found["production"] == {}
    assert given["ti"].pushed == found


def test_started_by_hand_it_takes_the_newest_candidate(house: House, spec: ModelSpec, context: Context) -> None:
    house.trained(spec, "1", "t1")
    house.trained(spec, "2", "t2")
    moved(house, f"{MODEL}_promotion", "p", {"to_version": "1", "model_digest": DIGEST})
    found = CandidateOperator(task_id="candidate", spec=spec).execute(context("validation", "candidate", user="mia"))
    assert found["candidate"]["version"] == "2"
    assert found["production"] == {"model": MODEL, "version": "1", "digest": DIGEST}


@pytest.mark.attack("validation: MLflow's alias is moved to a version of somebody's own, so that it is fetched for comparison")
def test_what_is_in_production_the_log_says_not_mlflow(house: House, spec: ModelSpec, context: Context) -> None:
    house.trained(spec)
    house.registry.set_alias(MODEL, "production", "2")
    found = CandidateOperator(task_id="candidate", spec=spec).execute(context("validation", "candidate", user="mia"))
    assert (found["production"], found["signatures"]["production"]) == ({}, {})


@pytest.mark.parametrize("run", ["unknown", "", "'; drop table events; --"])
def test_a_payload_from_no_training(house: House, spec: ModelSpec, context: Context, run: str) -> None:
    house.trained(spec)
    with pytest.raises(GateError, match="the audit log has no candidate of diagnosis_classifier from run"):
        CandidateOperator(task_id="candidate", spec=spec).execute(
            context("validation", "candidate", payloads=[{"training_run": run}]))


def test_a_pass_is_recorded_and_opens_a_promotion(house: House, spec: ModelSpec, context: Context) -> None:
    candidate = house.trained(spec)
    compared(house, evidence(), candidate)
    task, given = verdict_task(spec), context("validation", "verdict", payloads=[candidate.model_dump(mode="json")])
    payload = task.execute(given)
    event = house.log.events(kind="gate.verdict")[0].event
    assert (event.model, event.version, event.body["passed"]) == (MODEL, "1", True)
    assert payload["event_id"] == str(event.event_id)
    assert given["outlet_events"][task.outlets[0]].extra == payload


def test_a_failure_names_every_gate_that_failed_and_is_recorded(house: House, spec: ModelSpec, context: Context) -> None:
    candidate = house.trained(spec)
    compared(house, evidence(digest_verified=False, candidate={"roc_auc": {**SOUND, "low": 0.5}, "brier": SOUND}), candidate)
    given = context("validation", "verdict")
    task = verdict_task(spec)
    with pytest.raises(AirflowFailException) as caught:
        task.execute(given)
    said = str(caught.value).splitlines()
    assert said[0] == "diagnosis_classifier version 1 did not pass 4 of 7 gates:"
    assert [line.split(":")[0] for line in said[1:]] == [
        "- artifact_digest", "- metric.roc_auc", "- metric.recall", "- metric.brier"]
    assert house.log.events(kind="gate.verdict")[0].event.body["passed"] is False
    assert given["outlet_events"][task.outlets[0]].extra is None


def test_without_recorded_evidence_there_is_no_verdict(house: House, spec: ModelSpec, context: Context) -> None:
    house.trained(spec)
    house.succeeded(f"{MODEL}_validation", "run1", "compare", {}, source="callback")  # a task marked success by hand
    with pytest.raises(GateError, match="no evidence from task 'compare' of this run. A task marked success by hand"):
        verdict_task(spec).execute(context("validation", "verdict"))


def test_evidence_changed_in_the_store(house: House, spec: ModelSpec, context: Context) -> None:
    reference = compared(house, evidence(digest_verified=False), house.trained(spec))
    (house.folder / reference["digest"].removeprefix("sha256:")).write_text('{"digest_verified": true}')
    with pytest.raises(ArtifactError, match="the audit log says .*: the file was changed"):
        verdict_task(spec).execute(context("validation", "verdict"))


def test_thresholds_lowered_after_training(house: House, spec: ModelSpec, context: Context) -> None:
    compared(house, evidence(), house.trained(spec))
    lowered = spec.model_copy(update={"gates": spec.gates.model_copy(update={"confidence": 0.6})})
    with pytest.raises(AirflowFailException, match="thresholds_fixed: thresholds changed after training began"):
        verdict_task(lowered).execute(context("validation", "verdict"))


@pytest.mark.parametrize(("given", "name"), [
    ({"production": {"model": MODEL, "version": "9", "digest": DIGEST}}, "production"),
    ({"candidate": {"version": "2"}}, "candidate"), ({"candidate": None}, "candidate")])
def test_evidence_about_something_else_than_the_log_says(
        house: House, spec: ModelSpec, context: Context, given: dict[str, Any], name: str) -> None:
    compared(house, evidence(), house.trained(spec), given=given)
    with pytest.raises(GateError, match=f"was given another {name} than the audit log has"):
        verdict_task(spec).execute(context("validation", "verdict"))


def test_production_cannot_be_left_out_of_the_comparison(house: House, spec: ModelSpec, context: Context) -> None:
    moved(house, f"{MODEL}_promotion", "p", {
        "to_version": "1", "model_digest": DIGEST, "data_revision": "c", "window": {}})
    compared(house, evidence(), house.trained(spec))
    with pytest.raises(GateError, match="was given another production"):
        verdict_task(spec).execute(context("validation", "verdict"))


def test_evidence_of_a_step_that_is_not_the_comparison(house: House, spec: ModelSpec, context: Context) -> None:
    compared(house, evidence(), house.trained(spec), function="m.steps:flatter")
    with pytest.raises(GateError, match="comes from m.steps:flatter; only airgate.steps.evaluate:compare"):
        verdict_task(spec).execute(context("validation", "verdict"))
