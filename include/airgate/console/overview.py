"""What the page shows, read from the audit log alone: the state of each model, the newest events, the integrity."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airgate.audit import trust
from airgate.audit.entry import StoredEvent
from airgate.audit.event import KINDS, AuditEvent, Kind, canonical, time_text
from airgate.audit.store import AuditStore
from airgate.audit.trust import TrustReport
from airgate.authoring import catalog
from airgate.console.timeline import Timeline, timeline
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import STAGES
from airgate.errors import AirgateError
from airgate.governance import history
from airgate.governance.history import History, Period
from airgate.governance.stages import Move, of_events

SHOWN_EVENTS = 50
# What an auditor asks about first: all but the beginning and the ordinary end of tasks.
ROUTINE: tuple[Kind, ...] = ("task.started", "task.succeeded", "task.skipped", "stage.moving")
DECISIONS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in ROUTINE)
_RECENT = 500
CHECKED_FOR = 60.0  # seconds that a verdict on the log is shown before it is hashed again
_SHARE = 20  # a large log is hashed at most a twentieth of the time


@dataclass(frozen=True)
class ModelState:
    """One model's row. Each event is the newest of its kind for the model, None where there is none.

    `periods` are the times of its versions in production, `requested` is a request that nobody has decided yet.
    """

    name: str
    periods: list[Period]
    verdict: AuditEvent | None
    drift: AuditEvent | None
    requested: AuditEvent | None

    @property
    def live(self) -> Period | None:
        """The version in production and since when; None when there is none (any more)."""
        return self.periods[-1] if self.periods and self.periods[-1].version is not None else None


@dataclass(frozen=True)
class Overview:
    """All that the page shows. `broken` maps a model's folder to what is wrong with it.

    `events` are decisions alone unless `everything`; `older` is the seq before which there may be more, None if not. `history` is
    that of `model`, None for all models; `picture` is what was live when, None while nothing was.
    """

    model: str | None
    everything: bool
    models: list[ModelState]
    broken: dict[str, str]
    history: History | None
    picture: Timeline | None
    events: list[StoredEvent]
    older: int | None
    trust: TrustReport
    checked_seconds_ago: int


def overview(store: AuditStore, model: str | None = None, *, everything: bool = False, before: int | None = None) -> Overview:
    """Read everything, for one model or all. Raises AuditError or ConfigError when the log cannot be read."""
    names, broken = _names(model)
    whole = history.read(store, model) if model is not None else None
    recent = {kind: _recent(store, kind, names) for kind in _KINDS}
    moves = {name: of_events(name, recent["stage.moved"].get(name, ())).moves for name in names}
    if whole is not None:
        moves[whole.model] = whole.stages().moves
    states = [ModelState(name, history.periods(moves[name]), _newest(recent, "gate.verdict", name),
                         _newest(recent, "drift.verdict", name), _waiting(recent, name, moves[name])) for name in names]
    events = _events(store, model, everything, before)
    older = events[-1].seq if len(events) == SHOWN_EVENTS else None
    report, age = trust_in(store)
    return Overview(model, everything, states, broken, whole, _picture(states, whole), events, older, report, age)


def _picture(states: list[ModelState], whole: History | None) -> Timeline | None:
    """One lane a model, or for one model a lane a stage; marks where something changed behind the promotion's back."""
    now = datetime.now(UTC)
    if whole is None:
        return timeline({state.name: state.periods for state in states}, now)
    lanes = {stage: whole.periods(stage) for stage in STAGES}
    return timeline({stage: periods for stage, periods in lanes.items() if periods}, now, {PRODUCTION: whole.disturbances})


def _events(store: AuditStore, model: str | None, everything: bool, before: int | None) -> list[StoredEvent]:
    """The newest events, newest first; the index by kind answers for each kind of decision."""
    kinds: tuple[Kind | None, ...] = (None,) if everything else DECISIONS
    found = [stored for kind in kinds
             for stored in store.events(model=model, kind=kind, before=before, limit=SHOWN_EVENTS, newest_first=True)]
    return sorted(found, key=lambda stored: stored.seq, reverse=True)[:SHOWN_EVENTS]


def as_json(stored: StoredEvent) -> dict[str, Any]:
    """A stored event as the API gives it; `event` is the decoded form of the very bytes that the tree covers."""
    return {"seq": stored.seq, "stored_at": time_text(stored.stored_at), "leaf_hash": stored.leaf_hash.hex(),
            "event": json.loads(canonical(stored.event))}


_KINDS: tuple[Kind, ...] = ("stage.moved", "gate.verdict", "drift.verdict", "promotion.requested", "promotion.refused")


def _names(model: str | None) -> tuple[list[str], dict[str, str]]:
    if model is not None:
        return [model], {}
    try:
        sound = [spec.name for spec in catalog.sound_models()]
        return sound, {name: str(error) for name, error in catalog.broken_models().items()}
    except AirgateError as error:  # no models folder on this machine: the log is still worth showing
        return [], {"models": str(error)}


def _recent(store: AuditStore, kind: Kind, names: list[str]) -> dict[str, list[StoredEvent]]:
    """The newest events of a kind by model, newest first: one query for nearly all, one more for each that was quiet long."""
    recent = store.events(kind=kind, limit=_RECENT, newest_first=True)
    found: dict[str, list[StoredEvent]] = {}
    for stored in recent:
        found.setdefault(stored.event.model or "", []).append(stored)
    if len(recent) == _RECENT:
        # Of a stage's moves the newest alone do not tell: the last one into production may be older than others.
        few = None if kind == "stage.moved" else 1
        for name in names if few is None else set(names) - set(found):
            found[name] = store.events(kind=kind, model=name, limit=few, newest_first=True)
    return found


def _newest(recent: dict[Kind, dict[str, list[StoredEvent]]], kind: Kind, name: str) -> AuditEvent | None:
    return next((stored.event for stored in recent[kind].get(name, ())), None)


def _waiting(recent: dict[Kind, dict[str, list[StoredEvent]]], name: str, moves: Sequence[Move]) -> AuditEvent | None:
    """The newest promotion request, None once it was decided. A rollback decides nothing: it stands on an older request."""
    asked = _newest(recent, "promotion.requested", name)
    decisions = [move.event for move in moves if move.body.cause == "promotion"]
    decisions += [stored.event for stored in recent["promotion.refused"].get(name, ())]
    decided = any(event.version == asked.version and event.occurred_at >= asked.occurred_at for event in decisions if asked)
    return None if decided else asked


class _Checked:
    """The last verdict by place of the log, and until when it is shown. One thread hashes, the others wait for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._verdicts: dict[str, tuple[float, float, TrustReport]] = {}

    def get(self, store: AuditStore) -> tuple[TrustReport, int]:
        with self._lock:
            now = self._clock()
            found = self._verdicts.get(store.where)
            if found is None or now > found[1]:
                report = trust.verify(store, trust.configured_key())
                at = self._clock()
                found = (at, at + max(CHECKED_FOR, _SHARE * (at - now)), report)
                self._verdicts[store.where] = found
            return found[2], round(self._clock() - found[0])


_checked = _Checked()


def trust_in(store: AuditStore) -> tuple[TrustReport, int]:
    """Whether bytes and signatures hold, and how many seconds ago that was found. Raises AuditError if the log is unreadable."""
    return _checked.get(store)
