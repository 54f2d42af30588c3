"""A log of release 0.1.0 is upgraded, keeps every byte and goes on."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from tests.audit.conftest import MOMENT, make_event, superuser

from airgate.audit.entry import entry_bytes
from airgate.audit.event import canonical, time_text
from airgate.audit.merkle import Frontier, leaf_hash, root_of
from airgate.audit.schema import METADATA
from airgate.audit.store import AuditStore
from airgate.errors import AuditError

GOLDEN = Path(__file__).parents[1] / "golden"
SIZE = 37
ROOTS = {"sqlite": "547831ee9f9798f0c80c5bb4fcb1f91ea53458cb3519a7965f641b05ff9d7ebc",
         "postgresql": "a9ac65851f349b263907fef45b6c4fed5d01996f54708c993a7ed92bd11a8376"}
COLUMNS = "seq, event_id, kind, dag_id, run_id, task_id, map_index, try_number, occurred_at, stored_at, leaf_hash, entry"


@pytest.fixture
def old(url):
    """The database as release 0.1.0 left it."""
    dump = (GOLDEN / f"audit_log_0_1_0.{url.partition(':')[0]}.sql").read_text(encoding="utf-8")
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(dump)
    else:
        superuser(url, dump)
    return AuditStore(url)


def test_a_log_of_the_first_release_goes_on(old, make):
    old.create()
    size, root = old.head()
    assert (size, root.hex()) == (SIZE, ROOTS[old.database.dialect])
    assert old.verify().line() == "integrity: ok"
    found = old.events()
    assert {stored.event.schema_version for stored in found} == {1}
    assert found[36].event.actor.name == "ana"
    assert found[0].event.body["text"] == "grüß 😀 \x00"
    assert old.append(found[5].event) == 5  # the same event, in the form of its release
    assert old.append(make(99)) == SIZE
    proof = old.consistency_proof(SIZE, SIZE + 1)
    assert len(proof) > 0
    assert old.verify().ok


def test_twice_is_once(old):
    old.create()
    old.create()
    assert old.head()[0] == SIZE


def test_what_came_before_the_upgrade_is_protected_after_it(old, url):
    old.create()
    for statement in ("UPDATE airgate_events SET kind = 'x'", "DELETE FROM airgate_events", "DELETE FROM airgate_head",
                      "UPDATE airgate_events SET entry = NULL, leaf_hash = entry"):
        with pytest.raises(AuditError, match="refused: the audit log is append-only"):
            old.database.transact(lambda connection, sql=statement: connection.execute(text(sql)), write=True)


def test_subtrees_of_a_large_old_log_are_stored(old, make):
    """300 more events in the old tables, as the old code wrote them."""
    leaves, rows = [], []
    for seq in range(SIZE, SIZE + 300):
        event = make_event(seq).model_copy(update={"schema_version": 1})
        entry = entry_bytes(canonical(event), seq, time_text(MOMENT))
        task = event.task
        rows.append(dict(zip(COLUMNS.split(", "), (
            seq, str(event.event_id), event.kind, task.dag_id, task.run_id, task.task_id, -1, 1, time_text(MOMENT),
            time_text(MOMENT), leaf_hash(entry), entry), strict=True)))

    def work(connection):
        leaves.extend(bytes(row[0]) for row in connection.exec_driver_sql("SELECT leaf_hash FROM airgate_events ORDER BY seq"))
        tree = Frontier()
        for leaf in [*leaves, *(row["leaf_hash"] for row in rows)]:
            tree.append(leaf)
        places = ", ".join(f":{name}" for name in COLUMNS.split(", "))
        connection.execute(text(f"INSERT INTO airgate_events ({COLUMNS}) VALUES ({places})"), rows)
        connection.execute(text("UPDATE airgate_head SET size = :size, root = :root, frontier = :frontier"),
                           {"size": tree.size, "root": tree.root(), "frontier": tree.to_bytes()})

    old.database.transact(work, write=True)
    old.create()
    assert old.verify().line() == "integrity: ok"
    leaves = [stored.leaf_hash for stored in old.events()]
    assert old.root_at(300) == root_of(leaves[:300])


def test_a_new_log_and_an_upgraded_one_have_the_same_tables(old, made_once):
    old.create()
    for log in (old, *map(AuditStore, made_once.values())):
        found = log.database.transact(
            lambda connection: {name: {column["name"] for column in inspect(connection).get_columns(name)}
                                for name in METADATA.tables}, write=False)
        assert found == {name: set(table.columns.keys()) for name, table in METADATA.tables.items()}
