"""What a role is asked, and who may answer."""

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.param import process_params

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import APPROVE, REFUSE
from airgate.errors import ConfigError
from airgate.lifecycle.approval import ask

PEOPLE = "people: {ana: {aliases: ['17', svc-ana]}, omar: {}}\nservice_accounts: ['svc-*']\n"


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    monkeypatch.setenv("AIRGATE_PEOPLE", str(path))
    return path


def asked(spec: ModelSpec, role: str, names: list[str]) -> Any:
    approvers = {**spec.promotion.approvers, role: names}
    with DAG("diagnosis_classifier_promotion") as dag:
        task = ask(spec.model_copy(update={"promotion": spec.promotion.model_copy(update={"approvers": approvers})}), role)
    return dag.get_task(task.task_id)


def test_a_person_may_answer_under_each_account_but_a_programs(spec: ModelSpec, people: Path) -> None:
    task = asked(spec, "ml_engineer", ["ana", "eve"])
    assert [user["id"] for user in task.assigned_users] == ["ana", "17", "eve"]
    assert (task.options, task.defaults) == ([APPROVE, REFUSE], None)


def test_nobody_able_is_never_everybody(spec: ModelSpec, people: Path) -> None:
    assert [user["id"] for user in asked(spec, "ml_engineer", ["svc-risk"]).assigned_users] == ["svc-risk"]


def test_the_form_demands_a_reason_and_the_task_can_start_without_one(spec: ModelSpec, people: Path) -> None:
    task = asked(spec, "ml_engineer", ["ana"])
    schema = task.serialized_params["reason"]["schema"]
    assert (schema["minLength"], schema["maxLength"]) == (3, 4000)
    # what Airflow does before a task starts, when the form is still empty
    assert process_params(task.dag, task, {}, suppress_exception=False) == {"reason": ""}


def test_a_wrong_people_file_is_an_import_error_of_the_promotions(spec: ModelSpec, people: Path) -> None:
    people.write_text("people: {ana: {aliases: [omar]}, omar: {}}")
    with pytest.raises(ConfigError, match="'omar' stands at people.ana and at people.omar"):
        asked(spec, "ml_engineer", ["ana"])
