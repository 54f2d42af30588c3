"""Where a model's versions stand, by the audit log alone. The log is also the lock: see docs/adr/0008.

A model's moves are a chain. Whoever wants to move a stage of it appends a claim (`stage.moving`) whose id is made from the event
that settled the move before, so that all who want to move next contend for one id, and the log takes an id once. A claim is
settled by one event (`stage.moved` or `stage.reverted`), whose id is made from the claim's, so that it cannot have both.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from airgate.audit.event import PEOPLE, AuditEvent, Kind, event_id_of
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import ARCHIVED, StageMove

if TYPE_CHECKING:
    from airgate.audit.entry import StoredEvent
    from airgate.audit.store import AuditStore

CLAIM: Kind = "stage.moving"
SETTLING: tuple[Kind, ...] = ("stage.moved", "stage.reverted")


def claim_id(model: str, settled: str) -> UUID:
    """The id of the one claim that can follow the settling event `settled` ("" before a model's first move)."""
    return event_id_of(CLAIM, model, settled)


def settling_id(claim: UUID | str) -> UUID:
    """The id of the one event that can settle a claim."""
    return event_id_of("stage.settled", str(claim))


@dataclass(frozen=True)
class Move:
    """A claim, or what settled one, as the log has it. `seq` is its number there, `stored_at` the log's own clock."""

    seq: int
    event: AuditEvent
    stored_at: datetime
    body: StageMove

    @property
    def event_id(self) -> str:
        """The event's id as text."""
        return str(self.event.event_id)

    @property
    def who(self) -> tuple[str, ...]:
        """The people behind it: who approved, or who did it alone."""
        actor = self.event.actor
        alone = (actor.name,) if actor.kind in PEOPLE else ()
        return tuple(one.user for one in self.body.approvers) if self.body.cause == "promotion" else alone

    @property
    def what(self) -> str:
        """Say what it was and where, naming nobody: 'promotion of version 3 to production by run p1 of m_promotion'."""
        body, task = self.body, self.event.task
        where = f"{'from' if body.to_version is None else 'to'} {body.stage}"
        run = f" by run {task.run_id} of {task.dag_id}" if task else ""
        return f"{body.cause} of version {body.to_version or body.from_version} {where}{run}"

    def line(self) -> str:
        """The same, and in brackets whose it was."""
        return self.what + (f" ({', '.join(self.who)})" if self.who else "")


@dataclass(frozen=True)
class StageState:
    """One stage of a model. `version` and `digest` are None when it is empty; `moved` is the newest move of this stage.

    `settled` is the event id of the model's newest settling event, whatever its stage; `claim` is the model's open claim.
    """

    model: str
    stage: str
    version: str | None
    digest: str | None
    moved: Move | None
    settled: str
    claim: Move | None


@dataclass(frozen=True)
class Stages:
    """All stages of a model. `moves` are its settled moves, oldest first; `settled` and `claim` as in StageState."""

    model: str
    moves: tuple[Move, ...] = ()
    settled: str = ""
    claim: Move | None = None
    reverted: tuple[Move, ...] = field(default=(), repr=False)

    def state(self, stage: str = PRODUCTION) -> StageState:
        """What stands in a stage: the newest move of it decides."""
        moved = next((move for move in reversed(self.moves) if move.body.stage == stage), None)
        there = moved.body if moved and moved.body.to_version is not None else None
        return StageState(self.model, stage, there.to_version if there else None, there.model_digest if there else None,
                          moved, self.settled, self.claim)

    @property
    def live(self) -> Move | None:
        """The move that put the present version into production, None when there is none."""
        state = self.state()
        return state.moved if state.version is not None else None

    @property
    def archived(self) -> frozenset[str]:
        """The versions that were archived. None of them can be moved into another stage again."""
        return frozenset(str(move.body.to_version) for move in self.moves if move.body.stage == ARCHIVED and move.body.to_version)

    @property
    def stages(self) -> dict[str, str | None]:
        """Version by stage, for each stage that ever had one. It is what MLflow's aliases must say."""
        return {stage: self.state(stage).version for stage in dict.fromkeys(move.body.stage for move in self.moves)}

    def stage_of(self, version: str) -> str | None:
        """The stage a version is in, None when in none: what MLflow's tag `airgate.stage` must say."""
        if version in self.archived:
            return ARCHIVED
        found = [stage for stage, there in self.stages.items() if there == version]
        return PRODUCTION if PRODUCTION in found else next(iter(found), None)

    def promotion_of(self, request_digest: str) -> Move | None:
        """The promotion that an approved request led to, None when it led to none. An approval serves once."""
        return next((move for move in self.moves
                     if move.body.cause == "promotion" and move.body.request_digest == request_digest), None)

    def previous(self, usable: Callable[[Move], bool] = lambda _: True) -> Move | None:
        """The promotion that a rollback of production goes back to, None when there is none left.

        Promotions pile up; a rollback and a demotion take off what they leave. So two rollbacks in a row go back two
        versions, never to the one that was left first. Archived versions are passed over, and those that are not `usable`: it
        is asked of one promotion after the other, newest first, until it says yes.
        """
        pile: list[Move] = []
        for move in self.moves:
            if move.body.stage != PRODUCTION:
                continue
            if move.body.cause == "promotion":
                pile.append(move)
            elif move.body.cause == "demotion":
                pile = pile[:-1]
            else:
                while pile and pile[-1].body.to_version != move.body.to_version:
                    pile.pop()
        live = self.state().version
        passed = self.archived | {live}
        return next((move for move in reversed(pile) if move.body.to_version not in passed and usable(move)), None)


def of_events(model: str, events: Iterable["StoredEvent"]) -> Stages:
    """Read a model's state from its `stage.*` events, in any order. Pure; other kinds and models count for nothing."""
    ours = sorted((item for item in events if item.event.model == model), key=lambda item: item.seq)
    claims = {item.event.event_id: item for item in ours if item.event.kind == CLAIM}
    settling = [_move(item) for item in ours if item.event.kind in SETTLING]
    settled = settling[-1].event_id if settling else ""
    claim = claims.get(claim_id(model, settled))
    by_kind = {kind: tuple(move for move in settling if move.event.kind == kind) for kind in SETTLING}
    return Stages(model, by_kind["stage.moved"], settled, _move(claim) if claim else None, by_kind["stage.reverted"])


def read(log: "AuditStore", model: str) -> Stages:
    """The state of a model's stages as one moment of the log has it. Raises AuditError when the log cannot be read."""
    return of_events(model, log.events(model=model, kind=(CLAIM, *SETTLING)))


def is_archived(log: "AuditStore", model: str, version: str) -> bool:
    """Whether a version was archived; then it cannot be promoted again. Raises AuditError when the log cannot be read."""
    return version in read(log, model).archived


def _move(item: "StoredEvent") -> Move:
    return Move(item.seq, item.event, item.stored_at, StageMove.model_validate(item.event.body))
