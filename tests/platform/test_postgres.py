"""A real PostgreSQL, started and stopped as `airgate up` does it."""

from datetime import UTC, datetime
from uuid import uuid4

import psycopg2
import pytest

from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of
from airgate.audit.store import AuditStore
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
    keys, port = server
    store = AuditStore(postgres.url(keys, "audit_writer", "airgate_audit", port))
    event = AuditEvent(event_id=event_id_of("test"), kind="manual.change", occurred_at=datetime.now(UTC),
                       actor=Actor(kind="user", name="ana"), source="cli")
    store.append(event)
    assert store.verify().ok
    assert store.head()[0] == 1


def offered(head, *, kind="audit.key", occurred="2026-01-08T06:00:00.000000Z", event_id="00000000-0000-4000-8000-000000000001"):
    """The arguments of one raw call of `airgate_append`, as somebody with the writer's password can make it."""
    return (head, [event_id], [kind], *[[None]] * 7, [occurred], [False], [2], ["operator"], False)


APPEND = ("SELECT airgate_append(%s, %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], "
          "%s::integer[], %s::integer[], %s::text[], %s::boolean[], %s::smallint[], %s::text[], %s)")
HEAD = '{"actor":{"kind":"system","name":"x"},"body":%s,"code":{"airgate":"0","commit":"c","image":"i"}'


@pytest.mark.parametrize(("change", "message"), [
    ({"head": "garbage"}, "is no event"),
    ({"head": HEAD % "{}" + "\n"}, "is no event"),
    ({"head": HEAD % ('{"a":"' + "x" * 70_000 + '"}')}, "is no event"),
    ({"head": HEAD % "{"}, "invalid input syntax for type json"),
    ({"head": HEAD % "{}", "kind": None}, "is no event"),
    ({"head": HEAD % "{}", "occurred": "yesterday"}, "is no event"),
    ({"head": HEAD % "{}", "occurred": '2026-01-08T06:00:00.000000Z","kind":"x'}, "is no event"),
], ids=["garbage", "two for one", "too long", "no JSON", "no kind", "no time", "more than a time"])
def test_the_writer_cannot_append_what_is_no_event(server, change, message):
    connection = connect(server, "audit_writer", "airgate_audit")
    with pytest.raises(psycopg2.Error, match=message), connection.cursor() as cursor:
        cursor.execute(APPEND, offered(**change))
    connection.close()


def test_what_it_is_searched_by_is_what_is_recorded(server):
    """The columns are part of the bytes: the writer cannot give an event other ones."""
    connection = connect(server, "audit_writer", "airgate_audit")
    odd = 'a "quoted" \\ name\n\x01\x7f \u20ac'
    with connection, connection.cursor() as cursor:
        cursor.execute(APPEND, ((HEAD % "{}"), [str(uuid4())], ["task.failed"], [odd], [odd], [odd], [odd], [odd], [3], [1],
                                ["2026-01-08T06:00:00.000000Z"], [True], [2], ["sweep"], False))
    connection.close()
    keys, port = server
    store = AuditStore(postgres.url(keys, "audit_writer", "airgate_audit", port))
    [found] = [stored.event for stored in store.events(model=odd)]
    task = TaskRef(dag_id=odd, run_id=odd, task_id=odd, map_index=3, try_number=1)
    assert (found.kind, found.version, found.task, found.recovered, found.source) == ("task.failed", odd, task, True, "sweep")
    assert store.verify().ok


@pytest.mark.parametrize("kind", ["audit.erased", "audit.hold", "audit.expired"])
def test_what_destroys_is_for_the_owner_to_record(server, kind):
    connection = connect(server, "audit_writer", "airgate_audit")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match=f"{kind}.*for the log's owner to record"), \
            connection.cursor() as cursor:
        cursor.execute(APPEND, offered(HEAD % "{}", kind=kind))
    connection.close()


@pytest.mark.parametrize("values", [
    "gen_random_uuid(), 'mia', NULL, NULL, NULL", "gen_random_uuid(), 'mia', 'short', NULL, NULL",
    "gen_random_uuid(), NULL, decode(repeat('00', 32), 'hex'), NULL, NULL",
])
def test_a_new_subject_has_a_name_and_a_key(server, values):
    connection = connect(server, "audit_writer", "airgate_audit")
    with pytest.raises(psycopg2.errors.RaiseException, match="a new subject has a name and a key of 32 bytes"), \
            connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO airgate_subjects (id, name, key, hold, erased_at) VALUES ({values})")
    connection.close()


def test_the_function_looks_into_no_schema_of_others(server):
    connection = connect(server, "audit_owner", "airgate_audit")
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosecdef, proconfig FROM pg_proc WHERE proname = 'airgate_append'")
        [(definer, config)] = cursor.fetchall()
    connection.close()
    assert definer
    assert "search_path=pg_catalog, pg_temp" in config
