"""A step as a plain process, where the system has no step server (macOS): slower to start, the same otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import airgate
from airgate.contracts.fork_protocol import KILL_AFTER_SECONDS, SILENCE, step_environment
from airgate.runtime.forkserver_client import Exit


class RunningStep(Protocol):
    """A step's process: waited for once, killed at any time."""

    def wait(self) -> Exit:
        """Wait for its end. Raises StepError when nobody can say how it ended."""

    def kill(self) -> None:
        """Tell its processes to end, and kill those that do not."""


class StepProcess:
    """A step in a session of its own, so that its children end with it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def wait(self) -> Exit:
        """Wait for its end."""
        code = self._process.wait()
        return Exit(code=code) if code >= 0 else Exit(signal=-code)

    def kill(self) -> None:
        """SIGTERM, and SIGKILL after 5 seconds."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(KILL_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group is gone (macOS says so with EPERM)
            os.killpg(self._process.pid, number)


def start_process(call_url: str, env: Mapping[str, str], output: int) -> StepProcess:
    """Start the runner for a call with what a step may see of `env`; its output goes to the descriptor `output`."""
    kept = {**step_environment(env), **SILENCE}
    here = str(Path(airgate.__file__).parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH")]))
    return StepProcess(subprocess.Popen(
        [sys.executable, "-P", "-u", "-m", "airgate.steps.runner", call_url], env=kept, stdin=subprocess.DEVNULL,
        stdout=output, stderr=output, start_new_session=True))
