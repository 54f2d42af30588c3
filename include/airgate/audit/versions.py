"""Model versions and stages: what MLflow has, held against what the log says was registered and moved.

MLflow keeps no history of who registered a version or moved an alias, so nothing can be recovered from it: what the log does
not explain is a change behind the promotion's back. The registry guard finds such changes within minutes, records and undoes
them (`airgate.governance.guard`); the hourly comparison here changes nothing and tells what nobody has put on record.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from airgate.audit.completeness import Finding
from airgate.audit.registrations import Known, Registration, known
from airgate.audit.registry_changes import Change, Records, records
from airgate.audit.registry_state import NO_STAGE, OURS, RegisteredVersion, RegistryAccount, RegistryState
from airgate.audit.schema import EVENTS
from airgate.contracts.model_spec import SPEC_FILE
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import STAGE_TAG

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

__all__ = ["RegisteredVersion", "RegistryAccount", "changed_versions", "judge", "models_known"]

# A move is written down before and after the alias is touched, seconds apart. What a crash leaves in between, the next finishes.
UNDER_WAY = timedelta(hours=1)
# Most of a log, and none of it a decision: the index by kind leaves them out.
DAILY_LIFE = ("task.started", "task.succeeded", "task.skipped")
StageOf = Callable[[str], str | None]


def models_known(store: "AuditStore", folder: Path) -> list[str]:
    """Name the models of which the log has a decision, or that have a folder in the catalog. Raises AuditError."""
    logged = set(store.database.transact(_models, write=False))
    return sorted(logged | {path.parent.name for path in folder.glob(f"*/{SPEC_FILE}")})


def changed_versions(log: Known, state: RegistryState, stage_of: StageOf | None = None) -> Iterator[Change]:
    """Name the versions that MLflow has and the log does not explain, those that it lost, and those that are not as registered.

    Pure. Of the tags Airgate's own are looked at; `airgate.stage` only where `stage_of` tells the stage of a version, and
    where the tag is there: it is set after a move, and release 0.2.0 had none.
    """
    lost = sorted(log.registrations.keys() - state.versions.keys(), key=_number)
    if lost and not state.there:
        yield Change("model.deleted", state.model, "", before=lost)
    else:
        yield from (Change("version.deleted", state.model, one, before=log.registrations[one].digest) for one in lost)
    for found in sorted(state.versions.values(), key=lambda one: _number(one.version)):
        registration = log.registrations.get(found.version)
        if registration is not None:
            yield from _differences(state.model, registration, found, stage_of)
        elif found.version not in log.begun | log.expired:
            yield Change("version.created", state.model, found.version,
                         after={"source": found.source, "mlflow_run": found.mlflow_run, **_ours(found)})
        if found.stage != NO_STAGE:
            yield Change("stage.set", state.model, found.version, after=found.stage)


def _differences(model: str, registration: Registration, found: RegisteredVersion, stage_of: StageOf | None) -> Iterator[Change]:
    registered = {"source": registration.source, "mlflow_run": registration.mlflow_run}
    is_now = {"source": found.source, "mlflow_run": found.mlflow_run}
    if any(text is not None and is_now[name] != text for name, text in registered.items()):
        yield Change("version.replaced", model, found.version, before=registered, after=is_now)
        return
    there, tags = _ours(found), dict(registration.tags)
    wanted: dict[str, str | None] = {**tags} if registration.signed else {**there, **tags}
    if stage_of is not None and STAGE_TAG in found.tags:
        there, wanted = {**there, STAGE_TAG: found.tags[STAGE_TAG]}, {**wanted, STAGE_TAG: stage_of(found.version)}
    differing = [tag for tag in sorted({*there, *wanted}) if there.get(tag) != wanted.get(tag)]
    if differing:
        yield Change("tags.changed", model, found.version, before={tag: wanted.get(tag) for tag in differing},
                     after={tag: there.get(tag) for tag in differing})


def judge(model: str, account: RegistryAccount, store: "AuditStore", now: datetime | None = None) -> tuple[int, list[Finding]]:
    """Give how many versions MLflow has of a model, and what of it is neither explained nor on record. Raises AuditError."""
    state = account.state(model)
    on_record = records(store, model)
    log = known(store, state)
    changes = [*changed_versions(log, state), *_aliases(store, state, log, now or datetime.now(UTC))]
    return len(state.versions), [Finding(change.line(), model=model, version=change.version)
                                 for change in changes if not _told(change, on_record)]


def _aliases(store: "AuditStore", state: RegistryState, log: Known, now: datetime) -> Iterator[Change]:
    """Stages whose alias is not where the last move on record put it, unless a move is under way or its version was lost."""
    placed: dict[str, str | None] = {PRODUCTION: None}
    settled = -1
    for stored in store.events(model=state.model, kind="stage.moved"):
        version = stored.event.body.get("to_version")
        placed[str(stored.event.body.get("stage", PRODUCTION))] = None if version is None else str(version)
        settled = stored.seq
    begun = store.events(model=state.model, kind="stage.moving", after=settled, newest_first=True, limit=1)
    for stage, version in placed.items():
        there = state.aliases.get(stage)
        moving = [one.event.body.get("to_version") for one in begun
                  if one.event.body.get("stage", PRODUCTION) == stage and now - one.event.occurred_at <= UNDER_WAY]
        lost = there is None and version in log.registrations and version not in state.versions  # told already
        if there != version and there not in moving and not lost:
            yield Change("alias.changed", state.model, stage, before=version, after=there)


def _told(change: Change, on_record: Records) -> bool:
    recorded = on_record.get(change.key)
    return recorded is not None and recorded.tells(change)


def _models(connection: Connection) -> list[str]:
    """Of decisions alone: every version that was ever registered has some, and the rest of a log is long."""
    decisions = EVENTS.c.model.is_not(None) & EVENTS.c.kind.not_in(DAILY_LIFE)
    return list(connection.scalars(select(EVENTS.c.model).where(decisions).distinct()))


def _ours(found: RegisteredVersion) -> dict[str, str]:
    return {tag: value for tag, value in found.tags.items() if tag.startswith(OURS) and tag != STAGE_TAG}


def _number(version: str) -> tuple[int, str]:
    return (int(version), version) if version.isdecimal() else (0, version)
