"""The end of a run, put on record by Airflow's own DAG processor code from the request that its scheduler makes."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
import structlog
from airflow.api_fastapi.execution_api.datamodels import taskinstance
from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext, TaskCallbackRequest
from airflow.dag_processing.processor import _execute_dag_callbacks, _execute_task_callbacks
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airgate.audit.airflow_account import _run_of
from airgate.governance import policies

END = datetime(2026, 1, 8, 12, 30, 0, 123456, tzinfo=UTC)
VERSION = uuid4()
REFERENCE = {"asset": {"name": "rows", "uri": "x://rows", "extra": {}}, "extra": {}, "source_task_id": None,
             "source_dag_id": None, "source_run_id": None, "source_map_index": None, "source_aliases": [], "timestamp": END}


@pytest.fixture
def said():
    return []


@pytest.fixture
def dag(said):
    with DAG("d", schedule=None, on_failure_callback=lambda context: said.append(context["reason"])) as dag:
        EmptyOperator(task_id="t")
    policies.dag_policy(dag)
    return dag


def run(state="success", **fields):
    return taskinstance.DagRun(**{
        "dag_id": "d", "run_id": "manual__1", "logical_date": None, "data_interval_start": None, "data_interval_end": None,
        "run_after": END, "start_date": END - timedelta(minutes=1), "end_date": END, "run_type": "manual", "state": state,
        "conf": {"password": "hunter2"}, "triggering_user_name": "mia", "consumed_asset_events": [], "partition_key": None,
    } | fields)


def end(dag, run, task_id="t"):
    """What the DAG processor does when a run ended; without a task, Airflow tells nothing of the run."""
    ti = task_id and taskinstance.TaskInstance(
        id=uuid4(), dag_version_id=VERSION, task_id=task_id, dag_id="d", run_id=run.run_id, try_number=1, map_index=-1)
    _execute_dag_callbacks(SimpleNamespace(dags={"d": dag}), DagCallbackRequest(
        filepath="d.py", bundle_name="dags", bundle_version=None, dag_id="d", run_id=run.run_id,
        context_from_server=DagRunContext(dag_run=run, last_ti=ti), is_failure_callback=run.state == "failed", msg="why",
    ), structlog.get_logger())


@pytest.mark.parametrize("state", ["success", "failed"])
def test_the_end_of_a_run_is_recorded(store, dag, state):
    end(dag, run(state))
    [stored] = store.events()
    event = stored.event
    assert (event.kind, event.source, event.recovered, event.occurred_at) == ("run.ended", "callback", False, END)
    assert (event.actor.kind, event.actor.name) == ("user", "mia")
    assert event.task is None
    assert event.body == {
        "dag_id": "d", "run_id": "manual__1", "state": state, "run_type": "manual", "logical_date": None,
        "start": "2026-01-08T12:29:00.123456Z", "dag_version": str(VERSION), "reason": "why"}


def test_the_authors_own_callback_stays_and_runs_first(store, dag, said):
    end(dag, run("failed"))
    assert said == ["why"]
    assert len(store.events()) == 1
    assert dag.on_failure_callback[-1] is dag.on_success_callback[-1]


def test_the_conf_of_a_run_may_be_secret(store, dag):
    end(dag, run())
    assert b"hunter2" not in store.events()[0].entry


def test_one_end_has_one_event_and_a_run_that_was_cleared_ends_again(store, dag):
    end(dag, run())
    end(dag, run())
    end(dag, run(end_date=END + timedelta(minutes=5)))
    assert len(store.events()) == 2


def test_airflows_api_tells_of_the_same_end(store, dag):
    """What the sweep reads makes the same id, so it finds the callback's event."""
    end(dag, run())
    record = {"dag_id": "d", "dag_run_id": "manual__1", "state": "success", "run_type": "manual", "triggering_user_name": "mia",
              "start_date": None, "end_date": "2026-01-08T12:30:00.123456Z", "logical_date": None, "bundle_version": None}
    assert store.get(_run_of(record).ended_id) is not None


@pytest.mark.parametrize(("fields", "actor"), [
    ({"run_type": "scheduled", "triggering_user_name": None}, ("schedule", "d")),
    ({"run_type": "backfill", "triggering_user_name": "ana"}, ("backfill", "ana")),
    ({"run_type": "asset_triggered", "triggering_user_name": None, "consumed_asset_events": [REFERENCE]}, ("asset", "rows")),
])
def test_who_or_what_started_it(store, dag, fields, actor):
    end(dag, run(**fields))
    event = store.events()[0].event
    assert (event.actor.kind, event.actor.name) == actor


def test_a_run_of_which_airflow_tells_nothing_is_left_to_the_sweep(store, dag, caplog):
    end(dag, run(), task_id=None)
    assert store.events() == []
    [warning] = [record.getMessage() for record in caplog.records if record.name == "airgate.governance.run_callbacks"]
    assert warning.startswith("Not in the audit log: run.ended of d, run manual__1. Airflow did not say when it ended. The ")


def test_a_log_that_fails_is_an_error_that_names_what_is_missing(tmp_path, monkeypatch, dag, caplog):
    monkeypatch.setenv("AIRGATE_AUDIT_URL", f"sqlite:///{tmp_path}/nowhere.db")
    end(dag, run())
    [record] = [record for record in caplog.records if record.name == "airgate.governance.run_callbacks"]
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("Not in the audit log yet: run.ended of d, run manual__1. ")


def test_a_killed_task_that_the_dag_processor_reports_has_the_runs_actor(store, dag):
    policies.task_policy(dag.get_task("t"))
    ti = taskinstance.TaskInstance(
        id=uuid4(), dag_version_id=VERSION, task_id="t", dag_id="d", run_id="manual__1", try_number=1, map_index=-1)
    _execute_task_callbacks(SimpleNamespace(dags={"d": dag}), TaskCallbackRequest(
        filepath="d.py", bundle_name="dags", bundle_version=None, ti=ti, msg="no heartbeat", task_callback_type="failed",
        context_from_server=taskinstance.TIRunContext(
            dag_run=run("running", end_date=None), max_tries=0, variables=[], connections=[], xcom_keys_to_clear=[]),
    ), structlog.get_logger())
    [event] = [stored.event for stored in store.events()]
    assert (event.kind, event.source, event.actor.kind, event.actor.name) == ("task.failed", "callback", "user", "mia")
    assert event.body["dag_version"] == str(VERSION)
