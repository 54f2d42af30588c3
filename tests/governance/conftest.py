"""Airflow reads its configuration when it is imported: its home is a folder of this test run, never the developer's own."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airgate-tests-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Never the developer's own: what waits there would be drained into a test's log."""
    monkeypatch.setenv("AIRGATE_AUDIT_SPOOL", str(tmp_path / "spool"))
    return tmp_path / "spool"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "AuditStore":
    """The installation's log for one test."""
    from airgate.audit.store import AuditStore

    url = f"sqlite:///{tmp_path}/audit.db"
    monkeypatch.setenv("AIRGATE_AUDIT_URL", url)
    log = AuditStore(url)
    log.create()
    return log
