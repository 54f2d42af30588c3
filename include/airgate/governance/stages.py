"""Where a model's versions stand, by the audit log alone. The log is also the lock: see docs/adr/0008."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgate.audit import stage_chain
from airgate.audit.stage_chain import CLAIM, SETTLING, Chain, Move, claim_id, settling_id
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import ARCHIVED

if TYPE_CHECKING:
    from airgate.audit.entry import StoredEvent
    from airgate.audit.store import AuditStore

__all__ = ["CLAIM", "SETTLING", "Move", "StageState", "Stages", "claim_id", "of_events", "read", "settling_id"]


@dataclass(frozen=True)
class StageState:
    """One stage of a model. `version` and `digest` are None when it is empty; `moved` is the newest move of this stage."""

    model: str
    stage: str
    version: str | None
    digest: str | None
    moved: Move | None


@dataclass(frozen=True)
class Stages:
    """All stages of a model. `moves` are its settled moves, oldest first, `reverted` those that were given up.

    `settled` is the event id of the newest settling event, whatever its stage, "" before the first; `claim` is the open claim.
    `strays` are the numbers of events about its stages that Airgate did not write; they count for nothing.
    """

    model: str
    moves: tuple[Move, ...] = ()
    settled: str = ""
    claim: Move | None = None
    reverted: tuple[Move, ...] = field(default=(), repr=False)
    strays: tuple[int, ...] = ()

    def state(self, stage: str = PRODUCTION) -> StageState:
        """What stands in a stage: the newest move of it decides."""
        moved = next((move for move in reversed(self.moves) if move.body.stage == stage), None)
        there = moved.body if moved and moved.body.to_version is not None else None
        return StageState(self.model, stage, there.to_version if there else None, there.model_digest if there else None, moved)

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


def of_events(model: str, events: Iterable["StoredEvent"], expired: Collection[str] | None = None) -> Stages:
    """Read a model's state from its `stage.*` events, in any order. Pure; other kinds and models count for nothing.

    `expired` are the ids of those whose contents are gone; None where it is not known, and then any gap may be one.
    """
    return _stages(model, stage_chain.follow(model, events, expired))


def read(log: "AuditStore", model: str) -> Stages:
    """The state of a model's stages as one moment of the log has it. Raises AuditError when the log cannot be read."""
    return _stages(model, stage_chain.read(log, model))


def _stages(model: str, chain: Chain) -> Stages:
    return Stages(model, chain.moves, chain.settled, chain.claim, chain.reverted, chain.strays)
