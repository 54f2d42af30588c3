"""The models that MLflow stores encrypted, and wrapping their data keys anew. Their weights are neither read nor rewritten."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airgate.contracts.artifact_place import refusal
from airgate.encryption import rotation
from airgate.encryption.at_rest import KEYS
from airgate.encryption.keys import KeyService
from airgate.encryption.rotation import Rotation
from airgate.errors import ArtifactError

# Where airgate.steps.register keeps a model's folder in what MLflow stores of a version.
FOLDER = "artifacts/model"


@dataclass(frozen=True)
class Copy:
    """An encrypted version: its name for people, and MLflow's store of its files."""

    name: str
    files: Any

    def wrapped_keys(self, to: Path) -> Path:
        """Fetch the wrapped data keys below `to` and give the folder that stands for the version's."""
        self.files.download_artifacts(f"{FOLDER}/{KEYS}", str(to))
        return to / FOLDER

    def put_back(self, folder: Path) -> None:
        """Put the wrapped data keys in the place of the old ones."""
        self.files.log_artifacts(str(folder / KEYS), f"{FOLDER}/{KEYS}")


def copies(tracking_uri: str) -> Iterator[Copy]:
    """Every version in MLflow's registry whose files are encrypted. Raises ArtifactError when MLflow cannot be read."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    token: str | None = ""
    try:
        while token is not None:
            page = client.search_model_versions("", page_token=token or None)
            for version in page:
                location = str(version.source)
                if location.startswith("models:/"):
                    location = client.get_logged_model(location.removeprefix("models:/")).artifact_location
                if refusal(location, tracking_uri) is not None:
                    continue  # no step of ours put it there, and MLflow's password would go with the question
                files = get_artifact_repository(location, tracking_uri=tracking_uri)
                if files.list_artifacts(f"{FOLDER}/{KEYS}"):
                    yield Copy(f"models:/{version.name}/{version.version}", files)
            token = page.token or None
    except (MlflowException, OSError) as error:
        raise ArtifactError(f"MLflow cannot be asked for its versions: {error}. Check AIRGATE_MLFLOW_URI") from None


def wrapped_by(tracking_uri: str) -> tuple[int, Counter[str]]:
    """How many versions are encrypted in MLflow, and how many of their data keys each key wraps."""
    versions, wraps = 0, Counter[str]()
    for copy in copies(tracking_uri):
        versions += 1
        with tempfile.TemporaryDirectory() as folder:
            wraps.update(rotation.wrapped_by(str(copy.wrapped_keys(Path(folder)))))
    return versions, wraps


def rotate(tracking_uri: str, keys: KeyService) -> Rotation:
    """Wrap the data keys of every encrypted version with the current key. May be repeated and interrupted."""
    total = Rotation()
    for copy in copies(tracking_uri):
        with tempfile.TemporaryDirectory() as folder:
            place = copy.wrapped_keys(Path(folder))
            done = rotation.rotate(str(place), keys)
            if done.rewrapped:
                copy.put_back(place)
        total += Rotation(done.rewrapped, done.current, [f"{copy.name}: {line}" for line in done.failed])
    return total
