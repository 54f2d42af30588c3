"""Writing a bundle: one version with everything that another installation needs to judge it, in one file. docs/bundles.md.

Nothing goes out that would not be taken at the other end: the file is verified as there before it appears.
"""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import JsonValue

from airgate import __version__
from airgate.audit import checkpoints
from airgate.audit.entry import StoredEvent
from airgate.audit.event import PEOPLE, Actor, AuditEvent, event_id_of, time_text
from airgate.audit.extract import extract_events
from airgate.audit.store import AuditStore
from airgate.audit.subjects import ERASED
from airgate.contracts import digests, in_toto, plain_zip
from airgate.contracts.bundle import (
    CANDIDATE,
    DATA_CHECK,
    EVALUATION,
    LOG,
    MANIFEST,
    MODEL,
    REPORTS,
    BundleManifest,
    BundleStatement,
    ImportedFrom,
    NamedPerson,
    Role,
)
from airgate.contracts.promotion import PromotionRequest
from airgate.contracts.step import ArtifactRef
from airgate.encryption import at_rest
from airgate.errors import ArtifactError, AuditError, BundleError
from airgate.lifecycle import bundle_check, bundle_story, reports
from airgate.lifecycle.bundle_check import Checked
from airgate.lifecycle.bundle_sources import Source
from airgate.lifecycle.bundle_story import DECISIONS, Story
from airgate.settings import Settings
from airgate.signatures import dsse, keys

FAIRNESS, DRIFT = f"{REPORTS}{reports.FAIRNESS}", f"{REPORTS}drift.html"


@dataclass(frozen=True)
class Exported:
    """What was written. `checked` is what the destination will see of it."""

    path: Path
    size: int
    checked: Checked


def export(now: Settings, log: AuditStore, model: str, version: str, path: Path, *, by: Actor,
           valid: timedelta) -> Exported:
    """Write the bundle of a version to the new file `path`, and put on record that it leaves.

    Raises BundleError where the version has not what a bundle needs, or `path` is there; AuditError when there is no checkpoint
    over it yet; ConfigError without a key; ArtifactError when the model or a report is gone.
    """
    if path.exists():
        raise BundleError("exists", f"{path} is there already; a bundle never replaces another file. Name a new one")
    signer = keys.signer(now.model_key, now.environment)
    source = Source(now.environment, keys.trusted(now), tuple(checkpoints.keys_in_force(log)))
    events = list(_events(log, model, version, source))
    with TemporaryDirectory(prefix=".airgate-bundle-", dir=path.parent) as scratch:
        folder = Path(scratch)
        extracted = extract_events(log, folder / "log", events, origin=now.audit_origin)
        if extracted.later:
            raise AuditError(f"{extracted.later} events about {model} version {version} came after the newest checkpoint, so "
                             "nobody else could verify them yet: `airgate audit checkpoint`, or the DAG audit_upkeep, signs them")
        story = bundle_story.read(events, model, version, source.keys, _bytes)
        files = [*_model(now, story, folder), *_reports(now, story, events, folder), *_tree(folder / "log", LOG)]
        statement = BundleStatement(
            files={name: digests.of_file(place) for name, place in files},
            manifest=_manifest(now, story, events, valid))
        envelope = dsse.sign(statement.payload(), in_toto.PAYLOAD_TYPE, signer)
        draft = folder / "bundle.zip"
        plain_zip.write(draft, [(MANIFEST, _canonical(envelope)), *files])
        checked = bundle_check.check(draft, {now.environment: source})
        log.append(_event(checked, by))  # before the file is there: what left without a record would be worse than the other way
        draft.replace(path)
    return Exported(path, path.stat().st_size, checked)


def _events(log: AuditStore, model: str, version: str, source: Source) -> Iterator[StoredEvent]:
    """The decisions about the version, and all that happened in the runs that made and measured it; each once."""
    found = {item.seq: item for kind in DECISIONS for item in log.events(model=model, kind=kind) if item.event.version == version}
    if not found:
        raise BundleError("incomplete", f"the audit log knows no decision about {model} version {version}: name a version by the "
                          "number that MLflow gave it, such as 3, and of which the gates have judged")
    decisions = [found[seq].event for seq in sorted(found)]
    registered = log.get(bundle_story.register_event(decisions, model, version, source.keys))
    made = [registered.event] if registered else []
    tasks = [event.task for event in decisions if event.kind == "gate.verdict"] + [event.task for event in made]
    for dag, run in sorted({(task.dag_id, task.run_id) for task in tasks if task}):
        found |= {item.seq: item for item in log.events(dag_id=dag, run_id=run)}
    yield from (found[seq] for seq in sorted(found))


