"""The only way a stage moves: intent, apply, confirm, with the audit log as the lock. See docs/adr/0008.

MLflow has no compare-and-set, so its alias is never trusted: it only shows what the log says. Whoever finds an open claim, its
author's next try or anybody else, finishes or reverts it. So a process may be killed between any two lines here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from airgate import redaction
from airgate.audit import signed
from airgate.audit.event import PEOPLE, Actor, AuditEvent, CodeRef, Kind, TaskRef
from airgate.audit.registry_changes import records
from airgate.audit.subjects import ERASED
from airgate.contracts.stages import ARCHIVED, STAGE_TAG, StageMove
from airgate.errors import AirgateError, PromotionError, SignatureError
from airgate.governance import guard, stages
from airgate.governance.stages import CLAIM, Move, Stages
from airgate.lifecycle import sign

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore
    from airgate.registry.versions import Version

# Each round but the last changes something. Who needs more is up against somebody who writes the same alias again and again.
ROUNDS = 20


class Conflict(PromotionError):
    """Somebody else moved the stage first. `people` are the names in the text; `nameless` is the text without them."""

    def __init__(self, text: str, people: Iterable[str], nameless: str) -> None:
        super().__init__(text)
        self.people, self.nameless = tuple(people), nameless


class Unsettled(AirgateError):
    """The log and MLflow could not be brought to agree now. Nothing is decided by it: try again."""


class StageRegistry(Protocol):
    """What a move needs of MLflow; `airgate.registry.versions.Registry` has it."""

    def find(self, model: str, version: str) -> "Version | None":
        """One version, None when MLflow does not have it."""
        ...

    def live(self, model: str, alias: str) -> "Version | None":
        """The version that the alias names, None when it names none."""
        ...

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Let the alias name the version, or nothing. One that is gone meanwhile leaves the alias as it is."""
        ...

    def set_tag(self, model: str, version: str, name: str, value: str | None) -> None:
        """Give the version a tag, or take it away. A version that is gone meanwhile gets none."""
        ...


@dataclass(frozen=True)
class Author:
    """Who moves: in whose name, by which task try, with which code."""

    actor: Actor
    task: TaskRef
    code: CodeRef = field(default_factory=CodeRef)

    @classmethod
    def of(cls, context: Any, actor: Actor | None = None) -> "Author":
        """The author that a task's context names; whoever started the run, unless `actor` is given."""
        from airgate.lifecycle import recording

        by = recording.by(context, actor)
        return cls(by["actor"], by["task"], by["code"])

    def wrote(self, move: Move) -> bool:
        """Whether a move is of this task instance, whichever its try."""
        return _instance(move.event.task) == _instance(self.task)


