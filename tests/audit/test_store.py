import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest

from airgate.audit.event import MAX_EVENT_BYTES, Actor, TaskRef, canonical
from airgate.audit.merkle import leaf_hash, root_of
from airgate.audit.store import AuditStore
from airgate.errors import AuditError

WRITERS, EACH = 8, 12


def execute(url, *statements):
    """Run SQL as the owner, past Airgate."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            for statement in statements:
                connection.execute(statement)
    else:
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def test_events_come_back_in_order(store, make):
    events = [make(number) for number in range(5)]
    assert [store.append(event) for event in events] == list(range(5))
    found = store.events()
    assert [stored.event for stored in found] == events
    assert [stored.seq for stored in found] == list(range(5))
    assert store.head() == (5, root_of(stored.leaf_hash for stored in found))
    assert store.get(events[3].event_id) == found[3]
    assert store.get(uuid4()) is None


def test_an_empty_log_verifies(store):
    assert store.verify().line() == "integrity: ok"
    assert store.head() == (0, root_of([]))
    assert store.events() == []
    assert store.append_many([]) == []


def test_filters(store, make):
    task = TaskRef(dag_id="other", run_id="r1", task_id="t1", try_number=1)
    store.append_many([
        make(0, model="a"), make(1, model="b"), make(2, "task.failed", model="a"), make(3, task=task, model="a"),
    ])

    def seqs(**wanted):
        return [stored.seq for stored in store.events(**wanted)]

    assert seqs(model="a") == [0, 2, 3]
    assert seqs(model="a", newest_first=True, limit=2) == [3, 2]
    assert seqs(kind="task.failed") == [2]
    assert seqs(dag_id="d", run_id="r1") == [1]
    assert seqs(dag_id="other") == seqs(task_id="t1", after=1) == [3]
    assert seqs(after=0, before=3) == [1, 2]
    assert seqs(model="nobody' OR 1=1") == []


def test_any_text_and_number_is_kept(store, make):
    body = {"text": "grüß 😀 \x00 \u2028", "nan": float("nan"), "large": 1e300, "exact": 2**53 - 1, "€": [None, True]}
    event = make(1, body=body, model="modèle", task=TaskRef(dag_id="d 'x\"%s", run_id="ü", task_id="t", try_number=0))
    store.append(event)
    assert canonical(store.events(model="modèle")[0].event) == canonical(event)
    assert store.verify().ok


def test_the_largest_event_fits(store, make):
    event = make(1, body={"a": "x" * (MAX_EVENT_BYTES - 600)})
    store.append(event)
    assert store.get(event.event_id).event == event
    with pytest.raises(AuditError, match="64 KiB"):
        store.append(make(2, body={"a": "x" * MAX_EVENT_BYTES}))
    assert store.head()[0] == 1


def test_the_same_event_again_changes_nothing(store, make):
    assert [store.append(make(0)), store.append(make(1)), store.append(make(0))] == [0, 1, 0]
    assert store.append_many([make(1), make(2), make(2), make(0)]) == [1, 2, 2, 0]
    assert store.head()[0] == 3
    assert store.verify().ok


def test_a_contradiction_is_refused_and_raises_an_alarm(store, make):
    store.append(make(0))
    for _ in range(2):
        with pytest.raises(AuditError, match=r"recorded as number 0 with other content; the record stays"):
            store.append(make(0, body={"forged": True}))
    alarms = store.events(kind="audit.alarm")
    assert len(alarms) == 1
    assert alarms[0].event.body["event_id"] == str(make(0).event_id)
    assert alarms[0].event.task == make(0).task
    assert store.events()[0].event == make(0)
    assert store.verify().ok


def test_a_contradiction_in_a_batch_takes_the_batch_down(store, make):
    store.append(make(0))
    with pytest.raises(AuditError, match="other content"):
        store.append_many([make(1), make(0, body={})])
    assert [stored.event.kind for stored in store.events()] == ["task.succeeded", "audit.alarm"]
    with pytest.raises(AuditError, match="other content"):
        store.append_many([make(5), make(5, body={})])
    assert store.get(make(5).event_id) is None


def test_who_comes_second_may_leave_the_first_word(store, make):
    store.append(make(0))
    assert store.append_if_absent(make(0, body={"poorer": True})) == 0
    assert store.append_if_absent(make(1)) == 1
    assert store.events(kind="audit.alarm") == []
    assert store.get(make(0).event_id).event == make(0)


def test_a_large_batch(store, make):
    events = [make(number) for number in range(1200)]
    assert store.append_many(events) == list(range(1200))
    assert store.append_many(events[::-1]) == list(range(1200))[::-1]
    assert store.verify().ok


def _write(url, writer, make):
    log = AuditStore(url, timeout=30)
    log.create()
    seqs = [log.append(make(writer * 1000 + number)) for number in range(EACH)]
    log.append_if_absent(make(77))
    return seqs


def _child(url, writer, make):
    _write(url, writer, make)


def test_processes_that_create_and_append_at_once_leave_no_gap(url, make):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_child, args=(url, writer, make)) for writer in range(1, WRITERS + 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * WRITERS
    _no_gap_no_double(url)


def test_threads_that_append_at_once_leave_no_gap(url, make):
    AuditStore(url).create()
    with ThreadPoolExecutor(WRITERS) as pool:
        written = list(pool.map(lambda writer: _write(url, writer, make), range(1, WRITERS + 1)))
    assert all(seqs == sorted(seqs) for seqs in written)
    _no_gap_no_double(url)


def _no_gap_no_double(url):
    log = AuditStore(url)
    found = log.events()
    assert [stored.seq for stored in found] == list(range(WRITERS * EACH + 1))
    assert len({stored.event.event_id for stored in found}) == len(found)
    assert log.verify().ok


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE airgate_events SET kind = 'x'", "DELETE FROM airgate_events", "UPDATE airgate_head SET size = size - 1",
        "DELETE FROM airgate_head", "TRUNCATE airgate_events", "TRUNCATE airgate_head",
        "SET session_replication_role = replica; DELETE FROM airgate_events",
        "INSERT OR REPLACE INTO airgate_events SELECT * FROM airgate_events",
        "INSERT OR REPLACE INTO airgate_head SELECT 1, 0, root, frontier FROM airgate_head",
        "INSERT INTO airgate_events SELECT * FROM airgate_events WHERE true "
        "ON CONFLICT (seq) DO UPDATE SET kind = 'x'",
    ],
)
def test_the_tables_refuse_to_be_rewritten(store, url, make, statement):
    store.append(make(0))
    sqlite = url.startswith("sqlite")
    if sqlite and ("TRUNCATE" in statement or "replication" in statement):
        pytest.skip("PostgreSQL's words")
    if not sqlite and "REPLACE" in statement:
        pytest.skip("SQLite's words")
    refusals = (sqlite3.IntegrityError, psycopg2.errors.RaiseException)
    with pytest.raises(refusals, match="refused: the audit log is append-only"):
        execute(url, statement)
    assert store.verify().ok
    store.append(make(1))


def test_creating_twice_keeps_what_is_there(store, make):
    store.append(make(0))
    store.create()
    assert store.head()[0] == 1


def test_a_schema_of_another_version_is_left_alone(store, url):
    execute(url, "UPDATE airgate_audit_version SET version_num = '9999'")
    with pytest.raises(AuditError, match="the audit schema has version 9999; this Airgate knows up to 0002"):
        store.create()


def test_a_log_that_was_not_created_says_so(url, make):
    for use in (lambda log: log.append(make(0)), AuditStore.head, AuditStore.verify, AuditStore.events):
        with pytest.raises(AuditError, match=r"there is no audit log at .*; create it with `airgate audit create`"):
            use(AuditStore(url))


def test_verify_reads_one_snapshot_while_others_append(store, make):
    store.append_many([make(number) for number in range(600)])
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(lambda: [store.append(make(1000 + number)) for number in range(20)])
        assert all(store.verify().ok for _ in range(5))
        writing.result()


def test_a_leaf_is_given_in_its_exact_bytes(store, make):
    event = make(1, actor=Actor(kind="user", name="ana"))
    store.append_many([make(0), event])
    seq, entry = store.entry(event.event_id)
    assert (seq, leaf_hash(entry)) == (1, store.events()[1].leaf_hash)
    assert b"ana" not in entry, "names stay sealed"
    assert store.entry(uuid4()) is None
