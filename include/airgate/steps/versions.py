"""Fetching a registered model version: its bytes are held against a digest and a signature before anything reads them."""

from pathlib import Path
from typing import Any

from airgate import settings
from airgate.errors import ArtifactError, SignatureError
from airgate.signatures import keys, statement
from airgate.signatures.statement import Promotion
from airgate.steps.download import FOLDER, Fetched, download
from airgate.steps.model import Model

__all__ = ["FOLDER", "Fetched", "download", "fetch_version", "verified"]


def fetch_version(tracking_uri: str, model: str, version: str, to: Path, expected_digest: str, *, envelope: Any,
                  stage: str | None = None) -> Model:
    """Fetch a version into `to`, verify its manifest digest and its signature, and only then read it.

    `envelope` and `stage` are those of `verified`, whose errors this raises too.
    Raises ArtifactError when it is missing, its bytes are not those of the digest, or they are no sound model.
    """
    fetched = download(tracking_uri, model, version, to)
    if fetched.digest != expected_digest:
        raise ArtifactError(f"models:/{model}/{version}: the stored files have digest {fetched.digest}, "
                            f"expected {expected_digest}. They were changed after registration: do not use "
                            "this version; train again.")
    return verified(fetched, envelope, stage)


def verified(fetched: Fetched, envelope: Any, stage: str | None = None) -> Model:
    """Read a version that was fetched, after its signature was verified over the very files that are then read.

    `envelope` is a signed statement about it (DSSE, JSON values); with `stage` it must be of a promotion to that stage. The
    trusted keys are those of this process's own AIRGATE_MODEL_TRUST, never of the call.
    Raises SignatureError when nothing is signed, or it does not verify, or it is about something else; ConfigError when no
    key is trusted; ArtifactError when the files are no sound model.
    """
    name = f"{fetched.model} version {fetched.version}"
    if not envelope:
        raise SignatureError(f"{name} is not signed, so it is not read. If it is to be used, look at its record and run "
                             f"`airgate model sign {fetched.model}@{fetched.version}`.")
    now = settings.load()
    try:
        said = statement.verify(envelope, keys.trusted(now), environment=now.environment)
    except SignatureError as error:
        raise SignatureError(f"{name} is not read, its signature does not count: {error}") from None
    about = said.predicate
    if (about.model, about.version) != (fetched.model, fetched.version):
        raise SignatureError(f"{name} is not read: its signature is of {about.model} version {about.version}.")
    if stage is not None and not (isinstance(about, Promotion) and about.stage == stage):
        raise SignatureError(f"{name} is not read: what was signed is no promotion to {stage}.")
    statement.check_files(said, fetched.files)
    return Model.load(fetched.folder)