def _model(now: Settings, story: Story, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of the model from MLflow; they must be those that were signed."""
    from airgate.steps.download import download

    fetched = download(now.mlflow_uri, story.candidate.model, story.candidate.version, folder / "model", source=story.source)
    if fetched.digest != story.candidate.digest:
        raise ArtifactError(f"MLflow's files of {story.candidate.model} version {story.candidate.version} have the digest "
                            f"{fetched.digest}, the log says {story.candidate.digest}: they were changed. Do not use them")
    yield from _tree(fetched.folder, MODEL)


def _reports(now: Settings, story: Story, events: Iterable[StoredEvent], folder: Path) -> Iterator[tuple[str, Path]]:
    """What people judge by. The newest fairness and drift reports come along where there are any, the latter if it was kept."""
    registered = ArtifactRef.model_validate(story.registered.body["output"])
    wanted = {CANDIDATE: registered.uri, EVALUATION: story.evaluation.uri}
    if story.data_check:
        wanted[DATA_CHECK] = digests.place_in(now.artifact_store, story.data_check)
    fairness = reports.attached(events, reports.FAIRNESS)
    if fairness:
        wanted[FAIRNESS] = digests.place_in(now.artifact_store, fairness)
    drift = [item.event.body.get("report_digest") for item in events if item.event.kind == "drift.verdict"]
    if drift and drift[-1]:
        wanted[DRIFT] = digests.place_in(now.artifact_store, str(drift[-1]))
    (folder / REPORTS).mkdir()
    for name, uri in wanted.items():
        try:
            data = at_rest.read_bytes(uri)
        except ArtifactError:
            if name == DRIFT:
                continue
            raise
        (folder / name).write_bytes(data)
        yield name, folder / name


def _manifest(now: Settings, story: Story, events: Iterable[StoredEvent], valid: timedelta) -> BundleManifest:
    made = datetime.now(UTC)
    return BundleManifest(
        model=story.candidate.model, version=story.candidate.version, model_digest=story.candidate.digest,
        environment=now.environment, origin=now.audit_origin, airgate=__version__, made_at=made, expires_at=made + valid,
        nonce=secrets.token_hex(16), register_event=str(story.registered.event_id), verdict_event=str(story.verdict.event_id),
        people=_people(events, story))


def _people(events: Iterable[StoredEvent], story: Story) -> list[NamedPerson]:
    """Who had a part in it, in clear, each part once. Of an erased person nothing is left to say."""
    said = [part for item in events for part in _parts(item.event, story)]
    return [NamedPerson(role=role, name=name) for role, name in dict.fromkeys(said) if name and not name.startswith(ERASED)]


def _parts(event: AuditEvent, story: Story) -> Iterator[tuple[Role, str]]:
    made, task = story.registered.task, event.task
    if event.kind == "bundle.imported":
        yield from ((person.role, person.name) for person in ImportedFrom.model_validate(event.body).people)
    elif event.kind == "promotion.requested":
        named = [text.partition(":") for text in PromotionRequest.model_validate(event.body).requesters]
        yield from (("requested", name) for kind, _, name in named if kind in PEOPLE)
    elif event.kind == "promotion.approved":
        yield "approved", event.actor.name
    elif made and task and (made.dag_id, made.run_id) == (task.dag_id, task.run_id) and event.actor.kind in PEOPLE:
        yield "trained", event.actor.name


def _event(checked: Checked, by: Actor) -> AuditEvent:
    manifest = checked.statement.manifest
    body: dict[str, JsonValue] = {
        "statement": checked.statement.digest, "nonce": manifest.nonce, "model_digest": manifest.model_digest,
        "key": checked.key, "checkpoint": checked.checkpoint, "expires_at": time_text(manifest.expires_at)}
    return AuditEvent(event_id=event_id_of("bundle.exported", manifest.nonce), kind="bundle.exported", actor=by, source="cli",
                      occurred_at=datetime.now(UTC), model=manifest.model, version=manifest.version, body=body)


def _bytes(ref: ArtifactRef) -> bytes:
    return at_rest.read_bytes(ref.uri)


def _canonical(envelope: dsse.Envelope) -> bytes:
    import rfc8785

    return bytes(rfc8785.dumps(envelope.to_json()))


def _tree(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    yield from ((prefix + place.relative_to(folder).as_posix(), place) for place in sorted(folder.rglob("*")) if place.is_file())
