"""Somebody with the owner's rights changes the log behind its triggers; `verify` says where."""

import sqlite3
from contextlib import closing

import psycopg2
import pytest

from airgate.audit.entry import entry_bytes
from airgate.audit.event import canonical, time_text
from airgate.audit.merkle import Frontier, leaf_hash
from airgate.audit.schema import EVENTS

SIZE = 10
COLUMNS = list(EVENTS.c.keys())
INSERT = (
    f"INSERT INTO airgate_events ({', '.join(COLUMNS)}) "
    f"SELECT ?, '00000000-0000-0000-0000-000000000000', {', '.join(COLUMNS[2:])} "
    "FROM airgate_events WHERE seq = 1"
)


class Owner:
    """A session with every right and the triggers off."""

    def __init__(self, url):
        self.url = url
        self.sqlite = url.startswith("sqlite")

    def do(self, statement, *values):
        with closing(self._connect()) as connection:
            cursor = connection.cursor()
            if self.sqlite:
                for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                    cursor.execute(f"DROP TRIGGER {name}")
            else:
                for table in ("airgate_events", "airgate_head"):
                    cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            cursor.execute(statement if self.sqlite else statement.replace("?", "%s"), values)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
        return [[bytes(cell) if isinstance(cell, memoryview) else cell for cell in row] for row in rows]

    def _connect(self):
        return sqlite3.connect(self.url.removeprefix("sqlite:///")) if self.sqlite else psycopg2.connect(self.url)

    def entry(self, seq):
        return self.do("SELECT entry FROM airgate_events WHERE seq = ?", seq)[0][0]


@pytest.fixture
def owner(store, url, make):
    store.append_many([make(number, body={"number": number, "score": 0.5}) for number in range(SIZE)])
    return Owner(url)


def edit_a_byte(owner, make):
    owner.do("UPDATE airgate_events SET entry = ? WHERE seq = 4", owner.entry(4).replace(b"0.5", b"0.9"))
    return 4, "its bytes do not have the hash that was recorded"


def edit_a_byte_and_its_hash(owner, make):
    entry = owner.entry(4).replace(b"0.5", b"0.9")
    owner.do("UPDATE airgate_events SET entry = ?, leaf_hash = ? WHERE seq = 4", entry, leaf_hash(entry))
    return None, "the tree of the 10 events has root"


def edit_a_column(owner, make):
    owner.do("UPDATE airgate_events SET kind = 'task.failed', model = 'x' WHERE seq = 7")
    return 7, "its bytes and its columns differ in: kind, model"


def edit_the_time_of_storage(owner, make):
    owner.do("UPDATE airgate_events SET stored_at = '2020-01-01T00:00:00.000000Z' WHERE seq = 2")
    return 2, "its bytes and its columns differ in: stored_at"


def edit_a_hash(owner, make):
    owner.do("UPDATE airgate_events SET leaf_hash = ? WHERE seq = 0", b"\0" * 32)
    return 0, "its bytes do not have the hash that was recorded"


def put_no_json(owner, make):
    owner.do("UPDATE airgate_events SET entry = ?, leaf_hash = ? WHERE seq = 3", b"{", leaf_hash(b"{"))
    return 3, "its bytes are not an entry"


def delete_a_row(owner, make):
    owner.do("DELETE FROM airgate_events WHERE seq = 5")
    return 5, "it is missing; the next event is 6"


def delete_a_row_and_close_the_gap(owner, make):
    owner.do("DELETE FROM airgate_events WHERE seq = 5")
    owner.do("UPDATE airgate_events SET seq = 5 WHERE seq = 9")
    return 5, "its bytes and its columns differ in: seq"


def swap_two(owner, make):
    second, third = owner.entry(2), owner.entry(3)
    for seq, entry in ((2, third), (3, second)):
        owner.do("UPDATE airgate_events SET entry = ?, leaf_hash = ? WHERE seq = ?", entry, leaf_hash(entry), seq)
    return 2, "its bytes and its columns differ in: event_id, run_id, seq, task_id"


def insert_at_the_end(owner, make):
    owner.do(INSERT, 10)
    return 10, "it is not counted by the head, which counts 10 events"


def insert_before_the_start(owner, make):
    owner.do(INSERT, -1)
    return -1, "there is an event -1 outside the order"


def cut_the_tail(owner, make):
    owner.do("DELETE FROM airgate_events WHERE seq >= 8")
    return 8, "the log ends here, the head counts 10 events: 2 are missing"


def empty_the_log(owner, make):
    owner.do("DELETE FROM airgate_events")
    return 0, "the log ends here, the head counts 10 events: 10 are missing"


def set_the_head_back(owner, make):
    owner.do("DELETE FROM airgate_events WHERE seq >= 8")
    owner.do("UPDATE airgate_head SET size = 8")
    return None, "the tree of the 8 events has root"


def change_the_root(owner, make):
    owner.do("UPDATE airgate_head SET root = ?", b"\1" * 32)
    return None, "the head says 0101"


def change_the_frontier(owner, make):
    owner.do("UPDATE airgate_head SET frontier = ?", b"\1" * 64)
    return None, "the head's frontier does not belong to its root"


def forge_an_event(owner, make):
    stored_at = owner.do("SELECT stored_at FROM airgate_events WHERE seq = 6")[0][0]
    event = make(6, body={"forged": True})
    entry = entry_bytes(canonical(event), 6, stored_at)
    owner.do("UPDATE airgate_events SET entry = ?, leaf_hash = ? WHERE seq = 6", entry, leaf_hash(entry))
    return None, "the tree of the 10 events has root"


ATTACKS = [
    edit_a_byte, edit_a_byte_and_its_hash, edit_a_column, edit_the_time_of_storage, edit_a_hash, put_no_json,
    delete_a_row, delete_a_row_and_close_the_gap, swap_two, insert_at_the_end, insert_before_the_start, cut_the_tail,
    empty_the_log, set_the_head_back, change_the_root, change_the_frontier, forge_an_event,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_tampering_is_found(store, owner, make, attack):
    assert store.verify().ok
    place, reason = attack(owner, make)
    report = store.verify()
    assert not report.ok
    assert report.first_bad == place
    assert reason in report.reason
    assert report.line().startswith("integrity: TAMPERED " + ("" if place is None else f"at event {place}: "))


def test_a_log_without_its_head_is_refused(store, owner):
    owner.do("DELETE FROM airgate_head")
    with pytest.raises(Exception, match="the audit log's head row is gone"):
        store.verify()


def test_whoever_rebuilds_everything_is_not_found_by_the_log_alone(store, owner, make):
    """The limit of this verdict, written down: it takes checkpoints kept elsewhere to find this one."""
    tree = Frontier()
    for stored in store.events():
        event = stored.event.model_copy(update={"body": {"forged": True}})
        entry = entry_bytes(canonical(event), stored.seq, time_text(stored.stored_at))
        tree.append(leaf_hash(entry))
        owner.do("UPDATE airgate_events SET entry = ?, leaf_hash = ? WHERE seq = ?", entry, leaf_hash(entry), stored.seq)
    owner.do("UPDATE airgate_head SET root = ?, frontier = ?", tree.root(), tree.to_bytes())
    assert store.verify().ok


def test_unreadable_bytes_say_what_to_do(store, owner):
    owner.do("UPDATE airgate_events SET entry = ? WHERE seq = 3", b"{")
    with pytest.raises(Exception, match=r"event 3 cannot be read: .*Run `airgate audit verify`"):
        store.events()
