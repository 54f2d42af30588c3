"""Fetching a registered model version: its signature first, then its bytes are held against it before anything reads them."""

from pathlib import Path
from typing import Any

from airgate import settings
from airgate.errors import ArtifactError, SignatureError
from airgate.signatures import keys, statement
from airgate.signatures.statement import Promotion, Registration, Statement
from airgate.steps.download import FOLDER, Fetched, download
from airgate.steps.model import Model

__all__ = ["FOLDER", "Fetched", "download", "fetch_version", "load", "signed", "source_in"]


def fetch_version(tracking_uri: str, model: str, version: str, to: Path, expected_digest: str, *, envelope: Any,
                  stage: str | None = None) -> Model:
    """Verify a version's signature, fetch it into `to`, hold its files against digest and signature, and only then read it.

    `envelope` and `stage` are those of `signed`, whose errors this raises too.
    Raises ArtifactError when it is missing, its bytes are not those of the digest, or they are no sound model.
    """
    said = signed(model, version, envelope, stage)
    fetched = download(tracking_uri, model, version, to, source=source_in(said))
    if fetched.digest != expected_digest:
        raise ArtifactError(f"models:/{model}/{version}: the stored files have digest {fetched.digest}, "
                            f"expected {expected_digest}. They were changed after registration: do not use "
                            "this version; train again.")
    return load(fetched, said)


def signed(model: str, version: str, envelope: Any, stage: str | None = None) -> Statement:
    """What was signed of a version. It says where the files are and what they must be, so it comes before they are fetched.

    `envelope` is a signed statement about it (DSSE, JSON values); with `stage` it must be of a promotion to that stage. The
    trusted keys are those of this process's own AIRGATE_MODEL_TRUST, never of the call.
    Raises SignatureError when nothing is signed, or it does not verify, or it is about something else; ConfigError when no
    key is trusted.
    """
    name = f"{model} version {version}"
    if not envelope:
        raise SignatureError(f"{name} is not signed, so it is not read. If it is to be used, look at its record and run "
                             f"`airgate model sign {model}@{version}`.")
    now = settings.load()
    try:
        said = statement.verify(envelope, keys.trusted(now), environment=now.environment)
    except SignatureError as error:
        raise SignatureError(f"{name} is not read, its signature does not count: {error}") from None
    about = said.predicate
    if (about.model, about.version) != (model, version):
        raise SignatureError(f"{name} is not read: its signature is of {about.model} version {about.version}.")
    if stage is not None and not (isinstance(about, Promotion) and about.stage == stage):
        raise SignatureError(f"{name} is not read: what was signed is no promotion to {stage}.")
    return said


def source_in(said: Statement) -> str | None:
    """Where a signed registration says that the files are; None where it does not say, and of a promotion."""
    return (said.predicate.source or None) if isinstance(said.predicate, Registration) else None


def load(fetched: Fetched, said: Statement) -> Model:
    """Read a version that was fetched, if its files are those that were signed.

    Raises SignatureError when they are not, ArtifactError when they are no sound model.
    """
    statement.check_files(said, fetched.files)
    return Model.load(fetched.folder)
