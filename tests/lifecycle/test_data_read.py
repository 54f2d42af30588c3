"""The data that a version names is the data that the standard steps read, by the log; sign and verdict both ask."""

from typing import Any

import pytest
from tests.lifecycle.conftest import MODEL, Context, House
from tests.lifecycle.test_validation import compared, evidence, verdict_task

from airgate.audit.event import Actor, TaskRef, task_event
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.standard_steps import CHECK, LOAD
from airgate.errors import GateError
from airgate.lifecycle.sign import SignOperator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
READ = {"data_revision": "c0ffee", "data_hash": "d"}
OTHERS = [
    (LOAD, {**READ, "data_revision": "beef"}, "data_revision 'c0ffee', and by .*:load_window of run t1 read 'beef'"),
    (CHECK, {**READ, "data_hash": "e"}, "data_hash 'd', and by the audit log .*:check of run t1 read 'e'"),
    (CHECK, {}, "by the audit log airgate.steps.validate:check of run t1 read none that is on record"),
    (CHECK, {**READ, "data_revision": ["c0ffee"]}, "A step between them changed what it was told, or the run was cleared"),
]


def read(house: House, function: str, facts: Any) -> None:
    """A step of the training reads data once more, or says that it did."""
    ref = TaskRef(dag_id=f"{MODEL}_training", run_id="t1", task_id=function.rpartition(":")[2], try_number=2)
    house.log.append(task_event("task.succeeded", ref, source="operator", actor=Actor(kind="user", name="mia"), model=MODEL,
                                body={"function": function, "facts": facts}))


@pytest.mark.attack("a version: a step of the author's names other data than it was trained on, to be judged by that")
@pytest.mark.parametrize(("function", "facts", "said"), OTHERS)
def test_other_data_than_was_read(house: House, spec: ModelSpec, context: Context, function: str, facts: Any, said: str) -> None:
    compared(house, evidence(), house.trained(spec, signed=False))
    read(house, function, facts)
    with pytest.raises(GateError, match=said):
        SignOperator(task_id="sign", spec=spec).execute(context("training", "sign", run="t1"))
    with pytest.raises(GateError, match=said):
        verdict_task(spec).execute(context("validation", "verdict"))
    assert house.kinds() == [] and house.log.events(kind="model.signed") == []


def test_facts_of_the_authors_own_steps_count_for_nothing(house: House, spec: ModelSpec, context: Context) -> None:
    compared(house, evidence(), house.trained(spec))
    read(house, f"{MODEL}.steps:features", {"data_revision": "beef", "data_hash": "e"})
    assert verdict_task(spec).execute(context("validation", "verdict"))["passed"] is True
