"""Fetching a registered model version: the bytes are compared with a digest before anything reads them."""

from dataclasses import dataclass
from pathlib import Path

from airgate.errors import ArtifactError
from airgate.steps.model import Model
from airgate.steps.store import manifest, manifest_digest

# Where `register` keeps the model's folder inside what MLflow stores of a version.
FOLDER = "artifacts/model"


@dataclass(frozen=True)
class Fetched:
    """A version's folder on disk and the manifest digest of what is in it. Nothing of it has been parsed."""

    folder: Path
    digest: str


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
    return Fetched(folder, manifest_digest(manifest(folder)))


def fetch_version(tracking_uri: str, model: str, version: str, to: Path, expected_digest: str) -> Model:
    """Fetch a version into `to`, verify its manifest digest, and only then read it.

    Raises ArtifactError when it is missing, its bytes are not those of the digest, or they are no sound model.
    """
    fetched = download(tracking_uri, model, version, to)
    if fetched.digest != expected_digest:
        raise ArtifactError(f"models:/{model}/{version}: the stored files have digest {fetched.digest}, "
                            f"expected {expected_digest}. They were changed after registration: do not use "
                            "this version; train again.")
    return Model.load(fetched.folder)
