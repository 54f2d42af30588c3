"""The Job that makes roles and databases, and the one that makes the log after it, on a real PostgreSQL."""

import os
import subprocess
import sys
from contextlib import closing
from urllib.parse import quote

import psycopg2
import pytest
from tests.audit.conftest import make_event, superuser
from tests.helm.conftest import ROOT

from airgate.audit.store import AuditStore

SCRIPT = ROOT / "helm" / "airgate" / "files" / "database_roles.py"
NAMES = {"AUDIT_OWNER_URL": ("helm_owner", "helm_audit"), "AUDIT_WRITER_URL": ("helm_writer", "helm_audit"),
         "MLFLOW_URL": ("helm_mlflow", "helm_mlflow")}


def at(postgres: str, user: str, database: str) -> str:
    return postgres.replace("//postgres:@", f"//{user}:secret@").replace("/postgres?", f"/{database}?")


@pytest.fixture
def urls(postgres: str) -> dict[str, str]:
    return {"ADMIN_URL": postgres, **{name: at(postgres, *place) for name, place in NAMES.items()}}


def run(urls: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT], env={"PATH": os.environ["PATH"], **urls}, capture_output=True, text=True,
                          check=False)


def test_roles_and_databases_are_made_once_and_apart(urls: dict[str, str]) -> None:
    made = run(urls)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [
        "role helm_owner: create", "role helm_writer: create", "role helm_mlflow: create",
        "database helm_audit: of helm_owner", "database helm_mlflow: of helm_mlflow"]
    assert "secret" not in made.stdout + made.stderr
    again = run(urls)
    assert again.returncode == 0, again.stderr
    assert "role helm_owner: alter" in again.stdout

    AuditStore(urls["AUDIT_OWNER_URL"]).create()
    AuditStore(urls["AUDIT_OWNER_URL"]).grant("helm_writer")
    assert AuditStore(urls["AUDIT_WRITER_URL"]).append(make_event()) == 0

    mlflow = at(urls["ADMIN_URL"], "helm_mlflow", "helm_audit")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        psycopg2.connect(mlflow)
    with closing(psycopg2.connect(urls["AUDIT_WRITER_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for statement in ("CREATE TABLE theirs (n int)", "CREATE DATABASE theirs", "CREATE ROLE theirs",
                          "SET ROLE helm_owner", "DELETE FROM airgate_events"):
            with pytest.raises(psycopg2.Error, match=r"permission denied|must be"):
                cursor.execute(statement)
    superuser(urls["ADMIN_URL"], "DROP DATABASE helm_mlflow", "DROP ROLE helm_mlflow")


@pytest.mark.parametrize("name", ["AUDIT_WRITER_URL", "MLFLOW_URL"])
def test_a_role_that_is_two_things_is_refused(urls: dict[str, str], name: str) -> None:
    refused = run({**urls, name: urls["AUDIT_OWNER_URL"]})
    assert refused.returncode == 1
    assert "must be three roles, the log and MLflow two databases" in refused.stderr
    assert quote("secret") not in refused.stderr
