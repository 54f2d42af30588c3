"""An Airflow home of its own, an audit log, and tasks that run as Airflow runs them, without a server."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

# Airflow reads these when it is imported, so they stand before any import of it.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airgate-airflow-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "false")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "false")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation in `tmp_path`: settings, an empty artifact store, an audit log that is there."""
    from airgate.runtime import record

    for name in [name for name in os.environ if name.startswith("AIRGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRGATE_HOME", str(tmp_path))
    monkeypatch.setenv("AIRGATE_CODE_VERSION", "c0ffee")
    record.store().create()
    return tmp_path


@pytest.fixture
def server() -> Any:
    from tests.runtime.execution_api import TaskServer

    return TaskServer()
