import socket
import threading
from contextlib import closing

import psycopg2
import pytest

from airgate.audit.store import AuditStore
from airgate.errors import AuditError, ConfigError


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "the audit URL cannot be read; allowed: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"),
        ("mysql://u:secret@h/d", r"names the database 'mysql'; did you mean 'sqlite'\? Allowed: postgres, "),
        ("postgresql+asyncpg://u:secret@h/d", r"'postgresql\+asyncpg'; did you mean 'postgresql"),
        ("postgresql://u:secret@word@h/d", "unescaped '@'; write it as %40"),
        ("sqlite://", "SQLite in memory, which forgets; write sqlite:///PATH"),
        ("sqlite:///:memory:", "SQLite in memory"),
    ],
)
def test_a_url_that_cannot_serve_is_refused(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        AuditStore(url)
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value).replace("PASSWORD", "").replace("password", "")


def test_an_unreachable_database_names_the_host_and_no_password():
    log = AuditStore("postgresql://ana:s3cret@127.0.0.1:1/audit", timeout=2)
    with pytest.raises(AuditError, match=r"the audit store at 127.0.0.1:1/audit failed: ") as caught:
        log.head()
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert log.where == "127.0.0.1:1/audit"


@pytest.mark.parametrize(("patience", "asked"), [(0.0, 1), (0.3, 3)])
def test_a_database_that_is_down_is_asked_again_by_those_with_patience(patience, asked):
    """A port where every connection is closed at once, as by a server that is going down."""
    calls = []

    def close_all(listener):
        while True:
            try:
                calls.append(listener.accept()[0].close())
            except OSError:
                return

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = threading.Thread(target=close_all, args=(listener,))
        server.start()
        with pytest.raises(AuditError, match="closed the connection unexpectedly"):
            AuditStore(f"postgresql://ana@127.0.0.1:{listener.getsockname()[1]}/audit", patience=patience).head()
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
    assert len(calls) >= asked
    assert patience or len(calls) == asked


def test_whoever_is_turned_away_is_not_kept_waiting(pg_url, tmp_path):
    for url, said in ((pg_url.replace("/audit_", "/nobody_"), "does not exist"),
                      (pg_url, "there is no audit log at .*; create it with `airgate audit create`"),
                      (f"sqlite:///{tmp_path}/none.db", "there is no audit log at")):
        with pytest.raises(AuditError, match=said):
            AuditStore(url, patience=3600.0).head()


def test_a_lock_that_stays_taken_is_an_error_in_bounded_time(pg_url, make):
    log = AuditStore(pg_url, timeout=0.05)
    log.create()
    other = psycopg2.connect(pg_url)
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT * FROM airgate_head FOR UPDATE")
            with pytest.raises(AuditError, match="lock timeout"):
                log.append(make(0))
        other.rollback()
        assert log.append(make(0)) == 0
    finally:
        other.close()


def test_sqlite_syncs_every_commit_and_lets_readers_read(tmp_path):
    log = AuditStore(f"sqlite:///{tmp_path}/a.db")
    log.create()

    def pragmas(connection):
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]

    assert log.database.transact(pragmas, write=False) == ["wal", 2]
