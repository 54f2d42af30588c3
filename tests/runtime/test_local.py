"""Steps as processes: the real operator, step server, runner, artifact store and audit log."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.execution_api import TaskServer

from airgate.contracts.model_spec import Resources
from airgate.contracts.step import StepResult
from airgate.runtime import StepPlan, local, make_operator, record
from airgate.runtime.forkserver_client import Exit, ensure_server, stop_server
from airgate.signatures import keys, private_key

STEPS = '''
import os, sys, time
from pathlib import Path
from typing import Any
from airgate.errors import DataError
from airgate.steps.context import StepContext

def greet(name: str, ctx: StepContext) -> dict[str, Any]:
    print("hello from the step")
    print("and from its other output", file=sys.stderr)
    ctx.fact("who", name)
    return {"greeting": f"hello {name}", "threads": os.environ["OMP_NUM_THREADS"],
            "audit": os.environ.get("AIRGATE_AUDIT_URL", "unknown")}

def seen() -> dict[str, Any]:
    return {name: value for name, value in os.environ.items() if name.startswith(("AIRGATE_MODEL_", "AIRGATE_ENV"))}

def answer(greeting: dict[str, Any]) -> dict[str, Any]:
    return {"answer": greeting["greeting"].upper()}

def refuse() -> dict[str, Any]:
    raise DataError("2 checks failed:\\n- age: 3 nulls\\n- bmi: infinite")

def stumble() -> dict[str, Any]:
    raise ValueError("disk is full")

def linger(mark: str) -> dict[str, Any]:
    Path(mark).write_text(str(os.getpid()))
    time.sleep(60)
    return {}
'''

LIBRARIES = "numpy,pandas,pyarrow.parquet,mlflow,mlflow.data,mlflow.store.tracking.sqlalchemy_store,alembic.command"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a step server that has loaded only what these steps need."""
    home = tmp_path_factory.mktemp("home")
    socket = home / "run" / "steps.sock"
    ensure_server(socket, home / "logs" / "steps.log", arguments=("--preload", LIBRARIES))
    yield home
    stop_server(socket)


