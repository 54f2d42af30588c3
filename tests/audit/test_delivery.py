"""Delivering to a log that is up, down, and up again."""

import sqlite3
from contextlib import closing

import pytest
from tests.audit.conftest import make_event

from airgate.audit.delivery import AT_ONCE, Delivery, NotRecorded
from airgate.audit.spool import Spool
from airgate.audit.store import AuditStore
from airgate.errors import AuditError

NOWHERE = "postgresql://ana:s3cret@127.0.0.1:1/audit"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def failed(number=0, **fields):
    return make_event(number, "task.failed", **fields)


def test_a_log_that_is_up_needs_no_spool(url, store, folder):
    delivery = Delivery(url, folder)
    assert delivery.append_if_absent(failed(0)) == 0
    assert delivery.append_many([failed(1), failed(2)]) == [1, 2]
    assert delivery.append_if_absent(failed(1, body={"other": "words"})) == 1
    assert not folder.exists()


@pytest.mark.parametrize(("wrong", "reason"), [
    (NOWHERE, "the audit store at 127.0.0.1:1/audit failed: .*"), ("mysql://h/d", "the audit URL names the database 'mysql'.*"),
    ("sqlite:////nowhere/audit.db", "there is no audit log at /nowhere/audit.db.*"),
])
def test_what_a_log_cannot_take_waits_in_the_spool_and_the_caller_knows(wrong, reason, folder, store):
    with pytest.raises(NotRecorded, match=rf"(?s){reason}\. It waits in the spool {folder} and is recorded when the log") as e:
        Delivery(wrong, folder).append_many([failed(1), failed(2)])
    assert "s3cret" not in str(e.value)
    assert Spool(folder).drain(store).recorded == 2


def test_the_next_success_drains_the_spool(url, store, folder):
    for number in (1, 2):
        with pytest.raises(NotRecorded):
            Delivery(NOWHERE, folder).append_if_absent(failed(number))
    assert Delivery(url, folder).append_if_absent(failed(3)) == 0
    assert {stored.event.body["number"] for stored in store.events()} == {1, 2, 3}
    assert Spool(folder).is_empty()


def test_one_delivery_does_not_wait_for_a_whole_outage(tmp_path, folder):
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    for number in range(AT_ONCE + 5):
        Spool(folder).put(failed(number))
    Delivery(f"sqlite:///{tmp_path}/audit.db", folder).append_if_absent(failed(1000))
    assert store.head()[0] == AT_ONCE + 1


def test_a_spool_that_cannot_be_drained_fails_nothing(url, store, folder, caplog):
    folder.write_text("not a folder")
    assert Delivery(url, folder).append_if_absent(failed(1)) == 0
    assert "the audit spool" in caplog.text and "cannot be drained: Not a directory" in caplog.text


def test_neither_recorded_nor_kept_says_both(folder):
    folder.write_text("not a folder")
    with pytest.raises(AuditError, match=r"(?s)no audit log at /nowhere/a.db.*; the audit spool .* cannot keep an event: ") as e:
        Delivery("sqlite:////nowhere/a.db", folder).append_if_absent(failed(1))
    assert not isinstance(e.value, NotRecorded)


def test_an_event_without_a_canonical_form_does_not_take_others_with_it(url, store, folder):
    with pytest.raises(AuditError, match=r"^body.n is \S+; JSON numbers are exact up to 2\^53 - 1 only: write it as a string$"):
        Delivery(url, folder).append_many([failed(1, body={"n": 2**53}), failed(2)])
    assert Spool(folder).drain(store).recorded == 1


def test_stopped_while_it_waits_the_event_is_kept(folder, tmp_path):
    class Stopped(BaseException):
        pass

    class Waiting(Delivery):
        def _store(self, patience):
            raise Stopped

    with pytest.raises(Stopped):
        Waiting(NOWHERE, folder).append_if_absent(failed(1))
    assert not Spool(folder).is_empty()


def test_a_patient_delivery_outlives_an_outage(tmp_path, folder):
    """The log is locked by somebody else for longer than a connection waits, and then is free."""
    import threading

    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    delivery = Delivery(f"sqlite:///{tmp_path}/audit.db", folder, patience=60.0, timeout=0.01)
    with closing(sqlite3.connect(store.where, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, other.rollback)
        release.start()
        assert delivery.append_if_absent(failed(1)) == 0
        release.join()
    assert not folder.exists()
