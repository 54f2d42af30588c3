"""Which versions of a model the log knows: registered by a step, and as what."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, func, select

from airgate import settings
from airgate.audit import canonical_json
from airgate.audit.event import AuditEvent
from airgate.audit.registry_state import RegisteredVersion, RegistryState
from airgate.audit.schema import EVENTS
from airgate.contracts.standard_steps import REGISTERING
from airgate.contracts.version_tags import DAG, DIGEST, RUN
from airgate.errors import SignatureError
from airgate.signatures import keys, statement

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

_BATCH = 500


@dataclass(frozen=True)
class Registration:
    """A version as the log has it.

    With `signed`, `tags` are all of Airgate's that it was registered with, and `mlflow_run` is known; `source` is None for a
    version that was registered before release 0.3.0. One that was never signed has the three tags that its step's event tells.
    """

    version: str
    tags: Mapping[str, str]
    signed: bool = False
    source: str | None = None
    mlflow_run: str | None = None

    @property
    def digest(self) -> str | None:
        """The manifest digest of the model's files, None where the event does not tell."""
        return self.tags.get(DIGEST)


@dataclass(frozen=True)
class Known:
    """What the log says of a model's versions.

    `begun` are versions in MLflow whose register step began on record and has not succeeded: it is under way, or was killed
    after MLflow had taken the version. `expired` are versions of which only the hash of a record is left.
    """

    registrations: Mapping[str, Registration] = field(default_factory=dict)
    begun: frozenset[str] = frozenset()
    expired: frozenset[str] = frozenset()


def known(store: "AuditStore", state: RegistryState) -> Known:
    """Read what the log says of the versions of a model, and of those in MLflow that it does not name at once.

    Costs an event for each version of the model, and the events of those training runs that left something to explain. Raises
    AuditError when the log cannot be read.
    """
    found = {one.version: one for one in _signed(store, state.model)}
    first, expired = store.database.transact(lambda connection: _first_successes(connection, state.model), write=False)
    unsigned = [seq for version, seq in first.items() if version not in found]
    found |= {one.version: one for one in _registered(store, unsigned)}
    begun: dict[tuple[str | None, str | None, str | None], str] = {}
    for version in sorted(state.versions.values(), key=lambda one: int(one.version)):
        registration = found.get(version.version)
        if registration is not None and (registration.signed or registration.digest == version.digest):
            continue
        registration, began = _of_its_run(store, state.model, version)
        if registration is not None:
            found[version.version] = registration
        elif began and version.version not in found:
            # A register step makes one version. Whoever copies its tags onto a second one gets no explanation for it.
            begun.setdefault((*version.training, version.digest), version.version)
    return Known(found, frozenset(begun.values()), frozenset(expired - found.keys()))


def _signed(store: "AuditStore", model: str) -> Iterator[Registration]:
    """From the statements that were signed at registration, oldest first, as far as they verify under the keys trusted here.

    Where no key is, or none of it verifies, the steps' own events tell what they can.
    """
    now = settings.load()
    if not now.model_key and not now.model_trust:
        return
    keyring = keys.trusted(now)
    for stored in store.events(model=model, kind="model.signed"):
        event = stored.event
        if event.body.get("statement") == "registration" and (said := _stated(event, keyring, now.environment)) is not None:
            yield said


def _stated(event: AuditEvent, keyring: keys.Keyring, environment: str) -> Registration | None:
    try:
        about = statement.verify(event.body.get("envelope"), keyring, environment=environment).predicate
    except SignatureError:
        return None
    if not isinstance(about, statement.Registration) or (about.model, about.version) != (event.model, event.version):
        return None
    return Registration(about.version, {DIGEST: about.model_digest, **about.tags}, signed=True, source=about.source or None,
                        mlflow_run=about.mlflow_run_id or None)


def _first_successes(connection: Connection, model: str) -> tuple[dict[str, int], set[str]]:
    """The first success that names each version, and the versions whose first success expired.

    Registering a version comes before all else that is done with it, so the others, one for each day's predictions, need not
    be read.
    """
    first = select(func.min(EVENTS.c.seq).label("seq")).where(
        EVENTS.c.model == model, EVENTS.c.kind == "task.succeeded", EVENTS.c.version.is_not(None)).group_by(EVENTS.c.version)
    query = select(EVENTS.c.seq, EVENTS.c.version, EVENTS.c.entry.is_(None).label("expired")).where(EVENTS.c.seq.in_(first))
    rows = list(connection.execute(query))
    return {row.version: row.seq for row in rows if not row.expired}, {row.version for row in rows if row.expired}


def _registered(store: "AuditStore", seqs: list[int]) -> Iterator[Registration]:
    for start in range(0, len(seqs), _BATCH):
        query = select(EVENTS.c.entry).where(EVENTS.c.seq.in_(seqs[start : start + _BATCH]), EVENTS.c.entry.is_not(None))
        for entry in store.database.transact(partial(_entries, query), write=False):
            event = canonical_json.loads(entry)["event"]
            if event["source"] == "operator" and event["body"].get("function") in REGISTERING:
                task = event["task"]
                yield _of_step(event["version"], event["body"], task["dag_id"], task["run_id"])


def _entries(query: Select[Any], connection: Connection) -> list[bytes]:
    return [bytes(entry) for entry in connection.scalars(query)]


def _of_step(version: str, body: Mapping[str, Any], dag_id: str, run_id: str) -> Registration:
    digest = (body.get("facts") or {}).get("model_digest")
    return Registration(version, {DIGEST: digest, DAG: dag_id, RUN: run_id} if digest else {})


def _of_its_run(store: "AuditStore", model: str, version: RegisteredVersion) -> tuple[Registration | None, bool]:
    """What the training run that a version names says of it: it registered that very version, or began to register its bytes."""
    dag_id, run_id = version.training
    if not dag_id or not run_id or not version.digest:
        return None, False
    began = False
    for stored in store.events(model=model, dag_id=dag_id, run_id=run_id):
        event = stored.event
        if event.body.get("function") not in REGISTERING or event.source != "operator":
            continue
        if event.kind == "task.started":
            began = began or _input(event) == version.digest
        elif event.kind == "task.succeeded":
            registration = _of_step(str(event.version), event.body, dag_id, run_id)
            if registration.digest == version.digest:
                return (registration, False) if registration.version == version.version else (None, False)
    return None, began


def _input(event: AuditEvent) -> Any:
    inputs = event.body.get("inputs")
    return inputs.get("model") if isinstance(inputs, dict) else None