class Moves:
    """Moves stages of models in one log and one registry, in the name of one author.

    A claim is signed by whoever makes it (AIRGATE_MODEL_KEY), and nobody finishes one that is not: to append to the log moves
    nothing. Without a key ConfigError is raised.
    """

    def __init__(self, log: "AuditStore", registry: StageRegistry, author: Author) -> None:
        self._log, self._registry, self._author = log, registry, author

    def move(self, model: str, wanted: StageMove) -> Move:
        """Move a stage from `wanted.from_version` to `wanted.to_version`, once; a repeated task gets the move it made before.

        Raises Conflict, which names the winner, when the stage does not hold `from_version` (any more); PromotionError when the
        version is archived, gone or changed, or the move was begun and had to be given up. Worth another try are Unsettled, when
        the alias was moved by hand, and AuditError.
        """
        for _ in range(ROUNDS):
            now = self.finish(model)
            ours = self._ours(now)
            if ours is not None:
                return ours
            try:
                self._check(now, wanted)
            except (PromotionError, Unsettled):
                if stages.read(self._log, model) == now:
                    raise
                continue  # the registry was looked at later than the log, and a move came between
            # Whose claim it is shows in the next round, which settles it: ours, or that of somebody who was faster.
            self._claim(now, wanted)
        raise Unsettled(f"{model}: {ROUNDS} others moved a stage before this task could. Run it again.")

    def made(self, model: str) -> Move | None:
        """The move that an earlier try of this task made or had begun; None if there is none. Raises as `move` does."""
        return self._ours(self.finish(model))

    def finish(self, model: str, align: Iterable[str] = ()) -> Stages:
        """Settle whatever claim is open, and give the state. Aliases of stages that it settled, or named in `align`, then say
        what the log says; one whose version is gone or changed names nothing.

        Raises Unsettled when an alias is written by somebody else all the while, AuditError when the log fails.
        """
        touched = set(align)
        for _ in range(ROUNDS):
            now = stages.read(self._log, model)
            if now.claim is not None:
                touched.add(now.claim.body.stage)
                self._settle(now.claim)
                continue
            # Read again after every change: a slow process must not leave an older move's alias over a newer one's.
            changed = [stage for stage in sorted(touched) if not self._agrees(now, stage)]
            if not changed:
                return now
        raise Unsettled(f"{model}: something else keeps writing the alias {' or '.join(sorted(touched))} in MLflow. Only "
                        "Airgate may: see 'MLflow accounts' in docs/platform.md, then run this task again.")

    def sound(self, model: str, version: str, digest: str | None) -> bool:
        """Whether MLflow has this version, with the digest that the log says it had."""
        found = self._registry.find(model, version)
        return found is not None and found.digest == digest

    def _ours(self, now: Stages) -> Move | None:
        """What this task instance did before, in this try or another. One task instance makes one move."""
        found = next((move for move in (*now.moves, *now.reverted) if self._author.wrote(move)), None)
        if found is not None and found.event.kind == "stage.reverted":
            raise PromotionError(f"the move was begun and given up: {found.body.reason}")
        return found

    def _check(self, now: Stages, wanted: StageMove) -> None:
        """Compare, before the log sets. What is allowed here still waits for the claim."""
        state, version = now.state(wanted.stage), wanted.to_version
        before = f"this {wanted.cause} was asked for when it was {_named(wanted.from_version)}"
        if state.version != wanted.from_version:
            raise _conflict(now, wanted, state.moved, before)
        if version is None:
            return
        if version in now.archived:
            raise PromotionError(f"version {version} of {now.model} is archived and cannot go to {wanted.stage}: train a new one")
        if wanted.stage == ARCHIVED and now.stage_of(version):
            raise PromotionError(f"version {version} of {now.model} is in {now.stage_of(version)}: "
                                 "roll back or demote first, then archive it")
        lost = self._lost(now.model, wanted)
        if lost is not None:
            raise PromotionError(lost)
        # An empty alias misleads nobody, and one that names the target may be a move of release 0.2.0 that was interrupted.
        # A rollback does not wait until somebody has looked into a strange alias.
        there = self._alias(now.model, wanted.stage)
        if wanted.cause == "promotion" and there not in (None, wanted.from_version, version):
            raise Unsettled(f"{now.model}: {wanted.stage} is {_named(there)} in MLflow by no move on record; {before}. The DAG "
                            "registry_guard puts the alias back: run this task again after it.")

    def _claim(self, now: Stages, wanted: StageMove) -> None:
        claim, said = stages.claim_id(now.model, now.settled), wanted.model_copy(update={"previous": now.settled})
        body = redaction.masked(said.model_dump(mode="json"))
        body["envelope"] = sign.move_envelope(now.model, str(claim), body).to_json()
        self._log.append_if_absent(self._event(
            CLAIM, claim, now.model, body, self._author, personal=_personal(wanted, self._author.actor)))

    def _settle(self, claim: Move) -> None:
        """Apply and confirm, or give up: whatever the author of the claim would do, at any moment, any number of times."""
        model, body = str(claim.event.model), claim.body
        try:
            signed.check_move(self._log, claim)
        except SignatureError as error:
            self._give_up(claim, str(error))
            return
        lost = self._lost(model, body)
        if lost is not None:
            self._give_up(claim, lost)
            return
        gone = body.stage == ARCHIVED and self._registry.find(model, str(body.to_version)) is None
        there = None if gone else body.to_version
        self._registry.set_alias(model, body.stage, there)
        # Somebody may have settled this claim and made the next move meanwhile; then this is not ours to judge.
        if self._alias(model, body.stage) == there:
            self._confirm(claim, "stage.moved", claim.event.body, claim.event.personal)

    def _lost(self, model: str, wanted: StageMove) -> str | None:
        """Why a version can never be moved, None when it can. Raises Unsettled while only its tag in MLflow was changed.

        What is archived is never used again, whatever became of it in MLflow.
        """
        version = wanted.to_version
        if version is None or wanted.stage == ARCHIVED or self.sound(model, version, wanted.model_digest):
            return None
        found = self._registry.find(model, version)
        if found is None:
            return f"version {version} is gone from MLflow"
        blocked = guard.blocking(records(self._log, model), version)
        if blocked is not None:
            return blocked
        raise Unsettled(f"{model} version {version}: its tag airgate.digest in MLflow is {found.digest or 'not set'}, this "
                        f"{wanted.cause} is for {wanted.model_digest}. The DAG registry_guard puts the tag back, or puts on "
                        "record that the version was replaced: run this task again after it.")

    def _give_up(self, claim: Move, reason: str) -> None:
        model, body = str(claim.event.model), claim.body
        before = stages.read(self._log, model).state(body.stage)
        there = before.version if before.version and self.sound(model, before.version, before.digest) else None
        self._registry.set_alias(model, body.stage, there)
        given = {**claim.event.body, "envelope": None, "asked_because": claim.event.body.get("reason"), "reason": reason}
        personal = {("asked_because" if path == "reason" else path): name for path, name in claim.event.personal.items()}
        self._confirm(claim, "stage.reverted", given, personal)

    def _confirm(self, claim: Move, kind: Kind, body: dict[str, Any], personal: dict[str, str]) -> None:
        """Record how a claim ended, as its author's deed; `recovered`, and by whom, when another task does it."""
        author, others = Author(claim.event.actor, claim.event.task or self._author.task, self._author.code), {}
        if not self._author.wrote(claim):
            task = self._author.task
            others = {"finished_by": {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id}}
        kept = {path: name for path, name in personal.items() if not name.startswith(ERASED)}
        self._log.append_if_absent(self._event(
            kind, stages.settling_id(claim.event.event_id), str(claim.event.model), {**body, "claim": claim.event_id, **others},
            author, recovered=bool(others), personal=kept))

    def _event(self, kind: Kind, event_id: Any, model: str, body: dict[str, Any], author: Author, **more: Any) -> AuditEvent:
        return AuditEvent(event_id=event_id, kind=kind, occurred_at=datetime.now(UTC), actor=author.actor, task=author.task,
                          model=model, version=body["to_version"] or body["from_version"], source="operator", code=author.code,
                          body=body, **more)

    def _agrees(self, now: Stages, stage: str) -> bool:
        """Whether MLflow shows a stage as the log has it; where it did not, it is made to."""
        state, model = now.state(stage), now.model
        wanted = state.version if state.version and self.sound(model, state.version, state.digest) else None
        agreed = self._alias(model, stage) == wanted
        if not agreed:
            self._registry.set_alias(model, stage, wanted)
        for version in {state.moved.body.from_version, state.moved.body.to_version} - {None} if state.moved else ():
            found, tag = self._registry.find(model, str(version)), now.stage_of(str(version))
            if found is not None and found.tags.get(STAGE_TAG) != tag:
                self._registry.set_tag(model, found.version, STAGE_TAG, tag)
                agreed = False
        return agreed

    def _alias(self, model: str, stage: str) -> str | None:
        found = self._registry.live(model, stage)
        return found.version if found else None


def _conflict(now: Stages, wanted: StageMove, winner: Move | None, before: str) -> Conflict:
    def said(line: str) -> str:
        since = f" since the {line}, {winner.stored_at:%Y-%m-%d %H:%M} UTC" if winner else ""
        return f"{now.model}: {wanted.stage} is {_named(now.state(wanted.stage).version)}{since}; {before}. Ask again."

    if winner is None:
        return Conflict(said(""), (), said(""))
    return Conflict(said(winner.line()), winner.who, said(winner.what))


def _personal(wanted: StageMove, actor: Actor) -> dict[str, str]:
    """The names of those who agreed, and what somebody wrote as a reason."""
    found = {f"approvers.{place}.user": one.user for place, one in enumerate(wanted.approvers) if not one.user.startswith(ERASED)}
    return found | ({"reason": actor.name} if wanted.reason and actor.kind in PEOPLE else {})


def _instance(task: TaskRef | None) -> tuple[str, str, str, int] | None:
    return (task.dag_id, task.run_id, task.task_id, task.map_index) if task else None


def _named(version: str | None) -> str:
    return f"version {version}" if version else "none"
