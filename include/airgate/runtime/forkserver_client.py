"""Ask the fork server for steps. Light: an operator imports this in every task."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import airgate
from airgate.contracts.fork_protocol import (
    KILL_AFTER_SECONDS,
    MODULE,
    address,
    server_environment,
    step_environment,
    supported,
)
from airgate.errors import ConfigError, ContractError, StepError

POLL_SECONDS = 0.05
ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Exit:
    """How a step's process ended: exactly one of `code` and `signal` is set."""

    code: int | None = None
    signal: int | None = None

    def describe(self) -> str:
        """Say it in words, for a log or an error."""
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"killed by signal {self.signal}"


class ForkedStep:
    """A step that runs in a child of the server. Closing the connection, or the client's death, ends it."""

    def __init__(self, connection: socket.socket, pid: int, rest: bytes) -> None:
        self._connection = connection
        self._data = rest
        self.pid = pid

    def wait(self) -> Exit:
        """Wait until the step ended. Raises StepError when the server ended before it."""
        with self._connection:
            answer, self._data = _receive(self._connection, self._data)
        if answer is None:
            raise StepError(f"the step server ended while step process {self.pid} ran, so the step was killed. Its log says "
                            "why; another try starts a new server.")
        how, number = next(iter(answer.items()))
        return Exit(code=int(number)) if how == "exit" else Exit(signal=int(number))

    def kill(self) -> None:
        """Have the step's processes told to end (SIGTERM), and killed after 5 seconds. `wait` then gives how it ended.

        May be called from another thread or from a signal handler, more than once, and after the end.
        """
        with suppress(OSError):  # it ended before
            self._connection.shutdown(socket.SHUT_WR)


def start_in_fork(socket_path: Path, call_url: str, env: Mapping[str, str], stdout_fd: int, stderr_fd: int,
                  *, cwd: Path | None = None) -> ForkedStep:
    """Start the step of `call_url` and give a handle to it.

    Of `env` the step gets what airgate.contracts.fork_protocol allows. Its output goes to the two descriptors, which stay
    the caller's to close. Raises StepError when no server answers, ContractError when it refuses the request.
    """
    request = {"op": "run", "call_url": call_url, "env": step_environment(env), "cwd": str(cwd or Path.cwd())}
    connection = _connect(socket_path)
    if connection is None:
        raise StepError(f"no step server answers on {socket_path}. Start one with ensure_server().")
    try:
        data = json.dumps(request).encode() + b"\n"
        connection.settimeout(ANSWER_SECONDS)
        sent = socket.send_fds(connection, [data], [stdout_fd, stderr_fd])
        with suppress(BrokenPipeError):  # refused before it was read to its end: the answer says why
            if sent < len(data):
                connection.sendall(data[sent:])
        answer, rest = _receive(connection, b"")
        connection.settimeout(None)
    except OSError as error:
        connection.close()
        raise StepError(f"the step server on {socket_path} did not take the request: {error}.") from None
    if answer is None or "error" in answer:
        connection.close()
        if answer is None:
            raise StepError(f"the step server on {socket_path} ended before it started the step. Another try may help.")
        raise ContractError(f"the step server refused the step: {answer['error']}.")
    return ForkedStep(connection, int(answer["pid"]), rest)


def run_in_fork(socket_path: Path, call_url: str, env: Mapping[str, str], stdout_fd: int, stderr_fd: int) -> Exit:
    """Run a step and wait for its end. Raises as start_in_fork and ForkedStep.wait do."""
    return start_in_fork(socket_path, call_url, env, stdout_fd, stderr_fd).wait()


def ensure_server(socket_path: Path, log_path: Path, python: str = sys.executable, env: Mapping[str, str] | None = None, *,
                  arguments: tuple[str, ...] = (), timeout: float = 180.0,
                  progress: Callable[[str], None] | None = None) -> int:
    """Give the process id of the server on `socket_path`; start it, detached, when nobody serves there.

    Several may ask at once: one starts it, the others wait. `progress` hears the last line of the server's log as it
    changes. Raises ConfigError when the system has no such server, it does not start, or not within `timeout` seconds.
    """
    if not supported():
        raise ConfigError("the step server needs Linux (pidfd, SO_PEERCRED). Run steps as processes of their own here: "
                          "python -m airgate.steps.runner CALL_URL.")
    socket_path = socket_path.absolute()
    if (pid := _ping(socket_path)) is not None:
        return pid
    socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    with _locked(Path(f"{socket_path}.start"), deadline):
        if (pid := _ping(socket_path)) is not None:
            return pid
        started = _spawn(socket_path, log_path, python, os.environ if env is None else env, arguments)
        return _await(socket_path, log_path, started, deadline, progress)


