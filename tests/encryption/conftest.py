"""Stores and keys that exist for one test."""

import base64
from pathlib import Path

import pytest
from tests.steps.model_support import mlflow_uri as new_mlflow

from airgate.encryption import keys
from airgate.encryption.keys import KeySources
from airgate.steps.store import ArtifactStore

OLD = f"2026-01 {base64.b64encode(bytes(range(32))).decode()}"
NEW = f"2026-02 {base64.b64encode(bytes(range(32, 64))).decode()}"


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store's URL: on disk, or in fsspec's memory, which is reached as an object store is."""
    return f"{request.param}://{tmp_path}/store"


@pytest.fixture
def old() -> KeySources:
    """The key that wraps first."""
    return ring(OLD)


@pytest.fixture
def store(root: str, old: KeySources) -> ArtifactStore:
    """An encrypted store."""
    return ArtifactStore(root, old)


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real, empty MLflow on SQLite. Who registers models takes one of its own."""
    return new_mlflow(tmp_path_factory.mktemp("mlflow"))


def ring(*lines: str) -> KeySources:
    """Keys in the order in which a file would have them."""
    return KeySources([keys.parse("\n".join(lines), "test")])
