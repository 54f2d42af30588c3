"""Secrets, ports and environments of an installation in a folder of its own."""

import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from airgate.errors import ConfigError
from airgate.platform import credentials, environment, postgres, private_files
from airgate.platform import ports as ports_module
from airgate.platform.environment import Installation
from airgate.platform.layout import Layout
from airgate.platform.lock import exclusive


@pytest.fixture
def layout(tmp_path):
    root = tmp_path / "a checkout with spaces"
    root.mkdir()
    found = Layout(root=root, home=root / ".airgate")
    found.make()
    return found


@pytest.fixture
def installation(layout):
    return Installation(layout, credentials.ensure(layout), {"airflow": 8080, "mlflow": 5500, "postgres": 54320})


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_private_drawn_once_and_not_shown(layout):
    first = credentials.ensure(layout)
    for path in (layout.passwords, layout.home / "keys.json"):
        assert mode(path) == 0o600
        path.chmod(0o644)
    assert credentials.ensure(layout) == first
    assert mode(layout.passwords) == 0o600, "a file that was opened up is closed again"
    shown = repr(first)
    assert not any(secret in shown for secret in (*first.keys.values(), *first.passwords.values()))


def test_a_new_user_gets_a_password_and_the_others_keep_theirs(layout):
    private_files.write_json(layout.passwords, {"ana": "kept"})
    drawn = credentials.ensure(layout).passwords
    assert drawn["ana"] == "kept"
    assert set(drawn) == set(credentials.PEOPLE)


def test_folders_are_closed_to_others(layout):
    assert {mode(path) for path in (layout.home, layout.run, layout.logs, layout.airflow)} == {0o700}


def test_private_files_are_replaced_whole(tmp_path):
    path = tmp_path / "secret"
    private_files.write_private(path, "one")
    with pytest.raises(TypeError):
        private_files.write_private(path, 2)  # type: ignore[arg-type]
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_ports_are_remembered(layout):
    first = ports_module.ensure(layout)
    assert len(set(first.values())) == len(ports_module.PREFERRED)
    assert ports_module.ensure(layout) == first


def test_a_port_taken_by_a_stranger_is_left_and_ours_is_kept(layout):
    first = ports_module.ensure(layout)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first["airflow"]))
        stranger.listen()
        assert ports_module.ensure(layout, running=frozenset({"airflow"})) == first, "it is ours that listens"
        moved = ports_module.ensure(layout)
    assert moved["airflow"] != first["airflow"]
    assert {name: moved[name] for name in ("mlflow", "postgres")} == {name: first[name] for name in ("mlflow", "postgres")}


def test_steps_never_see_the_audit_log_or_airflows_secrets(installation, monkeypatch):
    monkeypatch.setenv("AIRGATE_AUDIT_URL", "postgresql://from-the-shell")
    steps, airflow = environment.for_steps(installation), environment.for_airflow(installation)
    text = json.dumps(steps)
    assert "AUDIT" not in text
    assert "MODEL_KEY" not in text and "MODEL_KEY" not in json.dumps(environment.for_mlflow(installation))
    assert airflow["AIRGATE_MODEL_KEY"] == f"file:{installation.layout.model_key}"
    assert mode(installation.layout.model_key) == 0o600
    assert not any(secret in text for secret in installation.credentials.keys.values())
    assert not any(name.startswith("AIRFLOW__") and name not in environment.QUIET for name in steps)
    assert airflow["AIRGATE_AUDIT_URL"] == "postgresql://from-the-shell", "the user's own audit log wins"


def test_mlflow_gets_its_own_database_and_no_other_secret(installation):
    text = json.dumps(environment.for_mlflow(installation))
    known = {name for name, secret in installation.credentials.keys.items() if secret in text}
    assert known == {"mlflow"}


def test_another_airflows_settings_stay_out(installation, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", "aws://production")
    monkeypatch.setenv("AIRGATE_RUNTIME", "kubernetes")
    variables = environment.for_airflow(installation)
    assert "production" not in json.dumps(variables)
    assert variables["AIRGATE_RUNTIME"] == "kubernetes", "Airgate's own settings are the user's to make"


def test_nobody_is_told_that_this_runs(installation):
    for variables in (environment.for_airflow(installation), environment.for_steps(installation)):
        assert environment.QUIET.items() <= variables.items()


def test_the_environment_file_can_be_read_by_a_shell_and_by_us(installation, monkeypatch):
    environment.write_file(installation)
    path = installation.layout.environment_file
    assert mode(path) == 0o600
    for name in [name for name in os.environ if name.startswith("AIRGATE_")]:
        monkeypatch.delenv(name)
    in_shell = subprocess.run(["bash", "-c", f"set -a; . '{path}'; exec '{sys.executable}' -c 'import json, os; "
                               "print(json.dumps(dict(os.environ)))'"], capture_output=True, text=True, check=True)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    environment.adopt(installation.layout)
    ours = {name: value for name, value in os.environ.items() if name.startswith("AIRGATE_")}
    assert ours["AIRGATE_HOME"] == str(installation.layout.home)
    assert ours.items() <= json.loads(in_shell.stdout).items()


def test_adopting_never_replaces_what_is_set(installation, monkeypatch):
    environment.write_file(installation)
    monkeypatch.setattr(os, "environ", {"AIRGATE_RUNTIME": "kubernetes"})
    environment.adopt(installation.layout)
    assert os.environ["AIRGATE_RUNTIME"] == "kubernetes"


def test_a_password_with_odd_characters_survives_the_url(installation):
    keys = {**installation.credentials.keys, "airflow": "p@ss/w:rd %"}
    url = postgres.url(credentials.Credentials(keys, {}), "airflow", "airflow", 5432)
    from sqlalchemy import make_url
    assert make_url(url).password == "p@ss/w:rd %"


def test_one_up_at_a_time(layout):
    with exclusive(layout.run / "lock"), pytest.raises(ConfigError, match="another `airgate up` or `airgate down`"), \
            exclusive(layout.run / "lock"):
        pass
    with exclusive(layout.run / "lock"):
        pass
