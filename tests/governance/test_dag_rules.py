"""DAG rules, on real DAGs with real operators."""

import functools
from datetime import timedelta

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.sdk import DAG, BaseOperator, Param, task

from airgate.contracts.standard_steps import CHECK, PARTITION, PREDICT, PUBLISH, REGISTER
from airgate.governance.dag_rules import repository, violations
from airgate.runtime.operator import StepTask
from airgate.runtime.plan import StepPlan

# The standard provider's own sensor module imports a name that Airflow has moved.
pytestmark = pytest.mark.filterwarnings("ignore:The `airflow.utils.operator_helpers.determine_kwargs`")
LOAD, TRAIN, EVALUATE = "airgate.steps.load:load_window", "tumour.steps:train", "airgate.steps.evaluate:evaluate"


class Step(StepTask, BaseOperator):
    """A step operator without a runtime: what the rules see of one."""

    def __init__(self, *, plan: StepPlan, **options):
        super().__init__(**options)
        self.hold(plan)


class LiveModel(BaseOperator):
    airgate_role = "live_model"

    def execute(self, context):
        return {}


class Bundle(LiveModel):
    airgate_role = "bundle"


@pytest.fixture
def dag():
    with DAG("under_test", schedule=None) as dag:
        yield dag


def step(task_id, function, returns="table", json_inputs=None, parameters=None, **inputs):
    inputs = {name: source.task_id for name, source in inputs.items()}
    plan = StepPlan(function=function, returns=returns, inputs=inputs, json_inputs=json_inputs or {},
                    parameters=parameters or {})
    return Step(plan=plan, task_id=task_id)


def good_training():
    loaded = step("load", LOAD)
    checked = step("check", CHECK, data=loaded)
    trained = step("train", TRAIN, "model", data=checked)
    evaluated = step("evaluate", EVALUATE, "json", model=trained, data=checked)
    return step("register", REGISTER, "json", model=trained, evaluation=evaluated)


def test_training_with_check_evaluation_and_registration_is_allowed(dag):
    good_training()
    assert violations(dag) == []


def test_training_on_a_step_between_check_and_train_is_allowed(dag):
    checked = step("check", CHECK, data=step("load", LOAD))
    step("train", TRAIN, "model", data=step("features", "tumour.steps:features", data=checked))
    assert violations(dag) == []


def test_training_on_unchecked_data_names_the_task_that_brings_it(dag):
    step("train", TRAIN, "model", data=step("load", LOAD))
    assert violations(dag) == [
        "Task 'train' trains a model on 'data' from task 'load', which passes no data check. Put the check between them, "
        'checked = step("airgate.steps.validate:check", data=load), and train on what it gives.']


def test_a_check_beside_the_data_does_not_count(dag):
    loaded = step("load", LOAD)
    check = step("check", CHECK, data=loaded)
    train = step("train", TRAIN, "model", data=loaded)
    check >> train
    assert len(violations(dag)) == 1


def test_one_unchecked_table_among_checked_ones_is_found(dag):
    checked = step("check", CHECK, data=step("load", LOAD))
    joined = step("join", "tumour.steps:join", left=checked, right=step("more", LOAD))
    step("train", TRAIN, "model", data=joined)
    assert "from task 'more'" in violations(dag)[0]


def test_training_that_reads_by_itself_is_refused(dag):
    step("train", TRAIN, "model")
    assert "takes no checked data" in violations(dag)[0]


def test_a_step_that_fetches_a_model_instead_of_training_it_is_refused(dag):
    fetched = step("fetch", "tumour.steps:download", "model")
    step("score", "tumour.steps:score", "table", model=fetched, data=step("check", CHECK, data=step("load", LOAD)))
    assert "'fetch' trains a model (tumour.steps:download) but takes no checked data" in violations(dag)[0]


def test_a_models_own_argument_may_be_called_live(dag):
    step("report", "tumour.steps:report", "json", parameters={"live": True})
    assert violations(dag) == []


@pytest.mark.parametrize("function", ["airgate.steps.drift:check", "airgate.steps.load:load_reference"])
def test_whatever_takes_the_live_model_takes_the_verified_one(dag, function):
    step("compare", function, "json", json_inputs={"live": EmptyOperator(task_id="choose").output})
    assert "gets its 'live' from task 'choose'" in violations(dag)[0]


