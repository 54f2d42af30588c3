"""What the crash matrix is made of: writers that note what they were promised, and a PostgreSQL that can be struck down."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tests.audit.conftest import MOMENT

from airgate.audit.delivery import Delivery, NotRecorded
from airgate.audit.event import Actor, AuditEvent, event_id_of
from airgate.platform import credentials, ports, postgres
from airgate.platform.layout import Layout

PATIENCE = 0.4  # seconds; outages are shorter and longer than that
RECORDED, SPOOLED = "recorded", "spooled"


def numbered(case: str, writer: int, number: int) -> AuditEvent:
    """The event that a writer offers as its n-th, the same whenever it is made."""
    return AuditEvent(
        event_id=event_id_of("crash", case, writer, number), kind="manual.change", source="cli",
        occurred_at=MOMENT + timedelta(seconds=number), actor=Actor(kind="user", name=f"ana-{writer}"),
        body={"writer": writer, "number": number, "request": f"what ana-{writer} wrote"},
        personal={"request": f"ana-{writer}"})


def write(case: str, writer: int, url: str, folder: Path) -> None:
    """Offer one event after the other until the file `stop` is there; note what became of each, once it is promised.

    A line is durable before the next event. Whoever comes after a killed writer offers again what that one did not note.
    """
    notes = folder / f"{case}-{writer}.notes"
    number = len(read_notes(notes))
    delivery = Delivery(url, folder / "spool", PATIENCE, timeout=5.0)
    side = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(side, b"\n")  # a line that was cut off stays a line of its own
    while not (folder / "stop").exists():
        event = numbered(case, writer, number)
        try:
            promised = f"{RECORDED} {delivery.append_if_absent(event)}"
        except NotRecorded:
            promised = f"{SPOOLED} -"
        os.write(side, f"{promised} {number} {event.event_id}\n".encode())
        os.fsync(side)
        number += 1


def read_notes(notes: Path) -> list[tuple[str, int, int, str]]:
    """What a writer was promised: (recorded or spooled, seq or -1, number, event id)."""
    found = []
    for line in notes.read_text().splitlines() if notes.exists() else []:
        parts = line.split()
        if len(parts) == 4 and len(parts[3]) == 36:
            found.append((parts[0], -1 if parts[1] == "-" else int(parts[1]), int(parts[2]), parts[3]))
    return found


class Writers:
    """Processes that write; whoever is killed gets a successor."""

    def __init__(self, case: str, count: int, url: str, folder: Path) -> None:
        self.case, self.url, self.folder = case, url, folder
        self.kills = 0
        self._processes: list[BaseProcess] = [self._start(writer) for writer in range(count)]

    def __len__(self) -> int:
        return len(self._processes)

    def kill(self, writer: int) -> None:
        self._strike(writer)
        self._processes[writer] = self._start(writer)

    def kill_all(self) -> None:
        for writer in range(len(self)):
            self._strike(writer)

    def start_all(self) -> None:
        self._processes = [self._start(writer) for writer in range(len(self))]

    def finish(self) -> list[int | None]:
        """Let everybody come to an end by themselves; give their exit codes."""
        (self.folder / "stop").touch()
        for process in self._processes:
            process.join()
        return [process.exitcode for process in self._processes]

    def notes(self, writer: int) -> list[tuple[str, int, int, str]]:
        return read_notes(self.folder / f"{self.case}-{writer}.notes")

    def _strike(self, writer: int) -> None:
        process = self._processes[writer]
        assert process.is_alive(), f"writer {writer} ended by itself: {process.exitcode}"
        process.kill()
        process.join()
        self.kills += 1

    def _start(self, writer: int) -> BaseProcess:
        process = get_context("fork").Process(target=write, args=(self.case, writer, self.url, self.folder))
        process.start()
        return process


class Server:
    """A PostgreSQL of its own, as the embedded installation starts it: fsync is on, and promises are kept."""

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(root=folder, home=folder / "home")
        self._layout.make()
        self._keys, self._port = credentials.ensure(self._layout), ports.free_port()
        postgres.prepare(self._layout, self._keys)
        self._service = postgres.service(self._layout, self._port)
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def create_log(self) -> str:
        """Make the audit log; give the URL of the role that may only append."""
        postgres.create_databases(self._keys, self._port)
        postgres.create_audit_log(self._keys, self._port)
        return postgres.url(self._keys, "audit_writer", "airgate_audit", self._port)

    def start(self) -> None:
        """Start it and wait until it takes connections. Right after a crash its last child may still hold the memory."""
        deadline = time.monotonic() + 60
        while True:
            self._process = self._run(self._service.command)
            with suppress(Exception):
                postgres.wait(self._keys, self._port, self._runs)
                return
            assert time.monotonic() < deadline, (self._layout.logs / "postgres.log").read_text()[-2000:]

    def stop_immediately(self) -> None:
        """`pg_ctl stop -m immediate`: no checkpoint, nothing is flushed."""
        command = [str(postgres.programs() / "pg_ctl"), "stop", "-D", str(self._layout.postgres), "-m", "immediate"]
        assert self._run(command).wait() == 0
        self._gone()

    def kill(self) -> None:
        """kill -9 of the postmaster and all its children."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        while any(map(_alive, children)):
            time.sleep(0.01)
        self._gone()

    def end(self) -> None:
        if self._runs():
            assert self._process is not None
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def _gone(self) -> None:
        assert self._process is not None
        self._process.wait()
        self.kills += 1

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _run(self, command: list[str]) -> "subprocess.Popen[bytes]":
        service = self._service
        with (self._layout.logs / "postgres.log").open("ab") as output:
            if service.user is not None:
                os.fchown(output.fileno(), service.user, -1)
            return subprocess.Popen(
                command, env=service.environment, cwd=service.directory, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, user=service.user, group=service.user,
                extra_groups=None if service.user is None else [])


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def serving() -> Iterator[Server]:
    """A started server. Not under pytest's own temporary directory: run as root, PostgreSQL is another user."""
    with TemporaryDirectory(prefix="airgate-crash-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.end()
