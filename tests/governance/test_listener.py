"""The listener notes effects through Airflow's own hook manager, and does nothing outside a person's request."""

from types import SimpleNamespace

import pytest
from airflow._shared.listeners.listener import ListenerManager
from airflow._shared.listeners.spec import taskinstance
from airflow.listeners.spec import dagrun

from airgate.governance import listener
from airgate.governance.manual import Effect, classify, current

TI = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=None, try_number=2)


@pytest.fixture
def hook():
    manager = ListenerManager()
    manager.add_hookspecs(taskinstance)
    manager.add_hookspecs(dagrun)
    manager.add_listener(listener)
    return manager.hook


@pytest.fixture
def request_under_way():
    request = classify("PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/t")
    token = current.set(request)
    yield request
    current.reset(token)


def test_every_state_that_a_person_can_set_is_noted(hook, request_under_way):
    hook.on_task_instance_success(previous_state=None, task_instance=TI)
    hook.on_task_instance_failed(previous_state=None, task_instance=TI, error="by hand")
    hook.on_task_instance_skipped(previous_state=None, task_instance=TI)
    hook.on_dag_run_success(dag_run=TI, msg="by hand")
    hook.on_dag_run_failed(dag_run=TI, msg="by hand")
    assert request_under_way.effects == [
        *(Effect("d", "r", state, "t", -1, 2) for state in ("success", "failed", "skipped")),
        Effect("d", "r", "success"), Effect("d", "r", "failed")]


def test_outside_a_request_nothing_happens(hook):
    assert current.get() is None
    hook.on_task_instance_failed(previous_state=None, task_instance=TI, error="killed")
    hook.on_dag_run_success(dag_run=TI, msg="done")
