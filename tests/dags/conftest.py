import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
Load = Callable[[Path], dict[str, Any]]


@pytest.fixture(autouse=True)
def airflow_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "airflow" not in sys.modules:
        monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    monkeypatch.setenv("AIRGATE_RUNTIME", "local")
    yield


@pytest.fixture
def load() -> Load:
    """Import a DAG file and give its DAGs by id, as Airflow collects them."""
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    def from_file(path: Path) -> dict[str, Any]:
        DagContext.autoregistered_dags.clear()
        DagContext.current_autoregister_module_name = f"loaded_{path.stem}"
        spec = spec_from_file_location(f"loaded_{path.stem}", path)
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
            return {dag.dag_id: dag for dag, _ in DagContext.autoregistered_dags}
        finally:
            del sys.modules[spec.name]
            DagContext.current_autoregister_module_name = None
            DagContext.autoregistered_dags.clear()

    return from_file
