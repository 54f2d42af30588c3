from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, TaskGroup, task
from tests.authoring.conftest import heart_step, refusal

from airgate.authoring import catalog, step
from airgate.authoring.scaffold import create
from airgate.contracts.model_spec import Resources
from airgate.errors import SpecError
from airgate.runtime.plan import StepPlan

CODE = '''
def load(ctx: StepContext, revision: str | None = None) -> pd.DataFrame: ...
def features(data: pd.DataFrame) -> pd.DataFrame: ...
def train(data: pd.DataFrame, ctx: StepContext) -> Model: ...
def evaluate(model: Model, data: pd.DataFrame) -> dict[str, float]: ...
def publish(scores: dict[str, float], limit: float = 0.5, mode: Literal["fast", "exact"] = "fast") -> dict: ...
def silent() -> None: ...
def maybe(data: pd.DataFrame | None) -> None: ...
def taken(spec: str) -> None: ...
def export(model: Model) -> Path: ...
'''


@pytest.fixture
def dag(heart: Path, write_steps: Callable[[str], Path]) -> Iterator[DAG]:
    write_steps(CODE)
    with DAG("heart_training", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        yield dag


def plan(operator: Any) -> StepPlan:
    assert isinstance(operator.plan, StepPlan)
    return operator.plan


def test_a_chain_of_steps(dag: DAG) -> None:
    rows = heart_step("load", revision="abc")
    model = heart_step("train", data=rows)
    scores = heart_step("evaluate", model=model, data=rows)
    assert dag.task_ids == ["load", "train", "evaluate"]
    assert scores.upstream_task_ids == {"load", "train"}
    assert plan(rows).parameters == {"revision": "abc"}
    assert plan(scores) == StepPlan(function="heart.steps:evaluate", inputs={"model": "train", "data": "load"},
                                    spec=catalog.model("heart"), resources=Resources(memory="1Gi"), returns="json")
    assert plan(model).resources == Resources(cpu=2, memory="2Gi")
    assert plan(heart_step("train", task_id="big", data=rows, resources=Resources(gpu=1))).resources.gpu == 1


def test_task_ids_are_made_unique_and_groups_count(dag: DAG) -> None:
    first, second = heart_step("load"), heart_step("load")
    with TaskGroup("night"):
        third = heart_step("load")
        fourth = heart_step("features", task_id="prepare", data=third)
    assert [t.task_id for t in (first, second, third, fourth)] == ["load", "load__1", "night.load", "night.prepare"]
    assert plan(fourth).inputs == {"data": "night.load"}


def test_output_is_as_good_as_the_step(dag: DAG) -> None:
    features = heart_step("features", data=heart_step("load").output)
    assert plan(features).inputs == {"data": "load"}
    assert features.upstream_task_ids == {"load"}


def test_values_of_other_tasks_and_dag_parameters_are_resolved_at_run_time(dag: DAG) -> None:
    @task
    def numbers() -> dict[str, float]:
        return {"a": 1.0}

    given = numbers()
    limit = dag.param("limit", 0.5)
    first = heart_step("publish", scores=given, limit=limit)
    assert plan(first).json_inputs == {"scores": given, "limit": limit}
    assert plan(first).inputs == plan(first).parameters == {}
    assert first.upstream_task_ids == {"numbers"}
    second = heart_step("publish", scores=given["part"])
    assert second.upstream_task_ids == {"numbers"}
    third = heart_step("publish", scores=given.operator)
    assert plan(third).json_inputs["scores"].key == "return_value"


def test_a_step_gives_json_to_a_step_as_an_artifact(dag: DAG) -> None:
    rows = heart_step("load")
    scores = heart_step("evaluate", model=heart_step("train", data=rows), data=rows)
    assert plan(heart_step("publish", scores=scores)).inputs == {"scores": "evaluate"}


def test_emits_and_task_options_reach_the_operator(dag: DAG) -> None:
    asset = Asset("heart.published")
    operator = heart_step("publish", scores={"a": 1}, emits=asset,
                          task_options={"retries": 4, "trigger_rule": "all_done"})
    assert plan(operator).emits == asset
    assert operator.retries == 4
    assert operator.trigger_rule == "all_done"
    assert asset in operator.outlets


def test_the_spec_comes_from_the_reference_or_from_the_inputs(dag: DAG) -> None:
    create("lung", owner="mia")
    rows = heart_step("load")
    checked = step("airgate.steps.validate:check", data=rows)
    assert plan(checked).spec == catalog.model("heart")
    assert plan(step("airgate.steps.load:load_day")).spec is None
    given = step("airgate.steps.load:load_window", spec=catalog.model("lung"))
    assert plan(given).spec == catalog.model("lung")
    assert plan(step("lung.steps:features", data=rows)).spec == catalog.model("lung")


def test_a_broken_model_says_what_is_wrong(dag: DAG, heart: Path) -> None:
    (heart / "model.yaml").write_text("name: heart\nriks: 1\n")
    with pytest.raises(SpecError, match="unknown key 'riks'; did you mean 'risk'"):
        heart_step("load")
    (heart / "model.yaml").unlink()
    assert plan(heart_step("load")).spec is None


@pytest.mark.parametrize(("name", "given", "message"), [
    ("features", {"dta": "load"}, "step 'heart.steps:features': argument 'dta' does not exist; did you mean 'data'? "
                                  "Allowed: data. See "),
    ("load", {"ctx": 1}, "'ctx' is the StepContext; the runner gives it. Drop it."),
    ("evaluate", {"data": "load"}, "argument 'model' is missing; it wants a model. Write model=<the step that "),
    ("publish", {}, "argument 'scores' is missing; it wants a JSON value of type dict. Write scores=<a "),
    ("features", {"data": "rows.parquet"},
     "argument 'data' wants a table, which only a step can give, but is 'rows.parquet'"),
    ("publish", {"scores": {}, "limit": "high"},
     "argument 'limit' wants a JSON value of type float but is 'high', of type str."),
    ("publish", {"scores": {}, "mode": "slow"}, "argument 'mode' is 'slow'; allowed: 'fast', 'exact'."),
    ("taken", {}, "has an argument 'spec', a name that step() uses itself. Rename it. Taken: task_id, spec, emits,"),
    ("trian", {}, "has no function 'trian'; did you mean 'train'?"),
    ("silent", {"emits": 7}, "emits is int; give an airflow.sdk.Asset, for example airgate.authoring.assets.cand"),
    ("load", {"emits": Asset("x")}, "emits asset 'x' but gives a table; the event's payload is a dict."),
    ("silent", {"resources": {"cpu": 1}},
     "resources is dict; give airgate.contracts.resources.Resources(cpu=2, memory='4Gi')."),
    ("silent", {"task_options": {"outlets": []}}, "'outlets' is not set through task_options."),
])
def test_a_wrong_argument_names_the_nearest(dag: DAG, name: str, given: dict[str, Any], message: str) -> None:
    arguments = {key: heart_step("load") if value == "load" else value for key, value in given.items()}
    assert message in refusal(name, **arguments)


def test_a_wrong_edge_names_both_ends(dag: DAG) -> None:
    @task
    def other() -> int:
        return 1

    rows = heart_step("load")
    features = heart_step("features", data=rows)
    text = refusal("evaluate", model=features, data=rows)
    assert text == ("step 'heart.steps:evaluate': argument 'model' wants a model but heart.steps:features (task "
                    "'features') gives a table. It would fit: data.")
    assert "wants a table but heart.steps:silent (task 'silent') gives nothing. No argument" in refusal(
        "features", data=heart_step("silent"))
    assert "wants a table but task 'other' is no step and can give JSON only. Make it a step." in refusal(
        "features", data=other())
    assert "was given a part of what heart.steps:load gives" in refusal("features", data=rows.output["part"])
    both = rows.output.zip(features.output)
    assert "or several outputs in one. Pass the step itself." in refusal("features", data=both)
    assert "at [0], which is not JSON" in refusal("publish", scores=[rows])


def test_none_fits_an_optional_edge(dag: DAG) -> None:
    assert plan(heart_step("maybe", data=None)).parameters == {"data": None}


def test_a_task_of_another_dag_is_refused(dag: DAG) -> None:
    rows = heart_step("load")
    with DAG("other", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        assert "but 'load' is a task of another DAG. Tasks of one DAG can be joined" in refusal("features", data=rows)


def test_without_a_dag_it_is_refused(heart: Path) -> None:
    assert "no DAG is open here. Call step() inside 'with DAG(...):'." in refusal("features", data=1)
