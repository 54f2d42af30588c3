"""A real PostgreSQL, started and stopped as `airgate up` does it."""

import psycopg2
import pytest

from airgate.platform import credentials, ports, postgres
from airgate.platform.layout import Layout
from airgate.platform.processes import Processes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("a checkout")
    layout = Layout(root=root, home=root / ".airgate")
    layout.make()
    keys, port = credentials.ensure(layout), ports.free_port()
    processes = Processes(layout.run, layout.logs)
    postgres.prepare(layout, keys)
    processes.start(postgres.service(layout, port))
    try:
        postgres.wait(keys, port, lambda: processes.find("postgres") is not None)
        postgres.create_databases(keys, port)
        postgres.create_databases(keys, port)  # the second start of an installation
        postgres.create_audit_log(keys, port)
        postgres.create_audit_log(keys, port)
        yield keys, port
    finally:
        processes.stop("postgres")


def connect(server, role, database, password=None):
    keys, port = server
    connection = psycopg2.connect(host="127.0.0.1", port=port, user=role, dbname=database, password=password or keys.keys[role])
    connection.autocommit = True
    return connection


@pytest.mark.parametrize(("role", "database"), [("airflow", "airflow"), ("mlflow", "mlflow"), ("audit_writer", "airgate_audit")])
def test_each_role_reaches_its_own_database(server, role, database):
    connect(server, role, database).close()


@pytest.mark.parametrize("database", ["airflow", "airgate_audit"])
def test_mlflow_reaches_no_other(server, database):
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        connect(server, "mlflow", database)


def test_a_password_is_asked_for(server):
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(server, "postgres", "postgres", password="guess")


@pytest.mark.parametrize("statement", [
    "DELETE FROM airgate_events", "UPDATE airgate_events SET kind = 'x'", "TRUNCATE airgate_events", "DROP TABLE airgate_events",
    "DELETE FROM airgate_head", "ALTER TABLE airgate_events DISABLE TRIGGER ALL",
])
def test_the_writer_of_the_audit_log_cannot_rewrite_it(server, statement):
    connection = connect(server, "audit_writer", "airgate_audit")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def test_the_writer_can_append_and_verify(server):
    from datetime import UTC, datetime

    from airgate.audit.event import Actor, AuditEvent, event_id_of
    from airgate.audit.store import AuditStore

    keys, port = server
    store = AuditStore(postgres.url(keys, "audit_writer", "airgate_audit", port))
    event = AuditEvent(event_id=event_id_of("test"), kind="manual.change", occurred_at=datetime.now(UTC),
                       actor=Actor(kind="user", name="ana"), source="cli")
    store.append(event)
    assert store.verify().ok
    assert store.head()[0] == 1
