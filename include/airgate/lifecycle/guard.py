"""The registry guard: finds what was changed in MLflow behind the promotion's back, records it, puts it back, tells people.

MLflow's word is held against the log twice before anything is believed, so that what is registered or moved meanwhile explains
itself. Aliases are set by `Moves` alone, which reads the log after each write: a guard that is slow cannot undo a promotion.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.audit import registrations, signed
from airgate.audit.event import AuditEvent, event_id_of
from airgate.audit.registry_changes import GUARD, Change, Recorded, found_event, records, restored_event
from airgate.audit.registry_state import RegistryAccount
from airgate.contracts.stages import STAGE_TAG
from airgate.errors import AirgateError, AuditError, SignatureError
from airgate.governance import guard, stages
from airgate.governance.guard import Remedy, View
from airgate.governance.stages import Stages
from airgate.lifecycle import notify, recording
from airgate.lifecycle.moves import Author, Moves, StageRegistry, Unsettled

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

SHOWN = 20  # lines in one message


@dataclass
class Watched:
    """What a guard saw of one model: what is new on record, what was put back, what could not be.

    `forged` are sentences about events of its stages, new on record, that Airgate did not write.
    """

    model: str
    versions: int = 0
    found: list[tuple[Change, Remedy]] = field(default_factory=list)
    restored: list[Change] = field(default_factory=list)
    failed: list[Change] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Say what was found and what is done about it, a line each."""
        return [*self.forged, *(f"{change.line()}; {remedy.text}" for change, remedy in self.found)]


Key = tuple[str, str]
Standing = dict[Key, tuple[Change, Remedy]]


