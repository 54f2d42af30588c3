"""What was live when, and when that was known. Two times are told apart, as the SQL standard's bitemporal tables do.

*When it was so* is the time of the move (`occurred_at`); *when it was known* is when the log stored it (`stored_at`). They differ
where a record came late. The order of moves is the log's, never a clock's: a move cannot begin before the one it follows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airgate.audit.event import Kind
from airgate.contracts.promotion import PRODUCTION
from airgate.errors import PromotionError, nearest
from airgate.governance.stages import CLAIM, SETTLING, Move, Stages, claim_id, of_events, settling_id

if TYPE_CHECKING:
    from airgate.audit.entry import StoredEvent
    from airgate.audit.store import AuditStore

# What tells of a model's stages, and what each move of them stands on.
KINDS: tuple[Kind, ...] = (CLAIM, *SETTLING, "stage.reviewed", "registry.changed", "promotion.requested", "promotion.approved",
                           "model.signed")


@dataclass(frozen=True)
class Period:
    """The time that a version was in a stage: from `start` until `end`, None while it lasts.

    `began` and `ended` are the moves that the log has of it. `version` and `digest` are None for a time in which it was empty.
    """

    stage: str
    start: datetime
    end: datetime | None
    began: Move
    ended: Move | None

    @property
    def version(self) -> str | None:
        """The version that was there."""
        return self.began.body.to_version

    @property
    def digest(self) -> str | None:
        """The manifest digest of its files."""
        return self.began.body.model_digest if self.version is not None else None

    @property
    def backdated(self) -> bool:
        """Whether the move claims a time before the one it follows; the order of the log counts, and `start` is that one's."""
        return self.began.event.occurred_at < self.start

    def covers(self, moment: datetime) -> bool:
        """Whether it was so at that moment."""
        return self.start <= moment and (self.end is None or moment < self.end)


@dataclass(frozen=True)
class Answer:
    """What was in a stage at the moment `at`, as the log knew it at `known_at` (None: as it knows it now).

    `period` is None when nothing had been moved there yet; `under_way` is a move that had begun and was not settled.
    """

    model: str
    stage: str
    at: datetime
    known_at: datetime | None
    period: Period | None
    under_way: Move | None

    @property
    def version(self) -> str | None:
        """The version, None when the stage was empty."""
        return self.period.version if self.period else None

    @property
    def seqs(self) -> list[int]:
        """The numbers of the events that the answer stands on: the move that began the time, and the one that ended it."""
        moves = [self.under_way, *((self.period.began, self.period.ended) if self.period else ())]
        return sorted(move.seq for move in moves if move is not None)


@dataclass(frozen=True)
class Grounds:
    """What a move stands on, as far as the log has it: its claim, the request, approvals, the signature, a review after it."""

    claim: "StoredEvent | None"
    request: "StoredEvent | None"
    approvals: "tuple[StoredEvent, ...]"
    signed: "StoredEvent | None"
    reviewed: "StoredEvent | None"

    @property
    def seqs(self) -> list[int]:
        """The numbers of these events."""
        return [item.seq for item in (self.claim, self.request, *self.approvals, self.signed, self.reviewed) if item is not None]


