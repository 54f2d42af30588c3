"""Processes that move stages, one step at a time: a real log on SQLite, a registry in memory, and pauses where others may act.

A process pauses before whatever can be seen by others or can see them: a read of the log, an append, each call of the registry.
To be killed at a pause is to be killed after the step before.
"""

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from greenlet import getcurrent, greenlet

from airgate.audit.entry import StoredEvent
from airgate.audit.event import Actor, AuditEvent, TaskRef
from airgate.audit.store import AuditStore
from airgate.contracts.stages import StageMove
from airgate.errors import AirgateError
from airgate.governance import stages
from airgate.governance.stages import Move, Stages
from airgate.lifecycle.moves import Author, Moves
from airgate.registry.versions import Version

MODEL = "m"
DIGESTS = {str(number): f"sha256:{number:064d}" for number in range(1, 6)}


class Killed(BaseException):
    """A SIGKILL: no handler of the code under test catches it."""


def pause() -> None:
    """Let others run, inside a process; outside of one there are no others."""
    parent = getcurrent().parent
    if parent is not None:
        parent.switch()


class Log(AuditStore):
    """The log, with a pause before each step that others can come before."""

    def events(self, **wanted: Any) -> list[StoredEvent]:
        pause()
        return super().events(**wanted)

    def append_if_absent(self, event: AuditEvent) -> int:
        pause()
        return super().append_if_absent(event)


class MemoryRegistry:
    """MLflow as a move sees it: no lock, no compare-and-set, the last writer wins."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, str]] = {version: {} for version in DIGESTS}
        self.aliases: dict[str, str] = {}
        self.digests: dict[str, str] = {}  # tags that somebody changed

    def find(self, model: str, version: str) -> Version | None:
        pause()
        return self._version(model, version)

    def live(self, model: str, alias: str) -> Version | None:
        pause()
        return self._version(model, self.aliases.get(alias, ""))

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        pause()
        if version is None:
            self.aliases.pop(alias, None)
        elif version in self.tags:
            self.aliases[alias] = version

    def set_tag(self, model: str, version: str, name: str, value: str | None) -> None:
        pause()
        if version in self.tags:
            self.tags[version].pop(name, None)
            if value is not None:
                self.tags[version][name] = value

    def delete(self, version: str) -> None:
        """Delete a version, and with it the aliases that name it, as MLflow does."""
        del self.tags[version]
        self.aliases = {alias: there for alias, there in self.aliases.items() if there != version}

    def _version(self, model: str, version: str) -> Version | None:
        if version not in self.tags:
            return None
        return Version(model, version, self.digests.get(version, DIGESTS[version]), dict(self.tags[version]), None)


class World:
    """One log and one registry, and the processes at work on them."""

    def __init__(self, template: Path, folder: Path) -> None:
        shutil.copy(template, folder / "audit.db")
        self.log, self.registry, self._file = Log(f"sqlite:///{folder}/audit.db"), MemoryRegistry(), folder / "audit.db"

    def copy(self, folder: Path) -> "World":
        other = World(self._file, folder)
        other.registry = deepcopy(self.registry)
        return other

    def moves(self, run: str) -> Moves:
        task = TaskRef(dag_id="d", run_id=run, task_id="apply", try_number=1)
        return Moves(self.log, self.registry, Author(Actor(kind="system", name="test"), task))

    def promotion(self, run: str, to: str, expected: str | None = None) -> "Process":
        return Process(lambda: self.moves(run).move(MODEL, wanted(to, expected)))

    def state(self) -> Stages:
        return stages.read(self.log, MODEL)


class Process:
    """A piece of work that can be run a step at a time, and killed. `result` is what it gave or raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.steps = 0
        self._greenlet = greenlet(lambda: self._run(work))

    @property
    def done(self) -> bool:
        return self.result is not None

    def step(self) -> None:
        if not self.done:
            self.steps += 1
            self._greenlet.switch()

    def run(self) -> "Process":
        while not self.done:
            self.step()
        return self

    def kill(self) -> None:
        if self.steps == 0:
            self.result = Killed()
        elif not self.done:
            self._greenlet.throw(Killed())

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.result = work()
        except (AirgateError, Killed) as error:
            self.result = error


def wanted(to: str | None, expected: str | None = None, **more: Any) -> StageMove:
    digest = DIGESTS[to] if to else None
    return StageMove(from_version=expected, to_version=to, model_digest=digest, request_digest=to and f"r{to}", **more)


def moved_to(result: Any) -> str | None:
    """The version a process says it moved, None when it was killed or refused."""
    return result.body.to_version if isinstance(result, Move) else None