class Guard:
    """Watches models of one log in one registry, in the name of one task.

    `tell` gets what is new, once it is on record; `clock` gives the time by which a move that began is taken for left.
    """

    def __init__(self, log: "AuditStore", account: RegistryAccount, registry: StageRegistry, author: Author, *,
                 tell: Callable[[Watched], None] = lambda _: None,
                 clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._log, self._account, self._registry, self._author = log, account, registry, author
        self._tell, self._clock = tell, clock
        self._moves = Moves(log, registry, author)

    def watch(self, model: str) -> Watched:
        """Hold MLflow against the log, once, and put back what can be put back.

        Raises AuditError when log or MLflow cannot be read, PromotionError when something else keeps writing an alias.
        """
        left = guard.is_left(stages.read(self._log, model), self._clock())
        if left:
            with suppress(Unsettled):  # what is in its way may be what is put right below
                self._moves.finish(model)
        view = self._look(model)
        for version, stage in guard.unshown(view):
            self._registry.set_tag(model, version, STAGE_TAG, stage)
        found, seen = self._changes(view), Watched(model, len(view.state.versions))
        standing: Standing = {}
        if found:
            # What was registered or moved between the two readings explains itself when both are taken again.
            view = self._look(model)
            again = self._changes(view)
            standing = {change.key: (change, guard.remedy(change, view)) for change in again if change in found}
            found += again
        on_record = records(self._log, model)
        for recorded in guard.closed(on_record, found):
            self._append_restored(recorded.change, "it is in MLflow no more", recorded.event_id)
        ids = {key: self._put_on_record(change, remedy, on_record.get(key), seen) for key, (change, remedy) in standing.items()}
        self._alarm(stages.read(self._log, model), seen)
        try:
            self._put_back(model, standing, ids, seen)
            if left:
                self._moves.finish(model)
        finally:
            if seen.lines():
                self._tell(seen)
        return seen

    def _put_on_record(self, change: Change, remedy: Remedy, earlier: Recorded | None, seen: Watched) -> str:
        """Before anything is done about it. Gives the id of the record, which may be that of an earlier guard."""
        if earlier is not None and earlier.tells(change):
            return earlier.event_id
        event = found_event(change, remedy.text, earlier, **self._fields())
        self._log.append_if_absent(event)
        seen.found.append((change, remedy))
        return str(event.event_id)

    def _alarm(self, now: Stages, seen: Watched) -> None:
        """Put on record, once, what somebody wrote into the log about a stage. It moves nothing; people are to ask who it was."""
        said = {seq: f"event {seq} is about a stage of {now.model} and no link of its chain, or cannot be read: Airgate did not "
                     "write it, and it counts for nothing" for seq in now.strays}
        for move in filter(None, (now.state(stage).moved for stage in now.stages)):
            try:
                signed.check_move(self._log, move)
            except SignatureError as error:
                said[move.seq] = str(error)
        for seq, what in sorted(said.items()):
            event_id = event_id_of("audit.alarm", "stage", now.model, seq)
            if self._log.get(event_id) is None:
                self._log.append_if_absent(AuditEvent(event_id=event_id, kind="audit.alarm", actor=GUARD, model=now.model,
                                                      body={"alarm": "stage", "what": what}, **self._fields()))
                seen.forged.append(what)

    def _put_back(self, model: str, standing: Standing, ids: dict[Key, str], seen: Watched) -> None:
        """Tags first: an alias is set to no version whose digest differs. What then reads right is recorded as restored."""
        wanted = [(change, remedy) for change, remedy in standing.values() if remedy.action != "none"]
        if not wanted:
            return
        for change, remedy in wanted:
            for tag, text in change.before.items() if remedy.action == "set_tags" else ():
                self._registry.set_tag(model, change.subject, tag, text)
        self._moves.finish(model, [change.subject for change, remedy in wanted if remedy.action == "align"])
        left = {change.key for change in self._changes(self._look(model))}
        for change, remedy in wanted:
            if change.key in left:
                seen.failed.append(change)
            else:
                self._append_restored(change, remedy.text, ids[change.key])
                seen.restored.append(change)

    def _look(self, model: str) -> View:
        """MLflow first: whatever it has for a reason, the log had the reason before."""
        state = self._account.state(model)
        return View(state, registrations.known(self._log, state), stages.read(self._log, model))

    def _changes(self, view: View) -> list[Change]:
        return guard.changes(view, self._clock())

    def _append_restored(self, change: Change, remedy: str, found: str) -> None:
        self._log.append_if_absent(restored_event(change, remedy, found, **self._fields()))

    def _fields(self) -> dict[str, Any]:
        return {"occurred_at": datetime.now(UTC), "source": "operator", "task": self._author.task, "code": self._author.code}


class RegistryGuardOperator(BaseOperator):
    """Watches every model of the log and of the catalog, and tells people what it found."""

    def execute(self, context: Any) -> dict[str, int]:
        """Give how many models and versions were looked at, how many changes are new on record, how many were put back.

        Raises AuditError at the end, after every other model was looked at, where one could not be, or a change could not be
        put back.
        """
        from mlflow.exceptions import MlflowException

        from airgate.audit.mlflow_account import MlflowAccount
        from airgate.audit.versions import models_known
        from airgate.registry.versions import Registry

        log, now = recording.store(), settings.load()
        watcher = Guard(log, MlflowAccount(now.mlflow_uri), Registry(now.mlflow_uri), Author.of(context, GUARD),
                        tell=lambda seen: tell(seen, context))
        watched: list[Watched] = []
        trouble: list[str] = []
        for model in models_known(log, now.models):
            try:
                seen = watcher.watch(model)
            except AirgateError as error:
                trouble.append(f"{model}: {error}")
            except MlflowException as error:  # not its text: that may hold the address with its password
                trouble.append(f"{model}: MLflow refused to put it back ({error.error_code}). Airflow's account there must be "
                               "able to write to the model; see 'MLflow accounts' in docs/platform.md")
            else:
                watched.append(seen)
                trouble += [f"{change.line()}, still, after it was put back" for change in seen.failed]
        for line in (line for seen in watched for line in seen.lines()):
            self.log.warning("%s", line)
        if trouble:
            raise AuditError(f"the registry guard could not do its work in {len(trouble)} place(s): {'; '.join(trouble)[:2000]}")
        return {"models": len(watched), "versions": sum(seen.versions for seen in watched),
                "found": sum(len(seen.found) for seen in watched), "restored": sum(len(seen.restored) for seen in watched)}


def tell(seen: Watched, context: Any) -> None:
    """Send one message for all that is new about a model."""
    lines, versions = seen.lines(), {change.version for change, _ in seen.found}
    more = [f"and {len(lines) - SHOWN} more: `airgate audit show --kind registry.changed`"] if len(lines) > SHOWN else []
    notify.send("registry.changed", model=seen.model, version=versions.pop() if len(versions) == 1 else None,
                text="\n".join([*lines[:SHOWN], *more]), context=context)