def stop_server(socket_path: Path, timeout: float = KILL_AFTER_SECONDS + 5) -> bool:
    """Stop the server and its steps; False when nobody serves. Raises StepError when it has not ended in `timeout`."""
    connection = _connect(socket_path.absolute())
    if connection is None:
        return False
    deadline = time.monotonic() + timeout
    with connection:
        connection.settimeout(timeout)
        with suppress(OSError):  # it ends as we speak
            connection.sendall(b'{"op": "stop"}\n')
            _receive(connection, b"")
    while time.monotonic() < deadline:
        if not socket_path.exists():
            return True
        time.sleep(POLL_SECONDS)
    raise StepError(f"the step server on {socket_path} did not stop in {timeout:g} s. End it by its process id.")


def _connect(path: Path) -> socket.socket | None:
    """Connect to our own user's server; None when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(path.absolute()) as name:
            connection.connect(name)
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError:
        connection.close()
        return None
    if uid != os.getuid():  # it would be given this user's credentials
        connection.close()
        raise ConfigError(f"{path} is served by user id {uid}, not by {os.getuid()}. Choose a folder of your own.")
    return connection


def _receive(connection: socket.socket, data: bytes) -> tuple[dict[str, int | str] | None, bytes]:
    """The next line and what came after it; None when the other side closed first."""
    while b"\n" not in data:
        more = connection.recv(4096)
        if not more:
            return None, b""
        data += more
    line, _, rest = data.partition(b"\n")
    return json.loads(line), rest


def _ping(path: Path) -> int | None:
    connection = _connect(path)
    if connection is None:
        return None
    with connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.sendall(b'{"op": "ping"}\n')
            answer, _ = _receive(connection, b"")
        except OSError:
            return None
    return None if answer is None else int(answer["pid"])


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    """Hold a file lock; the kernel lets go of it when its holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError(f"{path} is locked: another process has been starting the step server for too long. "
                                      "See the server's log.") from None
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _spawn(socket_path: Path, log_path: Path, python: str, env: Mapping[str, str], arguments: tuple[str, ...]) -> int:
    """Start the server in a session of its own, so that it outlives the task that happened to need it first."""
    here = str(Path(airgate.__file__).parent.parent)
    kept = server_environment(env)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH")]))
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # -P: the working directory of whoever starts it is no place to import from.
        return os.posix_spawn(
            python, [python, "-P", "-u", "-m", MODULE, str(socket_path), *arguments], kept, setsid=True,
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)])
    except OSError as error:
        raise ConfigError(f"the step server cannot be started with {python}: {error.strerror}.") from None
    finally:
        os.close(log)
        os.close(null)


def _await(socket_path: Path, log_path: Path, started: int, deadline: float,
           progress: Callable[[str], None] | None) -> int:
    told = ""
    while time.monotonic() < deadline:
        if (pid := _ping(socket_path)) is not None:
            return pid
        ended, _ = os.waitpid(started, os.WNOHANG)
        lines = _last_lines(log_path)
        if ended:
            raise ConfigError(f"the step server ended before it was ready. Its log, {log_path}, ends: {' | '.join(lines)}")
        if progress is not None and lines and lines[-1] != told:
            told = lines[-1]
            progress(told)
        time.sleep(POLL_SECONDS)
    os.kill(started, signal.SIGKILL)
    os.waitpid(started, 0)
    raise ConfigError(f"the step server was not ready in time and was ended. Its log, {log_path}, ends: "
                      f"{' | '.join(_last_lines(log_path))}")


def _last_lines(path: Path, count: int = 3) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        return file.read().decode(errors="replace").splitlines()[-count:]