def test_an_import_of_a_verified_bundle_is_allowed(dag):
    step("unpack", "airgate.steps.import_bundle:unpack", "model", json_inputs={"bundle": Bundle(task_id="take").output})
    assert violations(dag) == []


@pytest.mark.parametrize("given", ["other task", "literal"])
def test_an_import_of_any_other_bundle_is_refused(dag, given):
    options = {"json_inputs": {"bundle": EmptyOperator(task_id="choose").output}} if given == "other task" else \
        {"parameters": {"bundle": {"digest": "x"}}}
    step("unpack", "airgate.steps.import_bundle:unpack", "model", **options)
    assert violations(dag) == [
        "Task 'unpack' (airgate.steps.import_bundle:unpack) imports a model from a bundle that nobody verified. Give it the "
        "output of TakeBundle(spec=...), as dags/bundle_import.py does."]


def test_registering_without_a_trained_model_is_refused(dag):
    step("register", REGISTER, "json", model=step("fetch", "tumour.steps:fetch", "file"))
    assert "no step of this DAG trained" in violations(dag)[0]


def test_registering_with_another_models_evaluation_is_refused(dag):
    checked = step("check", CHECK, data=step("load", LOAD))
    first, second = (step(name, TRAIN, "model", data=checked) for name in ("first", "second"))
    evaluated = step("evaluate", EVALUATE, "json", model=second, data=checked)
    step("register", REGISTER, "json", model=first, evaluation=evaluated)
    assert violations(dag) == [
        "Task 'register' registers the model of 'first' without an evaluation of that model. Give both the same model: "
        'evaluated = step("airgate.steps.evaluate:evaluate", model=first, ...), then register(model=first, '
        "evaluation=evaluated)."]


def test_predicting_with_the_live_model_is_allowed(dag):
    live = LiveModel(task_id="live")
    step("predict", PREDICT, "json", json_inputs={"live": live.output})
    assert violations(dag) == []


@pytest.mark.parametrize("given", ["literal", "other task", "run parameter", "nothing"])
def test_predicting_with_any_other_model_is_refused(dag, given):
    json_inputs, parameters = {}, {}
    if given == "literal":
        parameters = {"live": {"version": "3"}}
    elif given == "other task":
        json_inputs = {"live": EmptyOperator(task_id="choose").output}
    elif given == "run parameter":
        dag.params["version"] = Param("3")
        json_inputs = {"live": dag.param("version")}
    step("predict", PREDICT, "json", json_inputs=json_inputs, parameters=parameters)
    [text] = violations(dag)
    expected = "from task 'choose'" if given == "other task" else "as a value that nobody verified"
    assert expected in text
    assert "LiveModelOperator" in text


def imports_inside():
    import xgboost

    return xgboost


def imports_in_a_nested_function():
    def inner():
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression

    return inner


def calls_a_helper():
    return imports_inside()


def imports_by_name():
    import importlib

    return importlib.import_module("mlflow")


def imports_a_step():
    from airgate.steps import train_xgboost

    return train_xgboost


def imports_a_model():
    from models.tumour.steps import train

    return train


def harmless():
    import json
    import math

    return json.dumps(math.pi)


def mentions_it():
    return "mlflow is not imported here"


GUILTY = [imports_inside, imports_in_a_nested_function, calls_a_helper, imports_by_name, imports_a_step, imports_a_model,
          functools.partial(imports_inside), functools.partial(map, imports_inside), lambda: __import__("torch")]


@pytest.mark.parametrize("function", GUILTY)
def test_machine_learning_in_a_python_callable_is_refused(dag, function):
    PythonOperator(task_id="work", python_callable=function)
    [text] = violations(dag)
    assert text.startswith("Task 'work' uses ")
    assert "Write it as a step" in text


@pytest.mark.parametrize("make", [
    lambda: BranchPythonOperator(task_id="t", python_callable=imports_inside),
    task(task_id="t")(imports_inside),
    task.branch(task_id="t")(imports_inside),
    lambda: task.sensor(task_id="t")(imports_inside)(),  # noqa: PLW0108 - importing sensors warns
    lambda: task(task_id="t")(takes_one).expand(x=[1, 2]),
    lambda: EmptyOperator(task_id="t", pre_execute=lambda context: imports_inside()),
])
def test_every_kind_of_callable_is_looked_into(dag, make):
    make()
    assert len(violations(dag)) == 1


