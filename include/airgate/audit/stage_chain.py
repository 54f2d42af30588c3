"""The chain of a model's moves in the log: what belongs to it, and what somebody only wrote there. See docs/adr/0008.

Whoever wants to move a stage appends a claim (`stage.moving`) whose id is made from the event that settled the move before, so
that all who want to move next contend for one id, and the log takes an id once. A claim is settled by one event (`stage.moved` or
`stage.reverted`), whose id is made from the claim's. So the ids are the chain: it is followed from one to the next, and an event
that is no link of it counts for nothing. A link that cannot be read moves nothing, and the chain goes on behind it.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select

from airgate.audit.event import PEOPLE, AuditEvent, Kind, event_id_of
from airgate.audit.schema import EVENTS
from airgate.contracts.stages import StageMove

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

    @classmethod
    def of(cls, item: "StoredEvent") -> "Move | None":
        """Read a stage's event, None when its body is not one that Airgate writes."""
        try:
            return cls(item.seq, item.event, item.stored_at, StageMove.model_validate(item.event.body))
        except ValidationError:
            return None

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
class Chain:
    """The settled moves of a model and those given up, oldest first; `settled` is the id of the chain's last link ("" for none),
    `claim` the open claim on it. `strays` are the numbers of events that Airgate did not write: they are no link, or unreadable.
    """

    moves: tuple[Move, ...] = ()
    reverted: tuple[Move, ...] = ()
    settled: str = ""
    claim: Move | None = None
    strays: tuple[int, ...] = ()


def follow(model: str, events: Iterable["StoredEvent"], expired: Collection[str] | None = None) -> Chain:
    """Follow a model's chain through its `stage.*` events, given in any order. Pure; other kinds and models count for nothing.

    `expired` are the ids of those whose contents are gone; None where it is not known, and then any gap may be one.
    """
    ours = sorted((item for item in events if item.event.model == model and item.event.kind in (CLAIM, *SETTLING)),
                  key=lambda item: item.seq)
    there = {str(item.event.event_id): item for item in ours}
    moves = {name: Move.of(item) for name, item in there.items()}
    links = list(_before_the_chain(model, ours, moves))
    links += _links(model, there, moves, expired, links[-1] if links else "")
    settled = links[-1] if links else ""
    claim = moves.get(str(claim_id(model, settled)))
    counted = {name: move for name in links if (move := moves.get(name)) and move.event.kind in SETTLING}
    return Chain(
        moves=tuple(move for move in counted.values() if move.event.kind == "stage.moved"),
        reverted=tuple(move for move in counted.values() if move.event.kind == "stage.reverted"),
        settled=settled, claim=claim if claim and claim.event.kind == CLAIM else None,
        strays=tuple(item.seq for name, item in there.items()
                     if name not in counted and (item.event.kind in SETTLING or moves[name] is None)))


def read(log: "AuditStore", model: str) -> Chain:
    """The chain as one moment of the log has it. Raises AuditError when the log cannot be read."""
    events = log.events(model=model, kind=(CLAIM, *SETTLING))
    return follow(model, events, expired_ids(log, model))  # in this order: what expires in between is in both


def expired_ids(log: "AuditStore", model: str) -> frozenset[str]:
    """The ids of a model's stage events whose contents were dropped, as the retention says. Raises AuditError."""
    query = select(EVENTS.c.event_id).where(
        EVENTS.c.model == model, EVENTS.c.kind.in_((CLAIM, *SETTLING)), EVENTS.c.entry.is_(None))
    return frozenset(log.database.transact(lambda connection: list(connection.execute(query).scalars()), write=False))


def _before_the_chain(model: str, ours: Iterable["StoredEvent"], moves: dict[str, Move | None]) -> Iterator[str]:
    """The moves of release 0.2.0: their ids are no chain, and none comes after the chain began."""
    link = claim_id(model, "")
    for item in ours:
        name, move = str(item.event.event_id), moves[str(item.event.event_id)]
        if item.event.event_id in (link, settling_id(link)) or (move and move.body.previous is not None):
            return
        if move and item.event.kind in SETTLING:
            yield name
            link = claim_id(model, name)


def _links(model: str, there: "dict[str, StoredEvent]", moves: dict[str, Move | None], expired: Collection[str] | None,
           head: str) -> Iterator[str]:
    """The ids of the chain behind `head`. Where its beginning expired, from the first link whose predecessor did."""
    gaps = [name for name, move in moves.items() if move and _is_behind_gap(model, move, there, expired)]
    seen: set[str] = set()
    last = -1
    while True:
        while (following := _after(model, head, there, moves, expired)) is not None:
            yield following
            seen.add(following)
            head, last = following, max(last, there[following].seq if following in there else -1)
        jump = next((name for name in gaps if name not in seen and there[name].seq > last), None)
        if jump is None:
            return
        yield jump
        seen.add(jump)
        head, last = jump, there[jump].seq


def _after(model: str, head: str, there: "dict[str, StoredEvent]", moves: dict[str, Move | None],
           expired: Collection[str] | None) -> str | None:
    """The link behind `head`: what settled the claim on it, or a claim that is none, since nobody can settle that."""
    claim = claim_id(model, head)
    settling, taken = str(settling_id(claim)), str(claim)
    if settling in there or settling in (expired or ()):
        return settling
    move = moves.get(taken)
    void = taken in there and (move is None or move.event.kind != CLAIM)
    return taken if void or taken in (expired or ()) else None


def _is_behind_gap(model: str, move: Move, there: "dict[str, StoredEvent]", expired: Collection[str] | None) -> bool:
    before = move.body.previous
    if not before or move.event.kind not in SETTLING or move.event.event_id != settling_id(claim_id(model, before)):
        return False
    return before not in there and (expired is None or before in expired)
