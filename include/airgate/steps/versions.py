"""Fetching a registered model version: its bytes are held against a digest and a signature before anything reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airgate import settings
from airgate.errors import ArtifactError, SignatureError
from airgate.signatures import keys, statement
from airgate.signatures.statement import Promotion
from airgate.steps.model import Model
from airgate.steps.store import manifest, manifest_digest

# Where `register` keeps the model's folder inside what MLflow stores of a version.
FOLDER = "artifacts/model"


@dataclass(frozen=True)
class Fetched:
    """A version's folder on disk and the manifest of what is in it. Nothing of it has been parsed."""

    model: str
    version: str
    folder: Path
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return manifest_digest(self.files)


def download(tracking_uri: str, model: str, version: str, to: Path) -> Fetched:
    """Copy a version's model folder from MLflow into `to` and measure its digest.

    Raises ArtifactError when MLflow has no such version, or the version was not registered by Airgate.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracking import MlflowClient

    if not version.isdecimal():
        raise ArtifactError(f"{model}: version '{version}' is no version number. "
                            "An alias moves; name the version it stands for.")
    to.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{model}/{version}"
    try:
        # Resolved here, step by step: given a models:/ address, MLflow would ask the process-wide registry for it.
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        location = str(client.get_model_version(model, version).source)
        if location.startswith("models:/"):
            location = client.get_logged_model(location.removeprefix("models:/")).artifact_location
        folder = Path(get_artifact_repository(location, tracking_uri=tracking_uri).download_artifacts(FOLDER, str(to)))
    except (MlflowException, OSError) as error:
        said = str(error).strip() or type(error).__name__
        raise ArtifactError(f"{uri} cannot be fetched from MLflow: {said.splitlines()[0][:300]}. "
                            f"The version must exist and hold {FOLDER}, as airgate.steps.register writes it.") from None
    if not folder.is_dir():
        raise ArtifactError(f"{uri}: {FOLDER} is no folder, so airgate.steps.register did not write this version.")
    return Fetched(model, version, folder, manifest(folder))


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
