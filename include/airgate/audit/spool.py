"""A folder of events that could not be recorded: one file an event, on disk before anybody relies on it, drained later.

A file is {"event": the event's canonical bytes, in clear, "personal": its paths of personal fields}; the people's keys are in
the database that is down, so what they encrypt in the log stands here readable, in files that only their owner may read.
The file has the event's id for a name, so an event spooled twice is one file, and the first word stands as it does in the log.

A decision is never spooled, nor is a step's success: what could not be recorded did not happen. A file that claims one is
forged, and goes the way of every file that is not ours: set aside, and put on record as an alarm.
"""

import os
import socket
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from airgate.audit.canonical_json import dumps, loads
from airgate.audit.event import Actor, AuditEvent, canonical, event_id_of, event_of
from airgate.errors import AuditError

BATCH = 1000
# Decisions; of steps, see `unfit`. The list is of what may not wait, so that a kind which is new may.
DECISIONS = (
    "gate.verdict", "promotion.requested", "promotion.approved", "promotion.refused", "stage.moving", "stage.moved",
    "stage.reverted", "stage.reviewed", "model.signed", "bundle.exported", "bundle.imported", "drift.verdict",
    "retraining.decided", "audit.key", "audit.hold", "audit.erased", "audit.expired",
)
_ACTOR = Actor(kind="system", name="audit spool")
_WRITTEN, _PARTIAL, _ASIDE = ".json", ".tmp", ".bad"
_ABANDONED = 3600.0  # seconds after which nobody is still writing a file
_LARGEST = 1024 * 1024  # bytes; an event has 64 KiB at most, and names fewer people than would fill this


class Log(Protocol):
    """What a spool is drained into: an AuditStore."""

    def append_if_absent(self, event: AuditEvent) -> int:
        """Record an event durably unless its id is there. Raises AuditError."""

    def head(self) -> tuple[int, bytes]:
        """Raises AuditError when the log cannot be reached."""


@dataclass
class DrainReport:
    """What became of a spool's files: `recorded` are in the log now, `aside` were no events, `left` the log did not take.

    `error` is what it said to the last of these.
    """

    recorded: int = 0
    aside: list[str] = field(default_factory=list)
    left: int = 0
    error: str = ""

    def line(self) -> str:
        """The report in one line."""
        text = f"{self.recorded} events of the spool recorded"
        if self.aside:
            text += f", {len(self.aside)} files set aside: {', '.join(self.aside)}"
        return f"{text}, {self.left} left: {self.error}" if self.left else text


