"""The plugin file as Airflow loads it, and what loading it costs every process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow._shared.plugins_manager import _load_plugins_from_plugin_directory

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern")  # how Airflow reads .airflowignore


def test_airflow_loads_the_plugin():
    [plugin], errors = _load_plugins_from_plugin_directory(str(ROOT / "plugins"))
    assert errors == {}
    assert plugin.name == "airgate"
    assert plugin.fastapi_apps[0]["url_prefix"] == "/airgate"
    assert plugin.external_views[0]["url_route"] == "governance"
    # Airflow refuses `end_from_trigger` operators in every process that has a listener; ours comes with the API server.
    assert plugin.listeners == []


def test_packages_below_the_plugins_folder_are_not_run(tmp_path):
    (tmp_path / ".airflowignore").write_text((ROOT / "plugins" / ".airflowignore").read_text())
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner.py").write_text("raise RuntimeError('run twice')")
    (tmp_path / "mine.py").write_text("from airflow.plugins_manager import AirflowPlugin\n"
                                      "class Mine(AirflowPlugin):\n    name = 'mine'\n")
    plugins, errors = _load_plugins_from_plugin_directory(str(tmp_path))
    assert ([plugin.name for plugin in plugins], errors) == (["mine"], {})


def test_loading_the_plugin_loads_neither_the_api_server_nor_the_store():
    code = ("import sys, airflow.plugins_manager; before = set(sys.modules); import airgate_plugin; "
            "print(*sorted(set(sys.modules) - before))")
    path = os.pathsep.join([str(ROOT / "plugins"), str(ROOT / "include")])
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONPATH": path}).stdout.split()
    assert "airgate.console.mount" in loaded
    heavy = {"airflow.api_fastapi.core_api.security", "airgate.console.app", "airgate.audit.store", "airgate.audit.event"}
    assert heavy.isdisjoint(loaded)


def test_the_page_stands_under_the_servers_own_path(monkeypatch):
    from airgate.console.mount import page_address

    assert page_address() == "/airgate/"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/flow/")
    assert page_address() == "/flow/airgate/"
