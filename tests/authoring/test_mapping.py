from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.definitions.mappedoperator import MappedOperator
from tests.authoring.conftest import heart_step, refusal

from airgate.authoring.mapping import plan_of

CODE = '''
def days(ctx: StepContext) -> list[str]: ...
def load(ctx: StepContext) -> pd.DataFrame: ...
def score(day: str, data: pd.DataFrame, limit: float = 0.5) -> dict[str, float]: ...
def rows(day: str) -> pd.DataFrame: ...
def features(data: pd.DataFrame) -> pd.DataFrame: ...
def train(data: pd.DataFrame, ctx: StepContext) -> Model: ...
def evaluate(model: Model, data: pd.DataFrame) -> dict[str, float]: ...
def join(scored: list[dict[str, float]]) -> dict: ...
def one(scored: dict[str, float]) -> dict: ...
'''


@pytest.fixture
def dag(heart: Path, write_steps: Callable[[str], Path]) -> Iterator[DAG]:
    write_steps(CODE)
    with DAG("heart_scoring", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        yield dag


def test_a_step_is_mapped_over_a_list_and_the_next_gathers(dag: DAG) -> None:
    days, rows = heart_step("days"), heart_step("load")
    scored = heart_step("score", day=days, data=rows, each="day", task_options={"max_active_tis_per_dag": 3, "retries": 4})
    joined = heart_step("join", scored=scored.output)
    assert isinstance(scored, MappedOperator)
    assert scored.max_active_tis_per_dag == 3 and scored.retries == 4
    plan, last = plan_of(scored), plan_of(joined)
    assert plan and last
    assert (plan.each, plan.inputs, plan.gathers) == ("day", {"day": "days", "data": "load"}, {})
    assert (last.each, last.inputs, last.gathers) == (None, {}, {"scored": "score"})
    assert scored.upstream_task_ids == {"days", "load"} and joined.upstream_task_ids == {"score"}
    assert plan.spec and last.spec and plan.spec.name == last.spec.name == "heart"


def test_what_airflow_keeps_of_a_mapped_step_is_the_same_each_time(dag: DAG) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    heart_step("score", day=heart_step("days"), data=heart_step("load"), each="day")
    tasks = {task["__var"]["task_id"]: task["__var"] for task in DagSerialization.to_dict(dag)["dag"]["tasks"]}
    kept = tasks["score"]
    assert kept["_is_mapped"] is True
    assert kept["partial_kwargs"]["plan"] == "plan of heart.steps:score"
    assert kept["partial_kwargs"]["map_index_template"] == "{{ (task.item.name or task.item) | string | truncate(100) }}"
    assert kept["expand_input"]["value"]["__var"]["item"]["__var"] == {"task_id": "days", "key": "return_value"}


def test_what_cannot_be_mapped_is_refused(dag: DAG) -> None:
    rows, days = heart_step("load"), heart_step("days")
    assert "each is 'dya', which is no argument; did you mean 'day'?" in refusal("score", day=days, data=rows, each="dya")
    wanted = "each='day' makes a task for each item of a list, so that argument takes the output of one step that gives a " \
             "list. Write day=<the step that returns the list>."
    assert wanted in refusal("score", day="2026-01-01", data=rows, each="day")
    assert wanted in refusal("score", day=dag.param("day", "x"), data=rows, each="day")
    assert "each='data' makes a task for each item" in refusal("score", day="x", data=rows, each="data")
    mapped = heart_step("score", day=days, data=rows, each="day")
    assert "each='scored' makes a task for each item" in refusal("join", scored=mapped, each="scored")
    emits = refusal("score", day=days, data=rows, each="day", emits=Asset("heart.scores"))
    assert "is mapped (each='day') and cannot emit asset 'heart.scores': each of its tasks would" in emits
    for name in ("item", "items", "map_index_template"):
        assert f"'{name}' is not set through task_options" in refusal("days", task_options={name: 1})


def test_what_cannot_be_gathered_is_refused(dag: DAG) -> None:
    days = heart_step("days")
    scored = heart_step("score", day=days, data=heart_step("load"), each="day")
    assert ("argument 'scored' wants a JSON value of type dict, but 'score' is mapped and gives a list, a value for each of its "
            "tasks. Annotate it as list[...].") in refusal("one", scored=scored)
    tables = heart_step("rows", day=days, each="day")
    assert ("argument 'scored' gathers what the tasks of 'rows' give, and each gives a table. Only JSON values are gathered: let "
            "them return where they put it.") in refusal("join", scored=tables)
