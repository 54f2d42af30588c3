"""The files of a registered version, copied from MLflow. Light: who only verifies them needs no library that reads models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airgate.contracts.manifest import manifest_digest
from airgate.encryption.folder import is_sealed, open_folder
from airgate.errors import ArtifactError
from airgate.steps.manifest import manifest

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

    What MLflow has encrypted is decrypted. Raises ArtifactError when MLflow has no such version, or the version was not
    registered by Airgate, or (EnvelopeError) its encrypted bytes were changed; WrongKeyError when the keys here do not open it.
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
    if is_sealed(folder):
        folder = open_folder(folder, to / "plain", uri)
    return Fetched(model, version, folder, manifest(folder))
