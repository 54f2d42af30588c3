"""The policies as Airflow calls them: through its plugin manager, on a DAG that enters a DagBag."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, BaseOperator, task, task_group
from airflow.serialization.serialized_objects import DagSerialization
from airflow.settings import get_policy_plugin_manager

from airgate.governance import callbacks, policies
from airgate.governance.run_callbacks import on_run_ended

ROOT = Path(__file__).parents[2]
NAMES = ("execute", "success", "failure", "retry", "skipped")


@pytest.fixture(autouse=True)
def installed():
    """Register the module as Airflow does with an entry point."""
    manager = get_policy_plugin_manager()
    already = manager.is_registered(policies)
    if not already:
        manager.register(policies)
    manager.check_pending()
    yield
    if not already:
        manager.unregister(policies)


@pytest.fixture
def bag(tmp_path):
    return DagBag(tmp_path, collect_dags=False)


def train():
    import xgboost

    return xgboost


def test_the_entry_point_names_this_module():
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert import_module(entry_points["airflow.policy"]["airgate"]) is policies


def test_importing_the_policies_loads_next_to_nothing():
    code = ("import sys, airflow.settings, airgate.governance.policies; "
            "print(*sorted(name for name in sys.modules if name.partition('.')[0] == 'airgate'))")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "include")
    assert found.stdout.split() == ["airgate", "airgate.governance", "airgate.governance.policies"]


def test_a_dag_outside_the_gates_is_an_import_error_with_every_reason(bag):
    with DAG("wild", schedule=None) as dag:
        PythonOperator(task_id="one", python_callable=train)
        PythonOperator(task_id="two", python_callable=train)
    with pytest.raises(AirflowClusterPolicyViolation) as error:
        bag.bag_dag(dag)
    text = str(error.value)
    assert text.startswith("DAG 'wild' is refused: it breaks 2 rules that nobody may skip.\n- Task 'one' uses xgboost")
    assert "- Task 'two'" in text
    assert "wild" not in bag.dags


def test_a_file_with_such_a_dag_says_why_in_airflow(tmp_path):
    (tmp_path / "wild.py").write_text(
        "from airflow.sdk import dag, task\n"
        "@dag(schedule=None)\ndef wild():\n    @task\n    def fit():\n        import sklearn.svm\n    fit()\nwild()\n")
    bag = DagBag(tmp_path)
    [text] = bag.import_errors.values()
    assert "Task 'fit' uses sklearn in 'fit', outside any step" in text


def author(context):
    """A callback of an author's own."""


def every_kind_of_task():
    with DAG("tame", schedule=None, default_args={"on_failure_callback": [author]}) as dag:
        EmptyOperator(task_id="plain")
        EmptyOperator(task_id="own", on_success_callback=author, on_retry_callback=[author])
        PythonOperator.partial(task_id="mapped", python_callable=print).expand(op_args=[["a"], ["b"]])
        task(task_id="decorated")(lambda: None)()
        task(task_id="decorated_mapped", on_execute_callback=author)(lambda x: x).expand(x=[1, 2])
        ApprovalOperator(task_id="approval", subject="?")

        @task_group
        def group(x):
            EmptyOperator(task_id="inside")

        group.expand(x=[1, 2])
    return dag


def test_every_task_gets_every_callback_once(bag):
    dag = every_kind_of_task()
    bag.bag_dag(dag)
    bag.bag_dag(dag)
    assert len(dag.tasks) == 7
    for each in dag.tasks:
        for name in NAMES:
            assert list(getattr(each, f"on_{name}_callback")).count(getattr(callbacks, f"on_{name}")) == 1


def test_authors_callbacks_stay_and_come_first(bag):
    dag = every_kind_of_task()
    bag.bag_dag(dag)
    assert dag.get_task("own").on_success_callback == [author, callbacks.on_success]
    assert dag.get_task("own").on_retry_callback == [author, callbacks.on_retry]
    assert dag.get_task("decorated_mapped").on_execute_callback == [author, callbacks.on_execute]
    assert dag.get_task("plain").on_failure_callback == [author, callbacks.on_failure]
    assert dag.default_args["on_failure_callback"] == [author]


def test_every_dag_gets_its_callback_once_after_the_authors(bag):
    with DAG("own", schedule=None, on_success_callback=author, on_failure_callback=[author]) as own:
        EmptyOperator(task_id="t")
    dag = every_kind_of_task()
    for each in (own, dag, own):
        bag.bag_dag(each)
    assert (own.on_success_callback, own.on_failure_callback) == ([author, on_run_ended], [author, on_run_ended])
    assert (dag.on_success_callback, dag.on_failure_callback) == ([on_run_ended], [on_run_ended])


@pytest.mark.parametrize(("task_id", "kwargs"), [("mapped", {"op_args": ["a"]}), ("decorated_mapped", {"op_kwargs": {"x": 1}})])
def test_the_copies_of_a_mapped_task_carry_them(bag, task_id, kwargs):
    dag = every_kind_of_task()
    bag.bag_dag(dag)
    copy = dag.get_task(task_id).unmap(kwargs)
    assert isinstance(copy, BaseOperator)
    assert all(getattr(callbacks, f"on_{name}") in getattr(copy, f"on_{name}_callback") for name in NAMES)


def test_the_dag_can_still_be_serialized_and_says_that_it_has_callbacks(bag):
    dag = every_kind_of_task()
    bag.bag_dag(dag)
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert all(read.get_task(each.task_id).has_on_failure_callback for each in dag.tasks)
    assert read.has_on_success_callback
    assert read.has_on_failure_callback
