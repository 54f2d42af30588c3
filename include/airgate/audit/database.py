"""How the audit store reaches its database from any process: timeouts, bounded retries, no password shown."""

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from airgate.errors import AuditError, ConfigError, nearest

ATTEMPTS = 6
_POSTGRESQL = "postgresql+psycopg2"
_DRIVERS = {
    "sqlite": "sqlite", "sqlite+pysqlite": "sqlite",
    "postgres": _POSTGRESQL, "postgresql": _POSTGRESQL, _POSTGRESQL: _POSTGRESQL,
}
# serialization_failure, deadlock_detected, lock_not_available, admin_shutdown, crash_shutdown, cannot_connect_now: the same
# request may pass next time.
_TRANSIENT = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03"}
# What a server that can be reached says to somebody it will never let in.
_REFUSED = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied")
_LONGEST_PAUSE = 2.0
_NO_TABLE = "42P01"
_NOT_GRANTED = ("42883", "42501")  # undefined_function, insufficient_privilege
_WRITES = "airgate_writes"
_jitter = random.SystemRandom()
T = TypeVar("T")
# Writes a record and commits, so that everything before it in the server's journal is on disk, other sessions' too.
_BARRIER = "SELECT pg_logical_emit_message(true, 'airgate', '')"
_OURS = "AG"  # how SQLSTATEs begin that our own functions raise


@dataclass
class Raised(Exception):
    """What a function of the audit database refused, by its own SQLSTATE."""

    code: str
    detail: str


class Database:
    """One audit database. Every transaction opens its own connection, so nothing is shared over a fork, unless one is kept."""

    def __init__(self, url: str, timeout: float = 10.0, patience: float = 0.0, *, keep: bool = False) -> None:
        """Read the URL; nothing is opened yet. `timeout` (seconds) bounds connecting and waiting for the lock.

        `patience` (seconds) is how long a database that is down is asked again; the last answer may take `timeout` longer.
        With `keep`, a thread's connection stays open for the next call: for those who append much. Raises ConfigError for
        a URL that cannot serve.
        """
        self.url = _read_url(url)
        self.where = _place(self.url)
        self.engine = _engine(self.url, timeout, keep=keep)
        self._patience = patience
        self._owner = os.getpid()

    @property
    def dialect(self) -> str:
        """'sqlite' or 'postgresql'."""
        return self.engine.dialect.name

    def transact(self, work: Callable[[Connection], T], *, write: bool) -> T:
        """Run `work` in one transaction and give its result; a lost lock or a broken connection is tried again.

        `work` must be idempotent: a commit whose answer was lost is repeated. A read sees one snapshot.
        Raises AuditError when the database cannot be reached within `patience`, or refuses.
        """
        return self._patiently(lambda: self._once(work, write))

    def call(self, statement: str, arguments: Sequence[Any]) -> Any:
        """On PostgreSQL, run a statement that commits by itself, wait until it is on disk, and give its one value.

        No lock is held while the client is told. `statement` must be idempotent. Raises Raised with a SQLSTATE of ours,
        AuditError as `transact` does.
        """
        return self._patiently(lambda: self._call(statement, arguments))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        if self._owner != os.getpid():  # forked: the connections that are open belong to the parent
            self.engine.dispose(close=False)
            self._owner = os.getpid()
        began, attempts = time.monotonic(), 0
        while True:
            try:
                return attempt()
            except DBAPIError as error:
                attempts += 1
                again = _transient(error) or (self._patience > 0 and _down(error))
                # Who named a time waits that long, however often; who did not, tries a few times and is gone.
                left = self._patience - (time.monotonic() - began)
                over = left <= 0 if self._patience > 0 else attempts >= ATTEMPTS
                if over or not again:
                    raise AuditError(self._explain(error)) from None
                pause = _jitter.uniform(0.5, 1.0) * min(0.02 * 2 ** min(attempts, 10), _LONGEST_PAUSE)
                time.sleep(min(pause, left) if self._patience > 0 else pause)

    def prepare(self) -> None:
        """Make the directory of a SQLite file; other databases are somebody else's to make."""
        if self.url.database and self.engine.dialect.name == "sqlite":
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            Path(self.url.database).touch()

    def _once(self, work: Callable[[Connection], T], write: bool) -> T:
        if self.engine.dialect.name == "sqlite" and not Path(str(self.url.database)).exists():
            raise AuditError(f"there is no audit log at {self.where}; create it with `airgate audit create`")
        options: dict[str, Any] = {_WRITES: write}
        if self.engine.dialect.name == "postgresql" and not write:
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            return work(connection)

    def _call(self, statement: str, arguments: Sequence[Any]) -> Any:
        """Past SQLAlchemy's own layer, which would be two thirds of an append's time."""
        connection: Any = None
        errors: Any = self.engine.dialect.loaded_dbapi
        try:
            connection = self.engine.raw_connection()
            connection.driver_connection.autocommit = True
            try:
                with closing(connection.cursor()) as cursor:
                    cursor.execute(statement, arguments)
                    value = cursor.fetchone()[0]
                    cursor.execute(_BARRIER)
                return value
            finally:
                if not connection.driver_connection.closed:
                    connection.driver_connection.autocommit = False
        except errors.Error as error:
            if (error.pgcode or "").startswith(_OURS):
                raise Raised(error.pgcode, error.diag.message_detail or "") from None
            broken = connection is not None and bool(connection.driver_connection.closed)
            if broken:
                connection.invalidate()
            raise DBAPIError.instance(None, None, error, errors.Error, connection_invalidated=broken) from None
        finally:
            if connection is not None:
                connection.close()

    def _explain(self, error: DBAPIError) -> str:
        text = " ".join(str(error.orig).split()).rstrip("?.")
        if getattr(error.orig, "pgcode", None) == _NO_TABLE or "no such table" in text:
            return f"there is no audit log at {self.where}; create it with `airgate audit create`"
        if getattr(error.orig, "pgcode", None) in _NOT_GRANTED:
            return (f"the audit log at {self.where} is of an older release, or this role may not use it ({text}): as its owner, "
                    "run `airgate audit create --writer ROLE`")
        for secret in (self.url.password, self.url.query.get("password")):
            text = text.replace(str(secret), "***") if secret else text
        return f"the audit store at {self.where} failed: {text or type(error.orig).__name__}"