@pytest.fixture
def step(home: Path, serving: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a step of the model `probe`; its installation is the test's own but for the step server."""
    from airflow.sdk import DAG

    (home / "models" / "probe").mkdir(parents=True)
    (home / "models" / "probe" / "steps.py").write_text(STEPS)
    monkeypatch.setenv("AIRGATE_MODELS", str(home / "models"))
    monkeypatch.setenv("AIRGATE_ARTIFACT_STORE", f"file://{home}/artifacts")
    monkeypatch.setenv("AIRGATE_AUDIT_URL", f"sqlite:///{home}/audit.db")
    monkeypatch.setenv("AIRGATE_MLFLOW_URI", f"sqlite:///{serving}/mlflow.db")  # making its tables takes seconds
    monkeypatch.setenv("AIRGATE_HOME", str(serving))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    dag = DAG("probe_training")

    def make(name: str, **kwargs: Any) -> Any:
        plan = StepPlan(f"probe.steps:{name}", parameters=kwargs.pop("parameters", {}), inputs=kwargs.pop("inputs", {}),
                        resources=kwargs.pop("resources", Resources()))
        return make_operator(plan, task_id=name, dag=dag, **kwargs)

    return make


def events() -> list[Any]:
    return [item.event for item in record.store().events()]


def test_a_step_succeeds_and_is_on_record(step: Any, server: TaskServer, capfd: pytest.CaptureFixture[str]) -> None:
    done = server.run(step("greet", parameters={"name": "ana"}, resources=Resources(cpu=2.5)))
    assert done.state == "success", done.error
    result = StepResult.model_validate(server.value("greet"))
    assert result.value == {"greeting": "hello ana", "threads": "2", "audit": "unknown"}
    started, succeeded = events()
    assert (started.kind, succeeded.kind) == ("task.started", "task.succeeded")
    assert succeeded.body["runtime"] == "local" and succeeded.body["facts"]["who"] == "ana"
    assert result.output is not None and succeeded.body["output"]["digest"] == result.output.digest
    printed = capfd.readouterr().out
    assert "hello from the step" in printed and "and from its other output" in printed


def test_a_step_gets_public_keys_and_never_the_private_one(
        step: Any, server: TaskServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_key.write_new(home / "model-key.pem")
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{home}/model-key.pem")
    monkeypatch.setenv("AIRGATE_ENVIRONMENT", "staging")
    done = server.run(step("seen"))
    assert done.state == "success", done.error
    public = keys.signer(f"file:{home}/model-key.pem", "staging").public
    assert StepResult.model_validate(server.value("seen")).value == {
        "AIRGATE_MODEL_TRUST": public.text(), "AIRGATE_ENVIRONMENT": "staging"}


def test_a_value_goes_from_step_to_step(step: Any, server: TaskServer) -> None:
    server.run(step("greet", parameters={"name": "ana"}))
    done = server.run(step("answer", inputs={"greeting": "greet"}))
    assert done.state == "success", done.error
    assert StepResult.model_validate(server.value("answer")).value == {"answer": "HELLO ANA"}
    assert StepResult.model_validate(server.value("answer")).facts["who"] == "ana"


def test_refused_data_is_final(step: Any, server: TaskServer) -> None:
    done = server.run(step("refuse"))
    assert done.state == "failed" and str(done.error) == "2 checks failed:\n- age: 3 nulls\n- bmi: infinite"
    failed = events()[-1]
    assert failed.kind == "task.failed" and failed.body["error"] == "DataError" and failed.body["ended"] == "exit code 65"


def test_another_failure_is_tried_again(step: Any, server: TaskServer) -> None:
    stumble = step("stumble")
    assert server.run(stumble).state == "up_for_retry"
    done = server.run(stumble, try_number=2)
    assert done.state == "failed" and str(done.error) == "ValueError: disk is full"
    assert [event.kind for event in events()] == ["task.started", "task.retrying", "task.started", "task.failed"]


def test_a_step_killed_by_the_kernel_is_tried_again(step: Any, server: TaskServer, home: Path) -> None:
    mark = home / "pid"
    threading.Thread(target=lambda: os.kill(_pid(mark), signal.SIGKILL), daemon=True).start()
    done = server.run(step("linger", parameters={"mark": str(mark)}))
    assert done.state == "up_for_retry"
    assert str(done.error) == "step process was killed by signal 9 (out of memory, or killed by hand)"
    assert events()[-1].kind == "task.retrying" and events()[-1].body["ended"] == "killed by SIGKILL"


def test_a_task_that_is_stopped_ends_its_step(step: Any, server: TaskServer, home: Path) -> None:
    """SIGTERM is how Airflow stops a task that was marked or cleared; its runner then calls on_kill."""
    mark = home / "pid"
    before = signal.getsignal(signal.SIGTERM)
    _signal_when_running(mark, signal.SIGTERM)
    try:
        server.run(step("linger", parameters={"mark": str(mark)}))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert _is_gone(mark)
    assert events()[-1].kind == "task.failed" and events()[-1].body["ended"].startswith("stopped from outside")


def test_a_time_limit_ends_the_step_and_is_on_record(step: Any, server: TaskServer, home: Path) -> None:
    """SIGALRM is how Airflow tells a task that its time is over; here it comes early."""
    mark = home / "pid"
    _signal_when_running(mark, signal.SIGALRM)
    done = server.run(step("linger", parameters={"mark": str(mark)}, execution_timeout=timedelta(minutes=1)))
    assert done.state == "up_for_retry"
    assert (events()[-1].body["error"], events()[-1].body["message"]) == ("Timeout", "not done after 0:01:00")
    assert _is_gone(mark)


def test_without_a_step_server_a_plain_process_does_the_same(step: Any, server: TaskServer,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "supported", lambda: False)
    done = server.run(step("greet", parameters={"name": "ana"}))
    assert done.state == "success", done.error
    assert server.value("greet")["value"]["audit"] == "unknown"


def test_a_step_server_that_cannot_start_is_named(step: Any, server: TaskServer, home: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "taken").write_text("")
    monkeypatch.setenv("AIRGATE_HOME", str(home / "taken"))
    done = server.run(step("greet", parameters={"name": "ana"}))
    assert done.state != "success" and events()[-1].kind in ("task.failed", "task.retrying")


@pytest.mark.parametrize(("ended", "words", "retryable"), [
    (Exit(signal=11), "step process was killed by signal 11 (SIGSEGV)", True),
    (Exit(signal=64), "step process was killed by signal 64", True),
    (Exit(code=1), "step process ended with exit code 1; its log says why", True),
    (Exit(code=65), "exit code 65", False),
])
def test_how_a_process_ended_in_words(ended: Exit, words: str, retryable: bool) -> None:
    failure = local.process_failure(ended)
    assert failure is not None and words in failure.message and failure.retryable is retryable


def test_a_good_end_is_no_failure() -> None:
    assert local.process_failure(Exit(code=0)) is None


def _pid(mark: Path) -> int:
    """Wait until the step wrote its process id."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if mark.exists() and (text := mark.read_text()):
            return int(text)
        time.sleep(0.02)
    raise TimeoutError


def _signal_when_running(mark: Path, number: signal.Signals) -> None:
    threading.Thread(target=lambda: (_pid(mark), os.kill(os.getpid(), number)), daemon=True).start()


def _is_gone(mark: Path) -> bool:
    """Whether the step's process ends within ten seconds."""
    process = Path(f"/proc/{mark.read_text()}")
    deadline = time.monotonic() + 10
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not process.exists()
