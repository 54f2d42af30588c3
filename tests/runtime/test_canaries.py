"""No secret is written into a step's call, its record or its task's log."""

import os
import threading
from types import SimpleNamespace

import pytest

from airgate.contracts.step import StepFailure
from airgate.errors import WiringError
from airgate.runtime import StepPlan, record
from airgate.runtime.forkserver_client import Exit
from airgate.runtime.operator import _refuse_secrets
from airgate.runtime.output import follow

FUNCTION = "heart.steps:train"


@pytest.mark.parametrize(("parameters", "place"), [
    ({"rows": 3, "api_token": "CANARY"}, "api_token"), ({"login": {"user": "ana", "password": "CANARY"}}, "login.password"),
    ({"source": "https://ana:CANARY@host"}, "source"), ({"sources": ["password=CANARY"]}, "sources.0"),
])
def test_a_secret_in_a_steps_arguments_is_refused_without_repeating_it(parameters, place):
    with pytest.raises(WiringError) as said:
        _refuse_secrets(StepPlan(FUNCTION), parameters)
    assert str(said.value) == (
        f"{FUNCTION}: '{place}' looks like a secret, and what a step is asked is written down: in the artifact store, in MLflow, "
        "in the audit log. Let the step read it from its environment (AIRGATE_STEPS_SECRET on Kubernetes) or from a file that an "
        "argument such as 'password_file' names; if it is no secret, rename it.")


def test_a_secret_that_airflow_knows_is_refused_under_any_name():
    from airflow.sdk.log import mask_secret

    mask_secret("Heron-4711")
    with pytest.raises(WiringError, match="'source' looks like a secret"):
        _refuse_secrets(StepPlan(FUNCTION), {"rows": 3, "source": {"parts": ["x Heron-4711"]}})


def test_other_arguments_are_let_through():
    _refuse_secrets(StepPlan(FUNCTION), {"tokenizer": "bert", "max_tokens": 5, "password_file": "/run/x", "source": "https://host/x"})


def test_a_failure_is_recorded_without_secrets():
    failure = StepFailure(error="E", message="cannot reach https://ana:CANARY@host", retryable=True)
    body = record.failed_body(StepPlan(FUNCTION), failure, "exit code 1", None, "local")
    assert body["message"] == "cannot reach https://***@host"


def test_conf_without_secrets_is_not_masked():
    from airflow.sdk._shared.secrets_masker import redact

    record.mask_conf({"dag_run": SimpleNamespace(conf={"day": "2026-01-08"}), "params": {"token_count": "Plover-4711"}})
    assert redact("2026-01-08 Plover-4711") == "2026-01-08 Plover-4711"
    record.mask_conf({})


class Over:
    """A step that is over."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def wait(self) -> Exit:
        self.ended.wait()
        return Exit(code=0)

    def kill(self) -> None:
        """It is over."""


TEXT = ("loading\npassword=CANARY\nGET https://ana:CANARY@host\n-----BEGIN RSA PRIVATE KEY-----\nCANARY\nab==\n"
        "-----END RSA PRIVATE KEY-----\ndone\n")
SHOWN = ["loading", "password=***", "GET https://***@host", "-----BEGIN RSA PRIVATE KEY-----***", "done"]


def test_a_steps_output_reaches_the_tasks_log_without_secrets():
    reader, writer = os.pipe()
    os.write(writer, TEXT.encode())
    os.close(writer)
    step, lines = Over(), []
    step.ended.set()
    try:
        follow(step, reader, lines.append)
    finally:
        os.close(reader)
    assert lines == SHOWN


def test_so_does_a_pods():
    from airgate.runtime.pod_logs import LogTail

    stamped = [f"2026-01-09T06:00:00.{n:09d}Z {line}\n" for n, line in enumerate(TEXT.splitlines())]
    assert [line for line in LogTail().new(stamped) if line != "***"] == SHOWN
