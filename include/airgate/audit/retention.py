"""How long events keep their contents, and letting them expire. Their hashes stay, so every proof still verifies.

First it is announced on record (`announce`), then a checkpoint signs that, then the contents go (`drop`): a verifier believes
only an announcement that is signed, or whoever rules the database could drop what he likes and announce it himself. Nor does it
believe one of events that were newer than the months it speaks of (docs/audit-format.md, section 8).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from sqlalchemy import Connection, select, update

from airgate.audit import canonical_json
from airgate.audit.event import Actor, AuditEvent, event_id_of, time_text
from airgate.audit.schema import EVENTS
from airgate.audit.stage_chain import SETTLING
from airgate.audit.store import AuditStore
from airgate.audit.verifier import Announcement
from airgate.contracts.base import Contract
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import ARCHIVED
from airgate.errors import ConfigError, nearest

FILE = Path(__file__).parents[2] / "compliance" / "retention.yaml"
# An event holds 64 KiB; so many ranges of numbers fit.
_RANGES = 1500
_BATCH = 5000
_LOOKUP = 500  # numbers in one query
_STANDS_ON = ("stage.", "promotion.", "gate.", "model.", "bundle.")
# Model and version stay: by them what was registered once is still known. They name nobody.
_GONE = ("entry", "dag_id", "run_id", "task_id", "map_index", "try_number")


class RetentionClass(Contract):
    """How many months an event's contents are kept, and which rule says so."""

    months: int = Field(ge=1, le=1200)
    source: str = Field(min_length=1)


class Rule(Contract):
    """Which events belong to a class: by kind or by model, with '*' at the end or alone."""

    kinds: list[str] = ["*"]
    models: list[str] = ["*"]
    class_name: str = Field(alias="class")

    def fits(self, kind: str, model: str | None) -> bool:
        """Whether an event of this kind, about this model, belongs here."""
        return any(fnmatchcase(kind, one) for one in self.kinds) and any(fnmatchcase(model or "", one) for one in self.models)


class Retention(Contract):
    """The times of an installation. Among the rules that fit, the longest wins."""

    classes: dict[str, RetentionClass]
    rules: list[Rule]

    def class_of(self, kind: str, model: str | None) -> str | None:
        """Give the class of an event; None if it never expires."""
        if kind.startswith("audit."):
            return None
        names = [rule.class_name for rule in self.rules if rule.fits(kind, model)]
        return max(names, key=lambda name: self.classes[name].months, default=None)


def load(path: Path = FILE) -> Retention:
    """Read the retention file. Raises ConfigError, naming the place in it, when it is wrong."""
    try:
        found = Retention.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: the retention file cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise ConfigError(f"{path}: {wrong}") from None
    for rule in found.rules:
        if rule.class_name not in found.classes:
            raise ConfigError(f"{path}: a rule names the class '{rule.class_name}'; {nearest(rule.class_name, found.classes)}")
    return found


def due(store: AuditStore, retention: Retention, now: datetime) -> dict[str, list[int]]:
    """Give the seqs of the events whose time is over, by class, in the order of seq. By the store's clock.

    What is in force has no age, see `_InForce`.
    """
    query = select(EVENTS.c.seq, EVENTS.c.kind, EVENTS.c.model, EVENTS.c.version, EVENTS.c.stored_at)
    query = query.where(EVENTS.c.entry.is_not(None))
    oldest = min((one.months for one in retention.classes.values()), default=0)
    query = query.where(EVENTS.c.stored_at < time_text(_months_before(now, oldest))).order_by(EVENTS.c.seq)
    limits = {name: time_text(_months_before(now, one.months)) for name, one in retention.classes.items()}

    def work(connection: Connection) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        in_force = _in_force(connection)
        for row in connection.execute(query):
            name = retention.class_of(row.kind, row.model)
            if name is not None and row.stored_at < limits[name] and not in_force.holds(row):
                found.setdefault(name, []).append(row.seq)
        return found

    return store.database.transact(work, write=False)


@dataclass(frozen=True)
class _InForce:
    """What has no age. `moves` are seqs: the newest move of each stage of each model, the one that the model's next move follows,
    and every archiving, which never ends. `versions` are the (model, version) that stand in a stage."""

    moves: frozenset[int]
    versions: frozenset[tuple[str, str]]

    def holds(self, row: Any) -> bool:
        """Whether an event is one of the moves, or something that a version in a stage stands on."""
        return row.seq in self.moves or (row.kind.startswith(_STANDS_ON) and (row.model, row.version) in self.versions)