def takes_one(x):
    import torch

    return torch.tensor(x)


def test_an_operator_class_of_the_authors_own_is_looked_into(dag):
    class Trainer(BaseOperator):
        def execute(self, context):
            return imports_inside()

    Trainer(task_id="t")
    assert "uses xgboost in operator class 'Trainer'" in violations(dag)[0]


@pytest.mark.parametrize("function", [harmless, mentions_it, len, functools.partial(print, "x"), timedelta])
def test_ordinary_callables_are_left_alone(dag, function):
    PythonOperator(task_id="work", python_callable=function)
    assert violations(dag) == []


@pytest.mark.parametrize("command", [
    "mlflow run .", "cd /srv && mlflow server", "exec mlflow ui", "TRACK=1 /opt/bin/mlflow run .", "torchrun train.py",
    "python -m sklearn.thing", "python3 -u -m airgate.steps.runner x.json", "python -c 'import xgboost; xgboost.train()'",
])
def test_machine_learning_in_a_shell_command_is_refused(dag, command):
    BashOperator(task_id="work", bash_command=command)
    assert "in a shell command" in violations(dag)[0]


@pytest.mark.parametrize("command", [
    "echo 'mlflow is up'", "curl http://mlflow:5000/health", "pip install mlflow", "ls /data/xgboost/", "airgate audit verify",
    "python report.py", "grep -c mlflow log.txt",
])
def test_other_shell_commands_are_left_alone(dag, command):
    BashOperator(task_id="work", bash_command=command)
    assert violations(dag) == []


def test_the_steps_image_outside_a_step_is_refused(dag, monkeypatch):
    monkeypatch.setenv("AIRGATE_STEPS_IMAGE", "registry:5000/airgate-steps:0.1.0")

    class Pod(BaseOperator):
        def __init__(self, *, image, **options):
            super().__init__(**options)
            self.image = image

    Pod(task_id="same", image="registry:5000/airgate-steps@sha256:00")
    Pod(task_id="other", image="registry:5000/report:1")
    [text] = violations(dag)
    assert text.startswith("Task 'same' runs the steps image")


def test_a_plan_on_an_operator_that_is_no_step_is_no_step(dag):
    class Pretender(BaseOperator):
        plan = StepPlan(function=CHECK, returns="table")

    step("train", TRAIN, "model", data=Pretender(task_id="check"))
    assert "from task 'check'" in violations(dag)[0]


def test_a_dag_without_steps_is_left_alone(dag):
    first, last = EmptyOperator(task_id="first"), EmptyOperator(task_id="last")
    first >> PythonOperator(task_id="work", python_callable=harmless) >> last
    assert violations(dag) == []


@pytest.mark.parametrize(("image", "expected"), [
    ("a", "a"), ("a:1", "a"), ("host:5000/a", "host:5000/a"), ("host:5000/a:1@sha256:ff", "host:5000/a")])
def test_repository_of_an_image(image, expected):
    assert repository(image) == expected


def test_only_what_the_standard_steps_cut_and_scored_is_published(dag):
    live = {"live": LiveModel(task_id="live_model").output}
    parts = step("partition", PARTITION, "json")
    step("predict", PREDICT, "json", json_inputs=live, part=parts)

    def publishing(task_id, parts, predicted):
        plan = StepPlan(function=PUBLISH, returns="json", json_inputs=live, inputs={"parts": parts},
                        gathers={"predicted": predicted})
        Step(plan=plan, task_id=task_id)

    publishing("publish", "partition", "predict")
    assert violations(dag) == []
    step("mine", "tumour.steps:score", "json")
    publishing("forged", "mine", "mine")
    assert violations(dag) == [
        f"Task 'forged' ({PUBLISH}) takes its '{name}' from something else than {function}. Publish only what that step gives, "
        "as dags/batch_inference.py does." for name, function in (("predicted", PREDICT), ("parts", PARTITION))]
