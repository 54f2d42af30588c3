"""Everything that is verified of a bundle, before anything of the model is parsed and before anything is kept.

The order is that of docs/bundles.md: form, signature, files, log, story. What is read was hashed before, and what is hashed was
named in a statement that a trusted key signed. Needs no network, no database, and memory for the log's leaves alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from airgate.audit import verifier
from airgate.audit.entry import StoredEvent, parse_entry
from airgate.audit.subjects import Subjects
from airgate.contracts import in_toto, plain_zip
from airgate.contracts.bundle import (
    CANDIDATE,
    DATA_CHECK,
    EVALUATION,
    LOG,
    MANIFEST,
    BundleStatement,
    ImportedFrom,
)
from airgate.contracts.plain_zip import Archive
from airgate.contracts.step import ArtifactRef
from airgate.errors import AuditError, BundleError, SignatureError
from airgate.lifecycle import bundle_story
from airgate.lifecycle.bundle_sources import Source, Sources
from airgate.lifecycle.bundle_story import Story
from airgate.signatures import dsse

MANIFEST_LIMIT = 4 << 20  # bytes
DOCUMENT_LIMIT = 1 << 20
LOG_LIMIT = 64 << 20
# Clocks of two installations differ a little.
TOLERANCE_SECONDS = 300


@dataclass(frozen=True)
class Checked:
    """A bundle of which everything was verified. `key` and `log_keys` are the trusted keys by which; `checkpoint` is the size of
    the source's log that its newest checkpoint covers.
    """

    statement: BundleStatement
    source: Source
    key: str
    checkpoint: int
    story: Story

    def imported(self, bundle: ArtifactRef) -> ImportedFrom:
        """What is put on record of it."""
        manifest, story = self.statement.manifest, self.story
        return ImportedFrom(
            bundle=bundle, statement=self.statement.digest, nonce=manifest.nonce, environment=manifest.environment,
            origin=manifest.origin, key=self.key, log_keys=[key.text() for key in self.source.log], checkpoint=self.checkpoint,
            made_at=manifest.made_at, source_version=manifest.version, model_digest=manifest.model_digest,
            candidate=story.candidate, evaluation=story.evaluation.digest, data_check=story.data_check,
            gates_at_training=story.gates_at_training, compared_with=story.compared_with, people=manifest.people)


def check(path: Path, sources: Sources, now: datetime | None = None) -> Checked:
    """Verify a bundle. Raises BundleError with the reason, ConfigError or OSError where it cannot be read."""
    with plain_zip.reading(path) as archive:
        statement, source, key = _signed(archive, sources)
        _fresh(statement, now or datetime.now(UTC))
        _files(archive, statement)
        with TemporaryDirectory(prefix="airgate-bundle-") as folder:
            size = _log(archive, source, statement, Path(folder))
            events = list(_events(Path(folder)))
        story = bundle_story.read(events, statement.manifest.model, statement.manifest.version, source.keys,
                                  lambda _: archive.read(CANDIDATE, DOCUMENT_LIMIT))
        _agree(statement, story)
        return Checked(statement, source, key, size, story)


def _signed(archive: Archive, sources: Sources) -> tuple[BundleStatement, Source, str]:
    """The statement, the installation whose key signed it, and that key. Nothing else was read before."""
    import rfc8785

    raw = archive.read(MANIFEST, MANIFEST_LIMIT)
    trusted = {key: source for source in sources.values() for key in source.keys}
    try:
        envelope = dsse.read(json.loads(raw))
    except (ValueError, RecursionError, SignatureError) as error:
        raise BundleError("tampered", f"{MANIFEST} cannot be read: {error}. Ask for the bundle again") from None
    named = {signature.keyid for signature in envelope.signatures}
    if not named & {key.keyid for key in trusted}:
        known = ", ".join(sorted(key.keyid for key in trusted)) or "nobody"
        raise BundleError("untrusted key", f"it is signed by {', '.join(sorted(named))[:200]}, and bundles are taken from "
                          f"{known} alone. If that key is to count, add it to the file that AIRGATE_BUNDLE_SOURCES names")
    try:
        payload, key = dsse.verify(envelope, in_toto.PAYLOAD_TYPE, tuple(trusted))
    except SignatureError as error:
        raise BundleError("tampered", f"{MANIFEST}: {error}") from None
    # The envelope's hints and spelling are not signed: one form is allowed.
    if rfc8785.dumps(envelope.to_json()) != raw or [one.keyid for one in envelope.signatures] != [key.keyid]:
        raise BundleError("tampered", f"{MANIFEST} is not written as RFC 8785 has it, or not signed by one key alone")
    statement = BundleStatement.parse(payload)
    if statement.manifest.environment != key.name:
        raise BundleError("untrusted key", f"it says that it comes from '{statement.manifest.environment}', and is signed by "
                          f"{key.keyid}, which speaks for '{key.name}' alone")
    return statement, trusted[key], key.text()


def _fresh(statement: BundleStatement, now: datetime) -> None:
    made, until = statement.manifest.made_at, statement.manifest.expires_at
    if now > until:
        raise BundleError("expired", f"it could be imported until {until:%Y-%m-%d %H:%M} UTC; let the source export it again, so "
                          "that what is known there today comes with it")
    if (made - now).total_seconds() > TOLERANCE_SECONDS:
        raise BundleError("expired", f"it says that it was made at {made:%Y-%m-%d %H:%M} UTC, which is still to come: a clock is "
                          "wrong")


def _files(archive: Archive, statement: BundleStatement) -> None:
    """The files are exactly those that were signed, to the last byte."""
    there, signed = set(archive.entries) - {MANIFEST}, set(statement.files)
    if there != signed:
        said = [f"{what}: {', '.join(sorted(names)[:5])}" for what, names in
                (("not signed", there - signed), ("missing", signed - there)) if names]
        raise BundleError("tampered", f"its files are not those of its statement; {'; '.join(said)}")
    for name in (CANDIDATE, EVALUATION):
        if name not in signed:
            raise BundleError("incomplete", f"it lacks {name}")
    for name, digest in sorted(statement.files.items()):
        found = archive.digest(name)
        if found != digest:
            raise BundleError("tampered", f"{name} has the digest {found}, the statement says {digest}: its bytes were changed")


def _log(archive: Archive, source: Source, statement: BundleStatement, to: Path) -> int:
    """Verify the extract of the source's log with the verifier that auditors use; give how many events its checkpoint covers."""
    names = [name for name in archive.entries if name.startswith(LOG)]
    if sum(archive.entries[name].size for name in names) > LOG_LIMIT:
        raise BundleError("too large", f"its log has more than {LOG_LIMIT} bytes")
    for name in names:
        archive.extract(name, to / name.removeprefix(LOG))
    try:
        verdict = verifier.verify(to, source.log)
        said = json.loads((to / "manifest.json").read_bytes())
    except (verifier.Unreadable, OSError, ValueError) as error:
        raise BundleError("tampered", f"its log cannot be read: {error}") from None
    if verdict.word != "ok":
        raise BundleError("tampered", f"its log does not verify: {verdict.lines()[0]}")
    if said["format"] != verifier.FORMATS[1] or said["origin"] != statement.manifest.origin:
        raise BundleError("tampered", f"its log is {said['format']} of {said['origin']}, the statement speaks of an extract of "
                          f"{statement.manifest.origin}")
    return int(said["size"])


def _events(folder: Path) -> Iterator[StoredEvent]:
    """The log's leaves, which were verified. Names stay sealed: their keys are at the source."""
    with (folder / "leaves.jsonl").open("rb") as lines:
        for line in lines:
            try:
                yield parse_entry(line.rstrip(b"\n"), -1, Subjects())
            except AuditError as error:
                raise BundleError("tampered", f"a leaf of its log is no event: {error}") from None


def _agree(statement: BundleStatement, story: Story) -> None:
    """What the statement says is what the source's log says."""
    manifest, files = statement.manifest, statement.files
    if story.files != statement.model_files:
        raise BundleError("other model", "the model's files are not those that were signed when the version was registered")
    pairs = (("registration", manifest.register_event, str(story.registered.event_id)),
             ("verdict", manifest.verdict_event, str(story.verdict.event_id)),
             (EVALUATION, files[EVALUATION], story.evaluation.digest), (DATA_CHECK, files.get(DATA_CHECK), story.data_check))
    for what, said, found in pairs:
        if said != found:
            raise BundleError("other model", f"its {what} is {said}, the source's log says {found}")
