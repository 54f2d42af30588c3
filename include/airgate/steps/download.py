"""The files of a registered version, copied from MLflow. Light: who only verifies them needs no library that reads models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airgate.contracts.artifact_place import refusal
from airgate.contracts.manifest import manifest_digest
from airgate.encryption.folder import is_sealed, open_folder
from airgate.errors import ArtifactError
from airgate.steps.manifest import manifest

# Where `register` keeps the model's folder inside what MLflow stores of a version.
FOLDER = "artifacts/model"
# What MLflow holds for a version is what somebody put there; a step's disk is not theirs to fill.
MOST_FILES, MOST_BYTES = 1000, 32 << 30


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


def download(tracking_uri: str, model: str, version: str, to: Path, *, source: str | None = None) -> Fetched:
    """Copy a version's model folder from MLflow into `to` and measure its digest.

    `source` is what the version's signed registration says of where its files are; whoever has it gives it, since MLflow's own
    word is anybody's who may write there. What MLflow has encrypted is decrypted.
    Raises ArtifactError when MLflow has no such version, the version was not registered by Airgate, its files are said to lie
    elsewhere than `source` or where nothing is fetched from, they are too many or too big, or (EnvelopeError) its encrypted
    bytes were changed; WrongKeyError when the keys here do not open it.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if not version.isdecimal():
        raise ArtifactError(f"{model}: version '{version}' is no version number. "
                            "An alias moves; name the version it stands for.")
    to.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{model}/{version}"
    try:
        files = get_artifact_repository(_location(tracking_uri, model, version, source), tracking_uri=tracking_uri)
        _check_size(files, uri)
        folder = Path(files.download_artifacts(FOLDER, str(to)))
    except (MlflowException, OSError, ValueError, KeyError) as error:
        said = str(error).strip() or type(error).__name__
        raise ArtifactError(f"{uri} cannot be fetched from MLflow: {said.splitlines()[0][:300]}. "
                            f"The version must exist and hold {FOLDER}, as airgate.steps.register writes it.") from None
    if not folder.is_dir():
        raise ArtifactError(f"{uri}: {FOLDER} is no folder, so airgate.steps.register did not write this version.")
    if is_sealed(folder):
        folder = open_folder(folder, to / "plain", uri)
    return Fetched(model, version, folder, manifest(folder))


def _location(tracking_uri: str, model: str, version: str, source: str | None) -> str:
    """The address of a version's files. Resolved here, step by step: given a models:/ address, MLflow would ask the process-wide
    registry for it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    location = str(client.get_model_version(model, version).source)
    if source and location != source:
        raise ArtifactError(f"models:/{model}/{version} is not fetched: its files are not where its signed registration says. "
                            "Somebody made another version of it in MLflow; see the DAG registry_guard.")
    if location.startswith("models:/"):
        location = str(client.get_logged_model(location.removeprefix("models:/")).artifact_location)
    problem = refusal(location, tracking_uri)
    if problem is not None:
        raise ArtifactError(f"models:/{model}/{version} is not fetched: {problem}.")
    return location


def _check_size(files: Any, uri: str) -> None:
    """Before a byte of it is fetched: by the store's own list."""
    folders, count, size = [FOLDER], 0, 0
    while folders:
        for one in files.list_artifacts(folders.pop()):
            count, size = count + 1, size + (one.file_size or 0)
            folders += [one.path] if one.is_dir else []
            if count > MOST_FILES or size > MOST_BYTES:
                raise ArtifactError(f"{uri} is not fetched: it has more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB. "
                                    "No version may have more.")
