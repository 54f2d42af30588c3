"""What the page shows, read from the audit log alone: the state of each model, the newest events, the integrity."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airgate.audit import trust
from airgate.audit.entry import StoredEvent
from airgate.audit.event import KINDS, AuditEvent, Kind, canonical, time_text
from airgate.audit.store import AuditStore
from airgate.audit.trust import TrustReport
from airgate.authoring import catalog
from airgate.errors import AirgateError

SHOWN_EVENTS = 50
# What an auditor asks about first: all but the beginning and the ordinary end of tasks.
ROUTINE: tuple[Kind, ...] = ("task.started", "task.succeeded", "task.skipped", "stage.moving")
DECISIONS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in ROUTINE)
_RECENT = 500
CHECKED_FOR = 60.0  # seconds that a verdict on the log is shown before it is hashed again
_SHARE = 20  # a large log is hashed at most a twentieth of the time


@dataclass(frozen=True)
class ModelState:
    """One model's row. Each event is the newest of its kind for the model, None where there is none."""

    name: str
    moved: AuditEvent | None
    verdict: AuditEvent | None
    drift: AuditEvent | None
    requested: AuditEvent | None

    @property
    def approvers(self) -> list[str]:
        """Who approved what is in production: 'mia (owner)'."""
        found = self.moved.body.get("approvers") if self.moved else None
        people = found if isinstance(found, list) else []
        return [f"{person.get('user')} ({person.get('role')})" for person in people if isinstance(person, dict)]


@dataclass(frozen=True)
class Overview:
    """All that the page shows. `broken` maps a model's folder to what is wrong with it.

    `events` are decisions alone unless `everything`; `older` is the seq before which there may be more, None if not.
    """

    model: str | None
    everything: bool
    models: list[ModelState]
    broken: dict[str, str]
    events: list[StoredEvent]
    older: int | None
    trust: TrustReport
    checked_seconds_ago: int


def overview(store: AuditStore, model: str | None = None, *, everything: bool = False, before: int | None = None) -> Overview:
    """Read everything, for one model or all. Raises AuditError or ConfigError when the log cannot be read."""
    names, broken = _names(model)
    newest = {kind: _newest(store, kind, names) for kind in _KINDS}
    states = [ModelState(name, newest["stage.moved"].get(name), newest["gate.verdict"].get(name),
                         newest["drift.verdict"].get(name), _waiting(newest, name)) for name in names]
    events = _events(store, model, everything, before)
    older = events[-1].seq if len(events) == SHOWN_EVENTS else None
    report, age = trust_in(store)
    return Overview(model, everything, states, broken, events, older, report, age)


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


def _newest(store: AuditStore, kind: Kind, names: list[str]) -> dict[str, AuditEvent]:
    """The newest event of a kind for each model; one query for nearly all, one more for each that was quiet long."""
    recent = store.events(kind=kind, limit=_RECENT, newest_first=True)
    found: dict[str, AuditEvent] = {}
    for stored in recent:
        found.setdefault(stored.event.model or "", stored.event)
    if len(recent) == _RECENT:
        for name in set(names) - set(found):
            older = store.events(kind=kind, model=name, limit=1, newest_first=True)
            found.update((name, stored.event) for stored in older)
    return found


def _waiting(newest: dict[Kind, dict[str, AuditEvent]], name: str) -> AuditEvent | None:
    """The promotion request that nobody has decided yet, None if the last one was."""
    asked = newest["promotion.requested"].get(name)
    decisions = (newest["stage.moved"].get(name), newest["promotion.refused"].get(name))
    decided = any(event is not None and asked is not None and event.occurred_at >= asked.occurred_at for event in decisions)
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
