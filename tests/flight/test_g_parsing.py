"""A broken model and a forbidden DAG show as import errors of their own, and take nobody with them."""

from pathlib import Path

import pytest
from tests.flight.place import SECOND, Place, wait_until

from airgate.contracts.runs import FLOWS, dag_id
from airgate.platform.story import MODEL

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]


def import_errors(place: Place) -> dict[str, str]:
    """The text of each import error by the name of its file."""
    return {Path(error["filename"]).name: error["stack_trace"] for error in place.admin.get("importErrors")["import_errors"]}


@pytest.fixture(scope="module")
def errors(place: Place) -> dict[str, str]:
    def both() -> dict[str, str] | None:
        found = import_errors(place)
        return found if len(found) >= 2 else None

    return dict(wait_until(both, "both import errors"))


def test_a_broken_model_is_an_import_error_of_one_file(place: Place, errors: dict[str, str]) -> None:
    assert sorted(errors) == ["broken_models.py", "forbidden.py"]
    assert "third_opinion/model.yaml" in errors["broken_models.py"]
    assert "lookback_days" in errors["broken_models.py"]


def test_a_dag_that_breaks_a_policy_says_which_rule_and_what_to_do(place: Place, errors: dict[str, str]) -> None:
    assert "DAG 'forbidden' is refused" in errors["forbidden.py"]
    assert "Task 'fit' uses xgboost in 'fit', outside any step" in errors["forbidden.py"]
    assert "step(\"<model>.steps:<function>\"" in errors["forbidden.py"]


def test_every_other_dag_stays(place: Place, errors: dict[str, str]) -> None:
    sound = {dag_id(model, flow) for model in (MODEL, SECOND) for flow in FLOWS}
    sound |= {"audit_upkeep", "registry_guard", "morning_scores"}
    place.ready(*sound)
    assert {dag["dag_id"] for dag in place.admin.get("dags", limit=100)["dags"]} == sound
