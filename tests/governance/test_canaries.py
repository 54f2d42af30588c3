"""What a run's conf, a task's exception and a supervisor's output hold is kept without the secrets in it."""

import io
import logging
from types import SimpleNamespace

import pytest
import structlog
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.log import mask_logs, mask_secret

from airgate.governance import callbacks
from airgate.governance.task_output import mask_task_output


def context(**conf):
    task = EmptyOperator(task_id="t")
    ti = RuntimeTaskInstance.model_construct(
        dag_id="d", run_id="manual__1", task_id="t", try_number=1, map_index=-1, task=task)
    run = SimpleNamespace(dag_id="d", run_id="manual__1", run_type="manual", triggering_user_name="ana", conf=conf)
    return {"task": task, "ti": ti, "dag_run": run, "params": {}}


@pytest.mark.parametrize("secret", [
    "https://ana:CANARY@host/x", "Authorization: Bearer CANARY", "password=CANARY",
    "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----"])
def test_an_exception_is_recorded_without_what_looks_like_a_secret(store, secret):
    callbacks.on_failure(context() | {"exception": RuntimeError(f"failed: {secret}")})
    message = store.events()[0].event.body["message"]
    assert message.startswith("failed: ") and "CANARY" not in message


def test_secrets_of_a_runs_conf_are_hidden_wherever_they_turn_up(store):
    now = context(api_token="Wren-4711", nested={"credentials": {"word": "Robin-4711"}}, day="2026-01-08")
    callbacks.on_execute(now)
    callbacks.on_failure(now | {"exception": RuntimeError("Wren-4711 and Robin-4711 refused on 2026-01-08")})
    [started, failed] = [stored.event for stored in store.events()]
    assert started.kind == "task.started"
    assert failed.body["message"] == "*** and *** refused on 2026-01-08"


def test_a_supervisors_output_is_masked_and_once_is_enough(caplog):
    before = structlog.get_config()
    mask_secret("Finch-4711")
    output = io.StringIO()
    try:
        structlog.configure(processors=[structlog.processors.KeyValueRenderer()], cache_logger_on_first_use=False,
                            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
                            logger_factory=structlog.PrintLoggerFactory(output))
        mask_task_output()
        mask_task_output()
        structlog.get_logger().info("login", said="with Finch-4711")
        assert structlog.get_config()["processors"].count(mask_logs) == 1
    finally:
        structlog.configure(**before)
    assert output.getvalue() == "said='with ***' event='login'\n"
