"""The governance callbacks, run by Airflow's own task runner against a real audit store."""

import logging
import os
from types import SimpleNamespace

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance, _run_task_state_change_callbacks
from airflow.sdk.log import mask_secret

from airgate.governance import callbacks, policies
from airgate.runtime.operator import StepTask
from airgate.runtime.plan import StepPlan

KINDS = {"execute": "task.started", "success": "task.succeeded", "failure": "task.failed", "retry": "task.retrying",
         "skipped": "task.skipped"}


class Step(StepTask, BaseOperator):
    def __init__(self, **options):
        super().__init__(**options)
        self.hold(StepPlan(function="tumour.steps:train", returns="model"))


def context(task, map_index=-1, **extra):
    policies.task_policy(task)
    ti = RuntimeTaskInstance.model_construct(
        dag_id="d", run_id="manual__1", task_id=task.task_id, try_number=2, map_index=map_index, task=task)
    run = SimpleNamespace(dag_id="d", run_id="manual__1", run_type="manual", triggering_user_name="ana")
    return {"task": task, "ti": ti, "dag_run": run, "outlet_events": {}, **extra}


def run(name, context):
    """Run one kind of callback as the task runner does."""
    _run_task_state_change_callbacks(context["task"], f"on_{name}_callback", context, logging.getLogger("task"))


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_each_callback_records_its_event(store, name, kind):
    run(name, context(EmptyOperator(task_id="t"), map_index=3))
    [event] = [stored.event for stored in store.events()]
    assert (event.kind, event.source, event.recovered) == (kind, "callback", False)
    assert (event.actor.kind, event.actor.name) == ("user", "ana")
    assert event.task.model_dump() == {
        "dag_id": "d", "run_id": "manual__1", "task_id": "t", "map_index": 3, "try_number": 2}
    assert event.body["operator"] == "EmptyOperator"


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_a_callback_that_runs_twice_records_once(store, name, kind):
    now = context(EmptyOperator(task_id="t"))
    run(name, now)
    run(name, now)
    assert [stored.event.kind for stored in store.events()] == [kind]


@pytest.mark.parametrize("name", ["failure", "retry"])
def test_a_failure_is_told_without_its_secrets_and_not_at_any_length(store, name):
    mask_secret("hunter2-hunter2")
    error = ValueError("login with hunter2-hunter2 failed\x00 " + "x" * 5000)
    run(name, context(EmptyOperator(task_id="t"), exception=error))
    [event] = [stored.event for stored in store.events()]
    assert event.body["error"] == "ValueError"
    assert event.body["message"].startswith("login with *** failed ")
    assert len(event.body["message"]) == callbacks.MESSAGE_LIMIT


def test_a_step_records_its_own_start_and_success(store):
    for name in ("execute", "success"):
        run(name, context(Step(task_id="t")))
    assert store.events() == []


@pytest.mark.parametrize("name", ["failure", "retry", "skipped"])
def test_what_happens_to_a_step_outside_its_own_code_is_recorded(store, name):
    run(name, context(Step(task_id="t"), exception=RuntimeError("template")))
    assert [stored.event.kind for stored in store.events()] == [KINDS[name]]


def test_the_operators_own_record_is_left_alone(store):
    now = context(Step(task_id="t"), exception=RuntimeError("late word"))
    from airgate.runtime import record

    first = record.task_event(now["ti"], "task.failed", "operator", record.actor_of(now["dag_run"]), {"ended": "signal 9"})
    store.append(first)
    run("failure", now)
    assert [stored.event for stored in store.events()] == [first]


def test_the_dag_processor_may_not_know_the_run(store):
    now = context(EmptyOperator(task_id="t"))
    del now["dag_run"]
    run("failure", now)
    [event] = [stored.event for stored in store.events()]
    assert (event.actor.kind, event.actor.name) == ("system", "dag processor")


MISSING = "task.succeeded of d, run manual__1, task t, try 2, map index -1"


def said(caplog):
    [record] = [record for record in caplog.records if record.name == "airgate.governance.callbacks"]
    assert record.levelname == "ERROR"
    return record.getMessage()


def test_while_the_log_is_down_events_wait_in_the_spool(store, spool, monkeypatch, caplog):
    url = os.environ["AIRGATE_AUDIT_URL"]
    monkeypatch.setenv("AIRGATE_AUDIT_URL", "postgresql://ana:s3cret@127.0.0.1:1/audit")
    monkeypatch.setenv("AIRGATE_AUDIT_PATIENCE", "0.01")
    run("success", context(EmptyOperator(task_id="t")))
    assert said(caplog).startswith(f"Not in the audit log yet: {MISSING}. the audit store at 127.0.0.1:1/audit failed: ")
    assert said(caplog).endswith(f"It waits in the spool {spool} and is recorded when the log is back.")
    monkeypatch.setenv("AIRGATE_AUDIT_URL", url)
    run("success", context(EmptyOperator(task_id="u")))
    assert [(stored.event.kind, stored.event.task.task_id) for stored in store.events()] == [
        ("task.succeeded", "u"), ("task.succeeded", "t")]


def test_what_can_be_neither_recorded_nor_kept_is_an_error_that_names_what_is_missing(spool, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("AIRGATE_AUDIT_URL", f"sqlite:///{tmp_path}/nowhere.db")
    spool.write_text("not a folder")
    run("success", context(EmptyOperator(task_id="t")))
    assert said(caplog).startswith(f"Not in the audit log: {MISSING}. there is no audit log at ")
    assert f"the audit spool {spool} cannot keep an event" in said(caplog)
    assert "The audit sweep adds" in said(caplog)


def test_the_model_is_named_where_the_task_knows_it(store):
    from airgate.contracts.model_spec import ModelSpec

    spec = ModelSpec.model_construct(name="tumour")
    task = EmptyOperator(task_id="t")
    task.spec = spec
    run("success", context(task))
    assert store.events(model="tumour")