def _in_force(connection: Connection) -> _InForce:
    query = select(EVENTS.c.seq, EVENTS.c.kind, EVENTS.c.model, EVENTS.c.version, EVENTS.c.entry).where(
        EVENTS.c.kind.in_(SETTLING), EVENTS.c.entry.is_not(None)).order_by(EVENTS.c.seq)
    settled: dict[str, int] = {}
    stages: dict[tuple[str, str], tuple[int, str]] = {}
    archived: set[int] = set()
    for row in connection.execute(query):
        settled[row.model] = row.seq
        # Moves of release 0.2.0 name no stage: they were all to production.
        stage = str(canonical_json.loads(bytes(row.entry))["event"]["body"].get("stage") or PRODUCTION)
        if row.kind == "stage.moved":
            stages[row.model, stage] = row.seq, row.version
            archived |= {row.seq} if stage == ARCHIVED else set()
    moves = {seq for seq, _ in stages.values()} | set(settled.values()) | archived
    return _InForce(frozenset(moves), frozenset((model, version) for (model, _), (_, version) in stages.items()))


def announce(store: AuditStore, retention: Retention, now: datetime, *, by: Actor) -> int:
    """Put on record which contents will be dropped; give of how many events. What is announced already is not again."""
    announced = _ranges(store, None)
    count = 0
    for name, seqs in due(store, retention, now).items():
        known = set(_within(seqs, announced))
        new = [seq for seq in seqs if seq not in known]
        ranges = ranges_of(new)
        for start in range(0, len(ranges), _RANGES):
            store.append_if_absent(_event(name, retention.classes[name], ranges[start : start + _RANGES], now, by))
        count += len(new)
    return count


def drop(store: AuditStore, retention: Retention, now: datetime, signed: int) -> int:
    """Drop the contents that are due and were announced in the first `signed` events; give of how many. For the owner.

    Only what a checkpoint covers counts for whoever verifies, so call it with the newest checkpoint's size. An announcement alone
    drops nothing: its time must be over, whoever wrote it.
    """
    announced = _ranges(store, signed)
    over = sorted(seq for seqs in due(store, retention, now).values() for seq in seqs)
    dropped = 0
    for first, last in ranges_of(_within(over, announced)):
        for low in range(first, last + 1, _BATCH):
            dropped += _drop(store, low, min(last, low + _BATCH - 1))
    return dropped


def _within(seqs: Iterable[int], ranges: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Give those of ascending numbers that lie in one of the ranges, which are in order and may overlap; one walk over both."""
    waiting, last = deque(ranges), -1
    for seq in seqs:
        while waiting and waiting[0][0] <= seq:
            last = max(last, waiting.popleft()[1])
        if seq <= last:
            yield seq


def ranges_of(seqs: Iterable[int]) -> list[list[int]]:
    """Write ascending numbers as ranges, first and last inclusive."""
    ranges: list[list[int]] = []
    for seq in seqs:
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq])
    return ranges


def _event(name: str, rule: RetentionClass, ranges: list[list[int]], now: datetime, by: Actor) -> AuditEvent:
    return AuditEvent.model_validate({
        "event_id": event_id_of("audit.expired", name, ranges[0][0], ranges[-1][1], time_text(now)), "kind": "audit.expired",
        "occurred_at": now, "actor": by, "source": "cli",
        "body": {"class": name, "months": rule.months, "rule": rule.source, "ranges": ranges}})


def _ranges(store: AuditStore, before: int | None) -> list[tuple[int, int]]:
    """What `audit.expired` events say, those below the seq `before` only, of events that were old enough when they said it.

    A verifier believes nothing else, so what somebody announced too early is announced again in time.
    """
    found: list[tuple[int, int, str]] = []
    for stored in store.events(kind="audit.expired", before=before):
        with suppress(KeyError, TypeError, ValueError):
            one = Announcement.of(stored.seq, stored.event.body)
            limit = one.limit(time_text(stored.stored_at))
            found += [(first, last, limit) for first, last in one.spans]
    stored_at = store.database.transact(partial(_stored_at, seqs=[last for _, last, _ in found]), write=False)
    return sorted((first, last) for first, last, limit in found if stored_at.get(last, "~") <= limit)


def _stored_at(connection: Connection, seqs: list[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(0, len(seqs), _LOOKUP):
        query = select(EVENTS.c.seq, EVENTS.c.stored_at).where(EVENTS.c.seq.in_(seqs[start : start + _LOOKUP]))
        found |= {row.seq: row.stored_at for row in connection.execute(query)}
    return found


def _drop(store: AuditStore, first: int, last: int) -> int:
    query = update(EVENTS).where(EVENTS.c.seq >= first, EVENTS.c.seq <= last, EVENTS.c.entry.is_not(None))
    return store.database.transact(
        lambda connection: connection.execute(query.values(dict.fromkeys(_GONE))).rowcount, write=True)


def _months_before(now: datetime, months: int) -> datetime:
    count = now.year * 12 + now.month - 1 - months
    # The 31st of a month that has 30 days: the first moment that is surely late enough is the same day counted from the 28th.
    return now.astimezone(UTC).replace(year=count // 12, month=count % 12 + 1, day=min(now.day, 28))