def _read_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigError(
            "the audit URL cannot be read; allowed: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE "
            "(AIRGATE_AUDIT_URL)"
        ) from None
    if url.drivername not in _DRIVERS:
        raise ConfigError(f"the audit URL names the database '{url.drivername}'; {nearest(url.drivername, _DRIVERS)}")
    if url.host and "@" in url.host:
        raise ConfigError("the audit URL's password has an unescaped '@'; write it as %40 (AIRGATE_AUDIT_URL)")
    if url.drivername.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise ConfigError("the audit URL names SQLite in memory, which forgets; write sqlite:///PATH")
    return url.set(drivername=_DRIVERS[url.drivername])


def _place(url: URL) -> str:
    if url.drivername == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "localhost"
    return f"{host}:{url.port or 5432}/{url.database}"


def _engine(url: URL, timeout: float, *, keep: bool) -> Engine:
    arguments: dict[str, Any]
    if url.drivername == "sqlite":
        arguments = {"timeout": timeout}
    else:
        # idle_in_transaction_session_timeout: a writer stopped while it holds the head row would stop all.
        milliseconds = int(timeout * 1000)
        arguments = {"connect_timeout": max(2, round(timeout / 2)), "application_name": "airgate-audit"}
        # A server whose machine is gone says nothing any more: ask whether it is there, and take no answer for one.
        arguments |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
        if "options" not in url.query:
            arguments["options"] = f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout=60000"
    engine = create_engine(url, poolclass=QueuePool if keep else NullPool, hide_parameters=True, connect_args=arguments)
    if url.drivername == "sqlite":
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes too late and is never IMMEDIATE: two writers would read the same head.
    connection.isolation_level = None
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _transient(error: DBAPIError) -> bool:
    code = getattr(error.orig, "pgcode", None)
    text = str(error.orig)
    locked = "database is locked" in text or "database is busy" in text
    return locked or code in _TRANSIENT or error.connection_invalidated


def _down(error: DBAPIError) -> bool:
    """Whether no server answered, which another moment may change."""
    said = str(error.orig)
    return isinstance(error, OperationalError) and getattr(error.orig, "pgcode", None) is None and not any(
        word in said for word in (*_REFUSED, "no such table"))
