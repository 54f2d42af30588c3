"""A small model with steps of every kind, and calls to them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.steps.results import result_of
from tests.steps.signing_support import SIGNER

from airgate.contracts import calls
from airgate.contracts.step import ArtifactRef, RunContext, StepCall, StepResult
from airgate.runtime import forkserver_client

TOY = '''
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from airgate.contracts.base import Contract
from airgate.errors import DataError
from airgate.steps.context import StepContext


class Summary(Contract):
    total: int
    mean: float


def make(rows: int, ctx: StepContext) -> pd.DataFrame:
    ctx.log_metric("rows", rows)
    ctx.fact("revision", "abc")
    report = ctx.workdir / "report.html"
    report.write_text("<p>made</p>")
    ctx.attach("report.html", report)
    return pd.DataFrame({"a": range(rows), "b": 0.5})


def total(data: pd.DataFrame, scale: float = 1.0) -> dict[str, float]:
    return {"sum": np.float64(data["a"].sum() * scale)}


def summary(data: pd.DataFrame) -> Summary:
    return Summary(total=int(data["a"].sum()), mean=float(data["b"].mean()))


def read_summary(found: Summary) -> int:
    return found.total


def lines(path: Path, ctx: StepContext) -> Path:
    copy = ctx.workdir / "copy.txt"
    copy.write_text(path.read_text() * 2)
    return copy


def nothing(ctx: StepContext) -> None:
    ctx.progress("did nothing")


def refuse(ctx: StepContext) -> int:
    path = ctx.workdir / "why.json"
    path.write_text("{}")
    ctx.attach("why.json", path)
    ctx.log_metric("bad_rows", 3)
    password = "hunter2-local-variable"
    raise DataError("column 'age': 3 rows below 0")


def leak(url: str) -> int:
    raise RuntimeError(f"cannot reach {url}, password='abc123'")


def nan() -> dict[str, list[float]]:
    return {"scores": [1.0, float("nan")]}


def wrong() -> dict[str, int]:
    return [1, 2]


def leave() -> int:
    sys.exit(3)


def signal_self(number: int) -> int:
    os.kill(os.getpid(), number)
    time.sleep(5)
    return 1


def vanish() -> int:
    os._exit(7)


def nap(seconds: float, mark: str, ctx: StepContext) -> int:
    Path(mark).write_text(f"{os.getpid()} {ctx.workdir}")
    time.sleep(seconds)
    return 1


def family(mark: str) -> int:
    import subprocess
    child = subprocess.Popen(["sleep", "60"])
    Path(mark).write_text(str(child.pid))
    time.sleep(60)
    return 1


def seen() -> dict[str, object]:
    return {"env": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid(), "group": os.getpgid(0),
            "random": float(np.random.random()), "stdin": sys.stdin.read(), "files": len(os.listdir("/proc/self/fd"))}


def width() -> list[int]:
    import threadpoolctl
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
'''



@pytest.fixture(autouse=True)
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step trusts the key of the tests, as its operator would tell it to."""
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", SIGNER.public.text())
    monkeypatch.delenv("AIRGATE_ENVIRONMENT", raising=False)
    monkeypatch.delenv("AIRGATE_MODEL_KEY", raising=False)


MakeCall = Callable[..., StepCall]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of models, with the model `toy` in it."""
    folder = tmp_path / "models" / "toy"
    folder.mkdir(parents=True)
    (folder / "steps.py").write_text(TOY)
    monkeypatch.setenv("AIRGATE_MODELS", str(folder.parent))
    return folder.parent


@pytest.fixture
def make_call(tmp_path: Path, toy: Path) -> MakeCall:
    """Makes calls to steps of the toy model: make_call("total", inputs={...}, task="sum")."""

    def make(function: str, task: str = "step", attempt: int = 1, inputs: dict[str, ArtifactRef] | None = None,
             mlflow_run_id: str | None = None, run_id: str = "manual__2026-01-08T00:00:00+00:00", map_index: int = -1,
             tracking_uri: str | None = None, spec: object = None, facts: dict[str, str] | None = None,
             **parameters: object) -> StepCall:
        run = RunContext(dag_id="toy_training", run_id=run_id, task_id=task, try_number=attempt, actor="user:ana",
                         map_index=map_index, code_version="c0ffee", image="local", mlflow_run_id=mlflow_run_id)
        return StepCall(function=function if ":" in function else f"toy.steps:{function}", inputs=inputs or {},
                        parameters=parameters, run=run, store=f"file://{tmp_path}/store", tracking_uri=tracking_uri,
                        spec=spec, facts=facts or {})

    return make


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a fork server that has loaded little; it is started with secrets in its environment."""
    folder = tmp_path_factory.mktemp("server")
    socket = folder / "run" / "steps.sock"
    environment = {**os.environ, "AIRGATE_AUDIT_URL": "postgresql://auditor:secret@db/audit", "AIRFLOW__CORE__FERNET_KEY": "k"}
    forkserver_client.ensure_server(socket, folder / "server.log", env=environment,
                                    arguments=("--preload", "pandas,pyarrow.parquet,threadpoolctl"))
    yield socket
    forkserver_client.stop_server(socket)


@pytest.fixture
def fork(server: Path) -> Callable[..., tuple[forkserver_client.Exit, StepResult | None, str]]:
    """Runs a call in a fork; gives how it ended, its result and its output."""

    def run(call: StepCall, **environment: str) -> tuple[forkserver_client.Exit, StepResult | None, str]:
        url = calls.write_call(call)
        reader, writer = os.pipe()
        try:
            found = forkserver_client.run_in_fork(server, url, {**os.environ, **environment}, writer, writer)
        finally:
            os.close(writer)
        with os.fdopen(reader) as output:
            return found, result_of(url), output.read()

    return run
