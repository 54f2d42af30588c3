"""Start, find and stop background processes, and never touch one that is not ours.

A record holds the pid and the process's start time: the pid alone may belong to a stranger by the time of `down`.
"""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from airgate.platform.private_files import read_json, write_json

# The kernel counts starts in ticks of 10 ms and psutil adds the boot time, which clock corrections may move a little.
SAME_START = 1.0


@dataclass(frozen=True)
class Service:
    """What to start: `command` and its whole environment; a uid and a stop signal where the default does not do."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    directory: Path
    user: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM


class Processes:
    """The processes whose records lie in `folder`; their output goes to `logs`/<name>.log."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder = folder
        self.logs = logs

    def names(self) -> list[str]:
        """Names that have a record, running or not."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def find(self, name: str) -> psutil.Process | None:
        """The running process of that name, or None when it ended or its pid is another's now."""
        record = read_json(self.folder / f"{name}.json")
        try:
            process = psutil.Process(int(record["pid"]))
            ours = abs(process.create_time() - float(record["started"])) <= SAME_START
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (KeyError, psutil.NoSuchProcess):
            return None

    def start(self, service: Service) -> psutil.Process:
        """Start it in a session of its own, which a Ctrl-C does not reach. One that runs already is left alone."""
        running = self.find(service.name)
        if running is not None:
            return running
        log = self.log(service.name)
        with log.open("ab") as output:
            if service.user is not None:
                os.fchown(output.fileno(), service.user, -1)
            child = subprocess.Popen(
                service.command, env=service.environment, cwd=service.directory, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True, user=service.user, group=service.user,
                extra_groups=None if service.user is None else [])
        process = self.record(service.name, child.pid, service.stop_signal)
        child.returncode = 0  # it is to outlive us, so its Popen object must not complain that it still runs
        return process

    def record(self, name: str, pid: int, stop_signal: signal.Signals = signal.SIGTERM) -> psutil.Process:
        """Write down a process that was started in a session of its own, so that `find` and `stop` know it."""
        process = psutil.Process(pid)
        write_json(self.folder / f"{name}.json", {
            "pid": pid, "started": process.create_time(), "stop_signal": int(stop_signal),
            "earlier": [one for one in self._records(name) if _orphans(one)]})
        return process

    def stop(self, name: str, patience: float = 20.0, grace: float = 5.0) -> bool:
        """Ask the process to end and wait `patience` seconds; then ask what is left of its session and its descendants, and what
        earlier ones of its name left when they were killed, wait `grace` seconds, and kill.

        Gives True when something was running. The record is removed.
        """
        process = self.find(name)
        family = [member for one in self._records(name) for member in _orphans(one)]
        something = process is not None or bool(family)
        if process is not None:
            record = read_json(self.folder / f"{name}.json")
            family += _family(process)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(int(record.get("stop_signal", signal.SIGTERM)))
            _reap(process, patience)
            known = {member.pid for member in family}
            family += [member for member in _session(process.pid) if member.pid not in known]
        _end(family, grace)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        return something

    def _records(self, name: str) -> list[dict[str, Any]]:
        """The processes of that name that are on record: the last, and those before it that left something running."""
        last = read_json(self.folder / f"{name}.json")
        return [*last.pop("earlier", []), *([last] if "pid" in last else [])]

    def log(self, name: str) -> Path:
        """The process's log file."""
        return self.logs / f"{name}.log"

    def last_lines(self, name: str, count: int = 15) -> str:
        """The end of its log, for an error message."""
        try:
            with self.log(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return "(no log)"


def memory(process: psutil.Process) -> int:
    """Bytes of memory of the process and its descendants: proportional shares where the system tells, else resident."""
    total = 0
    for member in _family(process):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            full = member.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
    return total


def _family(process: psutil.Process) -> list[psutil.Process]:
    """The process and all its descendants; psutil remembers when each began, so later signals reach no stranger."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return [process]


def _session(leader: int) -> list[psutil.Process]:
    """Every process in the session that `leader` began; orphans stay in it when their parent dies."""
    members = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(candidate.pid) == leader:
                members.append(candidate)
    return members


def _orphans(record: dict[str, Any]) -> list[psutil.Process]:
    """What a process that is gone left running in its session. Nobody else gets its number while somebody is in there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if psutil.Process(int(record["pid"])).status() != psutil.STATUS_ZOMBIE:
            return []
    orphans = []
    for member in _session(int(record["pid"])):
        with contextlib.suppress(psutil.NoSuchProcess):
            if member.create_time() >= float(record["started"]) - SAME_START and member.status() != psutil.STATUS_ZOMBIE:
                orphans.append(member)
    return orphans


def _reap(process: psutil.Process, patience: float) -> None:
    """Wait for the end. Also for our own child, which stays a zombie until somebody waits for it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.05)


def _end(family: list[psutil.Process], grace: float) -> None:
    """SIGTERM, a moment, SIGKILL: for what outlived its parent."""
    alive = [member for member in family if member.is_running()]
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, stubborn = psutil.wait_procs(alive, timeout=grace)
    for member in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(stubborn, timeout=5)
