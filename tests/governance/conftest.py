"""Airflow reads its configuration when it is imported: its home is a folder of this test run, never the developer's own."""

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airgate-tests-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Never the developer's own: what waits there would be drained into a test's log."""
    monkeypatch.setenv("AIRGATE_AUDIT_SPOOL", str(tmp_path / "spool"))
    return tmp_path / "spool"
