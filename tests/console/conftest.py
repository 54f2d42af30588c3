"""Airflow's home is a folder of this test run; the audit log and the models are each test's own."""

import os
import tempfile
import warnings
from pathlib import Path

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airgate-tests-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

with warnings.catch_warnings():
    # Starlette would rather have httpx2; Airflow's API server imports the test client by way of a library.
    warnings.filterwarnings("ignore", message="Using `httpx` with `starlette.testclient`")
    import fastapi.testclient  # noqa: F401

from airgate.audit.store import AuditStore
from airgate.authoring.scaffold import create


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AuditStore:
    """The installation's audit log, empty."""
    url = f"sqlite:///{tmp_path}/audit.db"
    monkeypatch.setenv("AIRGATE_AUDIT_URL", url)
    monkeypatch.setenv("AIRGATE_AUDIT_SPOOL", str(tmp_path / "spool"))
    store = AuditStore(url)
    store.create()
    return store


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with one sound model, `tumour`, and a broken one, `broken`."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("AIRGATE_MODELS", str(folder))
    create("tumour", owner="mia")
    (folder / "broken").mkdir()
    (folder / "broken" / "model.yaml").write_text("name: broken\ncolour: red\n")
    return folder