@dataclass(frozen=True)
class History:
    """All that the log has about a model's stages, in its order. Pure: every question is answered from `events`."""

    model: str
    events: "tuple[StoredEvent, ...]"

    def known(self, moment: datetime | None) -> "History":
        """The same history as the log had it at that moment; by the log's own clock. None: as it is now."""
        if moment is None:
            return self
        return History(self.model, tuple(item for item in self.events if item.stored_at <= moment))

    def stages(self) -> Stages:
        """Where the model's versions stand."""
        return of_events(self.model, self.events)

    def periods(self, stage: str = PRODUCTION) -> list[Period]:
        """The times of a stage, oldest first: one follows the other without a gap."""
        return periods(self.stages().moves, stage)

    def at(self, moment: datetime, stage: str = PRODUCTION, known_at: datetime | None = None) -> Answer:
        """What was in the stage at that moment, as the log knew it at `known_at`."""
        then = self.known(known_at)
        period = next((period for period in then.periods(stage) if period.covers(moment)), None)
        return Answer(self.model, stage, moment, known_at, period, then._under_way(moment, stage))

    def grounds(self, move: Move) -> Grounds:
        """What a move stands on. A rollback stands on the promotion that put its version there first."""
        promoted = self._promotion_behind(move)
        claim = self._settled_by(move)
        request_digest = move.body.request_digest
        approvals = tuple(item for item in self._of_kind("promotion.approved")
                          if request_digest and item.event.body.get("request_digest") == request_digest)
        # A move may be finished by another run than the one that asked for it; those who approved are in the asking one.
        asked = next((item for item in (*approvals, self._settled_by(promoted), self._find(promoted.event_id)) if item), None)
        request = self._of_run("promotion.requested", asked)
        signature = promoted.body.signature
        reviewed = self._of_run("stage.reviewed", claim or self._find(move.event_id))
        return Grounds(claim, request, approvals, self._find(signature) if signature else None, reviewed)

    @property
    def disturbances(self) -> "list[StoredEvent]":
        """What changed in the registry behind the promotion's back, as the guard found it. None of it was ever live for us."""
        return [item for item in self._of_kind("registry.changed") if item.event.body.get("restored") is not True]

    def doubts(self) -> list[str]:
        """Say which recorded moves do not follow the one before. The claims' ids make it impossible for those who keep the rules.

        Moves of release 0.2.0 are no chain. Before the oldest event there may be others, whose contents expired.
        """
        found: list[str] = []
        before: str | None = None
        chained = False
        claims = {item.event.event_id for item in self._of_kind(CLAIM)}
        now = self.stages()
        links = {move.event_id for move in (*now.moves, *now.reverted)}
        for item in sorted((item for kind in SETTLING for item in self._of_kind(kind)), key=lambda item: item.seq):
            move = Move.of(item)
            previous = move.body.previous if move else None
            if move is None:
                found.append(f"event {item.seq} ({item.event.kind}) cannot be read: Airgate did not write it")
            elif previous is None and chained:
                found.append(f"event {item.seq} ({item.event.kind}) names no move before it, though the one before does")
            elif previous is not None:
                claim = claim_id(self.model, previous)
                follows = before is None or (previous == before and claim in claims)
                if not follows or item.event.event_id != settling_id(claim):
                    found.append(f"event {item.seq} ({item.event.kind}) does not follow the move before it: Airgate did not "
                                 "write it")
            chained = chained or previous is not None
            # What is no link is named once, and the next move is held against the one before it.
            before = name if (name := str(item.event.event_id)) in links or before is None else before
        return found

    def _under_way(self, moment: datetime, stage: str) -> Move | None:
        """The newest claim on the stage that had begun by then and was settled later, or never."""
        settled = {item.event.event_id: item.event.occurred_at for kind in SETTLING for item in self._of_kind(kind)}
        for item in reversed(self._of_kind(CLAIM)):
            move = Move.of(item)
            end = settled.get(settling_id(item.event.event_id))
            if move is None or move.body.previous is None:  # a move of release 0.2.0 has no settling id to look for
                continue
            if move.body.stage == stage and item.event.occurred_at <= moment and (end is None or moment < end):
                return move
        return None

    def _promotion_behind(self, move: Move) -> Move:
        if move.body.cause == "promotion":
            return move
        named = next((one for one in self.stages().moves if one.event_id == move.body.approved_by), None)
        return named or move

    def _settled_by(self, move: Move) -> "StoredEvent | None":
        """The claim that a move settled; in release 0.2.0 the `stage.moving` of the same run."""
        for item in self._of_kind(CLAIM):
            if settling_id(item.event.event_id) == move.event.event_id:
                return item
        return self._of_run(CLAIM, self._find(move.event_id)) if move.body.previous is None else None

    def _find(self, event_id: str) -> "StoredEvent | None":
        return next((item for item in self.events if str(item.event.event_id) == event_id), None)

    def _of_run(self, kind: Kind, other: "StoredEvent | None") -> "StoredEvent | None":
        """The newest event of a kind from the run of another event."""
        task = other.event.task if other else None
        if task is None:
            return None
        return next((item for item in reversed(self._of_kind(kind)) if item.event.task is not None
                     and (item.event.task.dag_id, item.event.task.run_id) == (task.dag_id, task.run_id)), None)

    def _of_kind(self, kind: Kind) -> "list[StoredEvent]":
        return [item for item in self.events if item.event.kind == kind]


def periods(moves: Iterable[Move], stage: str = PRODUCTION) -> list[Period]:
    """The times of a stage, from a model's settled moves in the order of the log."""
    ours = [move for move in moves if move.body.stage == stage]
    starts: list[datetime] = []
    for move in ours:
        starts.append(max(move.event.occurred_at, starts[-1]) if starts else move.event.occurred_at)
    following: Sequence[tuple[datetime | None, Move | None]] = [*zip(starts[1:], ours[1:], strict=True), (None, None)]
    return [Period(stage, start, end, move, after)
            for start, move, (end, after) in zip(starts, ours, following if ours else [], strict=True)]


def read(log: "AuditStore", model: str) -> History:
    """Read a model's history as one moment of the log has it. Raises AuditError when the log cannot be read."""
    return History(model, tuple(log.events(model=model, kind=KINDS)))


def refuse_unknown(log: "AuditStore", model: str) -> None:
    """Raises PromotionError, with the nearest name, when the log has never heard of the model; AuditError as `read` does."""
    if not log.events(model=model, limit=1):
        raise PromotionError(f"the audit log has nothing about a model '{model}'; {nearest(model, models(log))}")


def models(log: "AuditStore") -> list[str]:
    """The models that the log has heard of. Raises AuditError when it cannot be read."""
    from sqlalchemy import select

    from airgate.audit.schema import EVENTS

    query = select(EVENTS.c.model).where(EVENTS.c.model.is_not(None)).distinct()
    return log.database.transact(lambda connection: list(connection.execute(query).scalars()), write=False)
