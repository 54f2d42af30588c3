"""What a forked child does before it becomes the runner: take its own place, environment, output and thread pools."""

import ctypes
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airgate.contracts.fork_protocol import SILENCE

PR_SET_PDEATHSIG = 1
CRASHED = 70
# The kernel short of memory takes the child, not the server and not Airflow.
OOM_SCORE = "500"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Order:
    """What a client asked for, checked. `scratch` is a folder that the server removes after the child's end."""

    call_url: str
    environment: Mapping[str, str]
    cwd: str
    stdout: int
    stderr: int
    scratch: Path


def run(order: Order, server: int, pools: Any) -> int:
    """Become the step and run it; give the exit code. `server` is the parent's process id.

    Nothing that it raises can leave: the caller must go on to os._exit.
    """
    try:
        _settle(server)
        _take_output(order)
        _take_environment(order)
        _widen(pools)
        # Only now, so that each step runs the code as it is on disk today.
        from airgate.steps import runner

        return runner.main([order.call_url])
    except BaseException:  # noqa: BLE001  the copy of the server that a child is must never go on as a server
        traceback.print_exc()
        return CRASHED
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _settle(server: int) -> None:
    """A process group of its own, signals as in a fresh process, and no life beyond the server's."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:  # it died before the line above
        os._exit(CRASHED)
    Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    # A core file would put the step's data on disk, where nobody looks after it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _take_output(order: Order) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (order.stdout, 1), (order.stderr, 2)):
        os.dup2(source, target)
    for descriptor in {null, order.stdout, order.stderr} - {0, 1, 2}:
        os.close(descriptor)
    # New streams: the server's remember how far they were in its log file, and a pipe has no such place.
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]


def _stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _take_environment(order: Order) -> None:
    os.environ.clear()
    os.environ.update({**order.environment, **SILENCE, "TMPDIR": str(order.scratch)})
    tempfile.tempdir = None
    time.tzset()
    os.chdir(order.cwd)
    if numpy := sys.modules.get("numpy"):
        # A fresh process draws its own seed; copies of one process would all go on with the server's.
        numpy.random.seed()


def _widen(pools: Any) -> None:
    """Let thread pools be as wide as OMP_NUM_THREADS says, else as the processors this process may use.

    Libraries read the variable when they are loaded, and that was in the server, where it was 1.
    """
    text = os.environ.get("OMP_NUM_THREADS", "")
    width = int(text) if text.isdecimal() and int(text) > 0 else len(os.sched_getaffinity(0))
    if pools is not None:
        pools.limit(limits=width)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(width)
    if pyarrow := sys.modules.get("pyarrow"):
        pyarrow.set_cpu_count(width)
