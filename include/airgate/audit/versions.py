"""Model versions and the production alias: what MLflow has, held against what the log says was registered and moved.

MLflow keeps no history of who registered a version or moved an alias, so nothing can be recovered from it: what the log does
not explain is a finding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select

from airgate.audit.completeness import Finding
from airgate.audit.schema import EVENTS
from airgate.audit.store import AuditStore
from airgate.contracts.model_spec import SPEC_FILE
from airgate.contracts.promotion import PRODUCTION

REGISTER = "airgate.steps.register:register"
# A promotion writes before and after it moves the alias, seconds apart. A crash in between is finished by its next try.
UNDER_WAY = timedelta(hours=1)


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as MLflow has it. The rest are the tags that the register step set, None where something else registered it."""

    version: str
    digest: str | None = None
    dag_id: str | None = None
    run_id: str | None = None


class RegistryAccount(Protocol):
    """MLflow's own word about what it has. All raise AuditError when it cannot be read."""

    def versions(self, model: str) -> list[RegisteredVersion]:
        """Give the model's versions; none for a model that it does not know."""
        ...

    def alias(self, model: str) -> str | None:
        """Give the version that the production alias names, None when it names none."""
        ...


@dataclass
class ModelRecord:
    """What the log says of one model.

    `registered`: digest by version. `begun`: register steps that began, as (dag_id, run_id, digest of the model they were
    given). `expired`: versions of which only the hash of a record is left. `moved`: version and digest of the last stage move.
    `moving`: version of a move that was begun after that, and when.
    """

    registered: dict[str, str | None] = field(default_factory=dict)
    begun: set[tuple[str, str, str]] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    moved: tuple[str, str | None] | None = None
    moving: tuple[str, datetime] | None = None


def models_known(store: AuditStore, folder: Path) -> list[str]:
    """Name the models of which the log has an event, or that have a folder in the catalog. Raises AuditError."""
    query = select(EVENTS.c.model).where(EVENTS.c.model.is_not(None)).distinct()
    logged: set[str] = store.database.transact(lambda connection: set(connection.scalars(query)), write=False)
    return sorted(logged | {path.parent.name for path in folder.glob(f"*/{SPEC_FILE}")})


def record_of(store: AuditStore, model: str) -> ModelRecord:
    """Read what the log says of a model. Raises AuditError when it cannot be read."""
    record = ModelRecord(expired=_expired(store, model))
    for stored in store.events(model=model, kind="task.started"):
        event, body = stored.event, _dict(stored.event.body)
        if body.get("function") == REGISTER and event.task is not None:
            record.begun.add((event.task.dag_id, event.task.run_id, str(_dict(body.get("inputs")).get("model"))))
    for stored in store.events(model=model, kind="task.succeeded"):
        body = _dict(stored.event.body)
        if body.get("function") == REGISTER and stored.event.version:
            record.registered[stored.event.version] = _dict(body.get("facts")).get("model_digest")
    moved = store.events(model=model, kind="stage.moved", newest_first=True, limit=1)
    if moved:
        body = _dict(moved[0].event.body)
        record.moved = str(body.get("to_version")), body.get("model_digest")
    moving = store.events(model=model, kind="stage.moving", newest_first=True, limit=1)
    if moving and (not moved or moving[0].seq > moved[0].seq):
        record.moving = str(_dict(moving[0].event.body).get("to_version")), moving[0].event.occurred_at
    return record


def judge(model: str, registry: RegistryAccount, store: AuditStore) -> tuple[int, list[Finding]]:
    """Give how many versions MLflow has of a model, and what cannot be explained about them. Raises AuditError."""
    versions = registry.versions(model)
    return len(versions), unexplained(model, versions, registry.alias(model), record_of(store, model))


def unexplained(model: str, versions: list[RegisteredVersion], alias: str | None, record: ModelRecord,
                now: datetime | None = None) -> list[Finding]:
    """Name what MLflow has and the log does not explain, and what the log has and MLflow lost."""
    lines = [*_strange(versions, record), *_lost(versions, record), *_alias(alias, record, now or datetime.now(UTC))]
    return [Finding(f"{model} {line}", model=model, version=version) for version, line in lines]


def _strange(versions: list[RegisteredVersion], record: ModelRecord) -> Iterator[tuple[str, str]]:
    for found in versions:
        known = record.registered.get(found.version)
        if found.version in record.registered:
            if known is not None and found.digest != known:
                yield found.version, (f"version {found.version}: MLflow says its digest is {found.digest or 'none'}, its "
                                      f"training recorded {known}")
        # A register step that was killed after MLflow had taken the version, or is not over yet, has begun on record, with
        # the digest of this very model.
        elif (found.dag_id, found.run_id, found.digest) not in record.begun and found.version not in record.expired:
            yield found.version, f"version {found.version} is in MLflow, but no training on record registered it"


def _lost(versions: list[RegisteredVersion], record: ModelRecord) -> Iterator[tuple[str, str]]:
    there = {found.version for found in versions}
    for version in record.registered:
        if version not in there:
            yield version, f"version {version} was registered by the log's word, but MLflow no longer has it"


def _alias(alias: str | None, record: ModelRecord, now: datetime) -> Iterator[tuple[str | None, str]]:
    last = record.moved[0] if record.moved else None
    begun = record.moving is not None and record.moving[0] == alias and now - record.moving[1] <= UNDER_WAY
    if alias != last and not begun:
        yield alias, (f"{PRODUCTION} is {f'version {alias}' if alias else 'no version'} in MLflow, the last promotion on record "
                      f"put {f'version {last}' if last else 'none'} there")


def _expired(store: AuditStore, model: str) -> set[str]:
    query = select(EVENTS.c.version).distinct().where(
        EVENTS.c.model == model, EVENTS.c.kind == "task.succeeded", EVENTS.c.version.is_not(None), EVENTS.c.entry.is_(None))
    return store.database.transact(lambda connection: set(connection.scalars(query)), write=False)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
