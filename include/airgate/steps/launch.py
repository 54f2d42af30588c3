"""Train in several processes, one a GPU of this pod, started and watched by torch's own launcher (torchrun).

Each process runs the same train function on the same rows; what they compute together is torch.distributed's business. The
first one's model, metrics and reports are the step's. docs/adr/0011-training-on-several-gpus.md says what for and what not.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pandas as pd

import airgate
from airgate import errors
from airgate.contracts.base import Contract
from airgate.contracts.step import StepCall
from airgate.errors import AirgateError, StepError
from airgate.steps.context import StepContext
from airgate.steps.functions import MODELS
from airgate.steps.model import Model

Train = Callable[[pd.DataFrame, StepContext], Model]
DATA, JOB, OUTCOME, ERROR, MODEL = "data.parquet", "job.json", "outcome.json", "error.json", "model"
STOP_SECONDS = 10


class Job(Contract):
    """What the processes are told. `threads` is each one's share of the step's processors."""

    train: str
    device: Literal["cuda", "cpu"]
    threads: int
    call: StepCall
    mlflow_run_id: str | None


class Outcome(Contract):
    """What the first process leaves beside its model. `attachments` are paths of files."""

    metrics: dict[str, float]
    facts: dict[str, str]
    attachments: dict[str, str]


def train_on_each(train: Train, data: pd.DataFrame, ctx: StepContext, processes: int,
                  device: Literal["cuda", "cpu"] = "cuda") -> Model:
    """Run `train`, a function of a module, in so many processes of a torch.distributed group; give the first one's model.

    In `train` the group is open (NCCL on GPUs, each with its own as current device; Gloo on CPU), so wrap the network in
    DistributedDataParallel and let each process take its part of a batch. Lines of progress come from the first process only.
    Raises what a process raised, if it is one of Airgate's errors, else StepError with the first failure's text.
    """
    folder = ctx.workdir / "launch"
    folder.mkdir()
    data.to_parquet(folder / DATA)
    threads = max(1, int(ctx.spec.resources(ctx.run.task_id.rsplit(".", 1)[-1]).cpu) // processes)
    job = Job(train=_reference(train), device=device, threads=threads, call=ctx.call, mlflow_run_id=ctx.mlflow_run_id)
    (folder / JOB).write_text(job.model_dump_json(), encoding="utf-8")
    ctx.progress(f"training in {processes} processes, one a {'GPU' if device == 'cuda' else 'share of the CPU'}")
    code = _run([
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--max-restarts=0",
        f"--nproc-per-node={processes}", "-m", "airgate.steps.launch_worker", str(folder)], _environment(folder, threads))
    if code:
        raise _failure(folder / ERROR, code)
    outcome = Outcome.model_validate_json((folder / OUTCOME).read_text(encoding="utf-8"))
    ctx.log_metrics(outcome.metrics)
    for name, value in outcome.facts.items():
        ctx.fact(name, value)
    for name, path in outcome.attachments.items():
        ctx.attach(name, Path(path))
    return Model.load(folder / MODEL)


def _reference(train: Train) -> str:
    return f"{train.__module__.removeprefix(f'{MODELS}.')}:{train.__qualname__}"


def _environment(folder: Path, threads: int) -> dict[str, str]:
    """This process' own, the path to Airgate, and where torchrun leaves the first failure (TORCHELASTIC_ERROR_FILE)."""
    path = os.pathsep.join(filter(None, [str(Path(airgate.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    # All processes are on this machine: names and interfaces of the network are not asked.
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "TORCHELASTIC_ERROR_FILE": str(folder / ERROR),
            "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run the launcher to its end. Whatever stops the waiting also ends it, and it ends its processes."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _failure(path: Path, code: int) -> AirgateError:
    """The error that the first failing process left, as torch.distributed.elastic writes it."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["message"]
        text = str(said["message"] if isinstance(said, dict) else said).strip()
    except (OSError, ValueError, KeyError, TypeError):
        text = f"the launcher ended with exit code {code}; the lines above say why"
    name, _, message = text.partition(": ")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, AirgateError):
        return kind(message)
    return StepError(f"a training process failed: {text[:2000]}")
