"""Steps as processes on this machine, forked from a warm parent. The embedded default."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.contracts import receipt
from airgate.contracts.fork_protocol import supported
from airgate.contracts.step import StepFailure
from airgate.runtime.forkserver_client import Exit, ensure_server, start_in_fork
from airgate.runtime.operator import EX_DATAERR, StepTask, outlets_of
from airgate.runtime.output import follow
from airgate.runtime.plan import StepPlan
from airgate.runtime.process import RunningStep, start_process
from airgate.signatures import keys

if TYPE_CHECKING:
    from airflow.sdk import Context


class LocalStepOperator(StepTask, BaseOperator):
    """Carry out a StepPlan in a process of its own. Its output goes to the task's log as it comes."""

    runtime = "local"

    # Named here, not taken from kwargs, so that a DAG's default_args win over these defaults.
    def __init__(self, *, plan: StepPlan, retries: int = 1, retry_delay: timedelta = timedelta(seconds=5),
                 item: Any = None, **kwargs: Any) -> None:
        super().__init__(retries=retries, retry_delay=retry_delay, outlets=outlets_of(plan, kwargs), **kwargs)
        self.hold(plan, item)
        self.running: RunningStep | None = None

    def step_image(self) -> str:
        """No image: the step runs from the installed code."""
        return "local"

    def execute(self, context: Context) -> Any:
        """Run the step and wait for it."""
        with self.accounted(context), receipt.waited_for() as place:
            call_url = self.begin(context)
            ended = self.launch(call_url, place)
            return self.settle(context, call_url, receipt.read(place.read_text()), process_failure(ended), ended.describe())

    def launch(self, call_url: str, place: Path) -> Exit:
        """Run the step of a call to its end and give how it ended; its receipt lies at `place` then.

        Whatever stops the waiting also ends the step.
        """
        reader, writer = os.pipe()
        try:
            self.running = self._start(call_url, place, writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        try:
            return follow(self.running, reader, self.log.info)
        except BaseException:
            self.running.kill()
            raise
        finally:
            os.close(reader)

    def on_kill(self) -> None:
        """End the step's processes: the task was marked, cleared or timed out, or its worker goes down."""
        self.stopped = True
        if self.running is not None:
            self.running.kill()

    def _start(self, call_url: str, place: Path, output: int) -> RunningStep:
        threads = str(max(1, int(self.plan.resources.cpu)))
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
                       receipt.RECEIPT_FILE: str(place), **keys.for_steps(settings.load())}
        if not supported():
            return start_process(call_url, environment, output)
        home = settings.load().home
        socket = home / "run" / "steps.sock"
        ensure_server(socket, home / "logs" / "steps.log", progress=self._tell_of_server)
        return start_in_fork(socket, call_url, environment, output, output)

    def _tell_of_server(self, line: str) -> None:
        self.log.info("step server: %s", line)


def process_failure(ended: Exit) -> StepFailure | None:
    """Say in plain words why a process did not end well; None when it did. The step's own account is better."""
    if ended.signal is not None:
        why = " (out of memory, or killed by hand)" if ended.signal == signal.SIGKILL else f" ({_signal_name(ended.signal)})"
        return StepFailure(error="Killed", message=f"step process was killed by signal {ended.signal}{why}", retryable=True)
    if ended.code == 0:
        return None
    return StepFailure(error="ProcessFailed", message=f"step process ended with exit code {ended.code}; its log says why",
                       retryable=ended.code != EX_DATAERR)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "no name"