class Spool:
    """The spool in one folder. Any number of processes may use it at once, and be killed at any point."""

    def __init__(self, folder: Path) -> None:
        """Take the folder's path; it is made, closed to other accounts, when there is something to keep."""
        self.folder = folder

    def put(self, event: AuditEvent) -> None:
        """Keep an event; once this returns it survives a crash of the machine.

        Raises AuditError when the event has no canonical form, when its kind may not wait, or when the folder takes no file.
        """
        reason = unfit(event)
        if reason:
            raise AuditError(f"event {event.event_id} ({event.kind}) was not kept for later: {reason}")
        content = b'{"event":%b,"personal":%b}' % (canonical(event), dumps(event.personal))
        try:
            self._make()
            if not (self.folder / f"{event.event_id}{_WRITTEN}").exists():
                self._write(str(event.event_id), content)
            _sync(self.folder)
        except OSError as error:
            raise AuditError(
                f"the audit spool {self.folder} cannot keep an event: {error.strerror or error}. It must be a folder that "
                "Airflow's user may write, with room on its disk (AIRGATE_AUDIT_SPOOL)") from error

    def is_empty(self) -> bool:
        """Whether nothing waits; costs a look into the folder. A folder that cannot be read is not known to be empty."""
        try:
            return not any(map(_waits, self._names()))
        except OSError:
            return False

    def drain(self, log: Log, limit: int | None = None) -> DrainReport:
        """Record what waits, oldest first, and delete each file once its event is in the log; at most `limit` files.

        What the log does not take stays for the next time. Raises AuditError when the folder cannot be used.
        """
        report = DrainReport()
        seen: set[str] = set()
        try:
            while limit is None or len(seen) < limit:
                batch = self._oldest(seen, BATCH if limit is None else min(BATCH, limit - len(seen)))
                if not batch:
                    break
                seen.update(path.name for path in batch)
                self._drain(batch, log, report)
            report.left = sum(map(_waits, self._names()))
        except _Down:
            report.left = sum(map(_waits, self._names()))
        except OSError as error:
            raise AuditError(f"the audit spool {self.folder} cannot be drained: {error.strerror or error}. It must be a folder "
                             "that Airflow's user may read and write (AIRGATE_AUDIT_SPOOL)") from error
        return report

    def _drain(self, batch: list[Path], log: Log, report: DrainReport) -> None:
        events: list[tuple[AuditEvent, Path]] = []
        for path in batch:
            with suppress(FileNotFoundError):  # another process drained it
                try:
                    events.append((_read(path), path))
                except _Foreign as foreign:
                    self._set_aside(path, str(foreign), log, report)
        for event, path in sorted(events, key=lambda one: (one[0].occurred_at, one[1])):
            if _record(event, log, report):
                report.recorded += 1
                path.unlink(missing_ok=True)

    def _set_aside(self, path: Path, reason: str, log: Log, report: DrainReport) -> None:
        """Alarm first: killed in between, the next drain finds the same file and makes the same alarm."""
        about = path.lstat()
        name, host = path.name.encode("utf-8", "backslashreplace").decode()[:250], socket.gethostname()
        alarm = AuditEvent(
            event_id=event_id_of("audit.alarm", "spool", host, name, about.st_size, about.st_mtime_ns),
            kind="audit.alarm", occurred_at=datetime.now(UTC), actor=_ACTOR, source="sweep",
            body={"alarm": "spool", "file": name, "reason": reason, "host": host})
        if _record(alarm, log, report):
            path.rename(path.with_name(f"{path.name[:100]}.{uuid4().hex[:8]}{_ASIDE}"))
            report.aside.append(name)

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []

    def _oldest(self, seen: set[str], count: int) -> list[Path]:
        """The files that were written first; what is in them may be out of order by as long as their writers waited."""
        found: list[tuple[int, str]] = []
        for name in self._names():
            with suppress(FileNotFoundError):
                written = (self.folder / name).lstat().st_mtime_ns
                if name not in seen and _waits(name, age=time.time() - written / 1e9):
                    found.append((written, name))
        return [self.folder / name for _, name in sorted(found)[:count]]

    def _make(self) -> None:
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            _sync(path.parent)

    def _write(self, event_id: str, content: bytes) -> None:
        partial = self.folder / f"{event_id}.{uuid4().hex[:8]}{_PARTIAL}"
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            partial.rename(self.folder / f"{event_id}{_WRITTEN}")
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def unfit(event: AuditEvent) -> str | None:
    """Say why an event may not wait in a spool; None when it may."""
    if event.kind in DECISIONS:
        return "a decision that cannot be recorded is not made"
    if event.kind == "task.succeeded" and event.source == "operator":
        return "a step that cannot record its success does not succeed"
    return None


class _Foreign(Exception):
    """A file that is no event of ours. The text never shows what is in it."""


class _Down(Exception):
    """The log takes nothing now, whatever is offered."""


def _waits(name: str, age: float = 0.0) -> bool:
    """Whether a file is to be drained: not those set aside, nor one that somebody writes now. `age` is in seconds."""
    return not name.endswith(_ASIDE) and (age > _ABANDONED or not name.endswith(_PARTIAL))


def _read(path: Path) -> AuditEvent:
    """Raises _Foreign, or FileNotFoundError when the file is gone."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise _Foreign("not a file")
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError:
        raise _Foreign("cannot be read") from None
    if len(content) > _LARGEST:
        raise _Foreign("too long for an event")
    try:
        record = loads(content)
        event = event_of(record["event"], record["personal"])
        canonical(event, lambda *_: "")  # a personal path that leads nowhere would be refused for ever
    except (AuditError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise _Foreign("not an event") from None
    if path.name.split(".")[0] != str(event.event_id):
        raise _Foreign("not named after its event")
    if unfit(event):
        raise _Foreign("an event of a kind that is never spooled")
    return event


def _record(event: AuditEvent, log: Log, report: DrainReport) -> bool:
    """Raises _Down. One event that the log refuses for what it is must not keep the others waiting."""
    try:
        log.append_if_absent(event)
    except AuditError as error:
        report.error = str(error)
        try:
            log.head()
        except AuditError:
            raise _Down from None
        return False
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
