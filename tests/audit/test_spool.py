"""The spool on a real disk, drained into a real log by processes that are killed at the points where it matters."""

import json
import os
import resource
import signal
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from tests.audit.conftest import MOMENT, make_event

from airgate.audit.event import Actor, canonical
from airgate.audit.spool import DECISIONS, DrainReport, Spool
from airgate.audit.store import AuditStore
from airgate.errors import AuditError


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "home" / "spool")


@pytest.fixture
def log(tmp_path):
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


def failed(number=0, **fields):
    return make_event(number, "task.failed", **fields)


def files(spool):
    return sorted(path.name for path in spool.folder.iterdir())


def in_a_process(work):
    """Run `work` in a process of its own; give the signal that ended it, 0 if none did."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def killed_before(what, work):
    """Run `work` in a process that is killed just before it does what the interpreter calls `what` (PEP 578)."""

    def run():
        sys.addaudithook(lambda name, _: os.kill(os.getpid(), signal.SIGKILL) if name == what else None)
        work()

    assert in_a_process(run) == signal.SIGKILL


class Breaking:
    """A log that goes down after some events."""

    def __init__(self, log, after):
        self.log, self.after = log, after

    def append_if_absent(self, event):
        self.head()
        self.after -= 1
        return self.log.append_if_absent(event)

    def head(self):
        if self.after == 0:
            raise AuditError("the audit store went away")
        return self.log.head()


def test_what_is_kept_reaches_the_log_as_it_was(spool, store):
    event = failed(1, body={"n": float("nan"), "user_id": "7", "big": 1e20}, personal={"user_id": "ana"}, model="heart")
    spool.put(event)
    assert not spool.is_empty()
    assert spool.drain(store) == DrainReport(recorded=1)
    assert spool.is_empty() and files(spool) == []
    [stored] = store.events()
    assert canonical(stored.event) == canonical(event) and stored.event.personal == {"user_id": "ana"}
    assert (stored.event.occurred_at, stored.event.recovered) == (MOMENT, False)
    assert b'"7"' not in stored.entry and b"ana" not in stored.entry
    assert store.verify().ok


def test_only_the_owner_can_read_it(spool):
    spool.put(failed())
    [path] = spool.folder.iterdir()
    assert path.name == f"{failed().event_id}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert json.loads(path.read_bytes()) == {"event": json.loads(canonical(failed())), "personal": {}}


def test_a_spool_that_was_never_needed_is_empty_and_not_made(spool, log):
    assert spool.is_empty() and spool.drain(log) == DrainReport()
    assert not spool.folder.exists()


def test_the_oldest_event_goes_first_whatever_was_written_first(spool, log):
    for number in (3, 1, 2):
        spool.put(failed(number, occurred_at=MOMENT + timedelta(seconds=number)))
    assert spool.drain(log).recorded == 3
    assert [stored.event.body["number"] for stored in log.events()] == [1, 2, 3]


def test_the_first_word_stands(spool, log):
    spool.put(failed(body={"said": "first"}))
    spool.put(failed(body={"said": "second"}))
    assert spool.drain(log) == DrainReport(recorded=1)
    assert log.events()[0].event.body == {"said": "first"}


def test_what_the_log_has_already_is_not_recorded_twice(spool, log):
    log.append(failed(body={"said": "by a callback"}))
    spool.put(failed(body={"said": "by the spool"}))
    assert spool.drain(log) == DrainReport(recorded=1)
    assert [stored.event.body for stored in log.events()] == [{"said": "by a callback"}]


def test_at_most_so_many_are_drained(spool, log):
    for number in range(5):
        spool.put(failed(number))
    assert spool.drain(log, limit=2) == DrainReport(recorded=2, left=3)
    assert spool.drain(log) == DrainReport(recorded=3)


def test_a_log_that_goes_down_half_way_leaves_the_rest(spool, log):
    for number in range(5):
        spool.put(failed(number))
    report = spool.drain(Breaking(log, after=2))
    assert report == DrainReport(recorded=2, left=3, error="the audit store went away")
    assert report.line() == "2 events of the spool recorded, 3 left: the audit store went away"
    assert log.head()[0] == 2 and len(files(spool)) == 3
    assert spool.drain(log).recorded == 3
    assert log.head()[0] == 5


def test_one_event_that_the_log_refuses_keeps_no_other_waiting(spool, log):
    import sqlite3

    with sqlite3.connect(log.where) as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON airgate_events WHEN NEW.task_id = 't1' "
                           "BEGIN SELECT RAISE(ABORT, 'not this one'); END")
    connection.close()
    for number in range(3):
        spool.put(failed(number))
    report = spool.drain(log)
    assert (report.recorded, report.left) == (2, 1) and "not this one" in report.error
    assert [stored.event.body["number"] for stored in log.events()] == [0, 2]
    assert files(spool) == [f"{failed(1).event_id}.json"]


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("notes.txt", b"my password is hunter2", "not an event"),
    (f"{failed(7).event_id}.json", b"", "not an event"),
    (f"{failed(7).event_id}.json", b'{"event":' + canonical(failed(7))[:-9], "not an event"),
    (f"{failed(7).event_id}.json", canonical(failed(7)), "not an event"),
    (f"{failed(7).event_id}.json", b'{"event":%b,"personal":{"no.where":"ana"}}' % canonical(failed(7)), "not an event"),
    (f"{failed(7).event_id}.json", b"[" * 5000, "not an event"),
    (f"{failed(7).event_id}.json", b'{"event":{"body":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b'},"personal":{}}',
     "not an event"),
    (f"{failed(8).event_id}.json", b'{"event":%b,"personal":{}}' % canonical(failed(7)), "not named after its event"),
    (f"{failed(7).event_id}.json", b" " * (1024 * 1024 + 1), "too long for an event"),
    ("caf\udce9.json", b"", "not an event"),
])
def test_a_foreign_file_is_set_aside_and_on_record_and_blocks_nobody(spool, log, name, content, reason):
    spool.put(failed(1))
    (spool.folder / name).write_bytes(content)
    report = spool.drain(log)
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert (report.recorded, report.aside, report.left) == (1, [shown], 0)
    assert report.line() == f"1 events of the spool recorded, 1 files set aside: {shown}"
    [aside] = spool.folder.iterdir()
    assert aside.name.startswith(name) and aside.name.endswith(".bad") and aside.read_bytes() == content
    [alarm] = log.events(kind="audit.alarm")
    assert {key: alarm.event.body[key] for key in ("alarm", "file", "reason")} == {
        "alarm": "spool", "file": shown, "reason": reason}
    assert b"hunter2" not in alarm.entry
    assert spool.is_empty() and spool.drain(log) == DrainReport()
    assert log.head()[0] == 2


@pytest.mark.parametrize("make", [
    lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_is_not_opened(spool, log, make):
    spool.put(failed(1))
    make(spool.folder / f"{failed(2).event_id}.json")
    assert (spool.drain(log).recorded, log.events(kind="audit.alarm")[0].event.body["reason"]) == (1, "not a file")


def test_a_file_that_the_log_has_no_alarm_of_is_not_set_aside(spool, log):
    spool.put(failed(1))
    (spool.folder / "notes.txt").write_text("x")
    report = spool.drain(Breaking(log, after=0))
    assert (report.recorded, report.aside, report.left) == (0, [], 2)
    assert "notes.txt" in files(spool)


@pytest.mark.parametrize("kind", [*DECISIONS, "task.succeeded"])
def test_a_decision_and_a_steps_success_are_neither_kept_nor_believed(spool, log, kind):
    event = make_event(1, kind)
    with pytest.raises(AuditError, match=rf"event {event.event_id} \({kind}\) was not kept for later: a (decision|step) that"):
        spool.put(event)
    spool.folder.mkdir(parents=True)
    (spool.folder / f"{event.event_id}.json").write_bytes(b'{"event":%b,"personal":{}}' % canonical(event))
    assert spool.drain(log).aside == [f"{event.event_id}.json"]
    assert [stored.event.kind for stored in log.events()] == ["audit.alarm"]


def test_an_event_without_a_canonical_form_is_not_kept(spool):
    with pytest.raises(AuditError, match="body.n is 9007199254740993"):
        spool.put(failed(body={"n": 2**53 + 1}))
    assert spool.is_empty()


@pytest.mark.parametrize("place", ["file/spool", "/proc/airgate-spool"])
def test_a_folder_that_takes_no_file_is_named(tmp_path, place):
    (tmp_path / "file").write_text("")
    folder = tmp_path / place
    with pytest.raises(AuditError, match=rf"the audit spool {folder} cannot keep an event: .*\(AIRGATE_AUDIT_SPOOL\)"):
        Spool(folder).put(failed())


def test_a_folder_that_is_a_file_cannot_be_drained(tmp_path, log):
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file")
    assert not spool.is_empty()
    with pytest.raises(AuditError, match="file cannot be drained: Not a directory. It must be a folder that Airflow's user"):
        spool.drain(log)


def test_a_full_disk_leaves_no_half_file(spool, tmp_path):
    spool.put(failed(1))

    def put():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            spool.put(failed(2))
        except AuditError as error:
            os.close(os.open(tmp_path / ("said" if "cannot keep an event: File too large" in str(error) else "odd"), os.O_CREAT))

    assert in_a_process(put) == 0
    assert (tmp_path / "said").exists()
    assert files(spool) == [f"{failed(1).event_id}.json"]


def test_killed_while_it_keeps_an_event_there_is_no_half_event(spool, log):
    spool.put(failed(1))
    killed_before("os.rename", lambda: spool.put(failed(2)))
    assert spool.drain(log) == DrainReport(recorded=1)
    assert log.head()[0] == 1


def test_what_a_killed_process_had_written_whole_is_recorded_after_an_hour(spool, log):
    spool.put(failed(1))
    killed_before("os.rename", lambda: spool.put(failed(2)))
    [partial] = spool.folder.glob("*.tmp")
    spool.drain(log)
    assert partial.exists() and spool.is_empty()
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    os.utime(partial, (long_ago, long_ago))
    assert spool.drain(log) == DrainReport(recorded=1)
    assert files(spool) == [] and log.head()[0] == 2


def test_killed_between_record_and_deletion_it_is_not_recorded_twice(spool, log):
    for number in range(3):
        spool.put(failed(number))
    killed_before("os.remove", lambda: spool.drain(log))
    assert log.head()[0] == 1 and len(files(spool)) == 3
    assert spool.drain(log).recorded == 3
    assert log.head()[0] == 3 and log.verify().ok


def test_killed_before_the_record_it_is_still_there(spool, log):
    spool.put(failed(1))
    killed_before("sqlite3.connect", lambda: spool.drain(log))
    assert log.head()[0] == 0 and len(files(spool)) == 1
    assert spool.drain(log).recorded == 1


def test_killed_between_alarm_and_setting_aside_there_is_one_alarm(spool, log):
    spool.folder.mkdir(parents=True)
    (spool.folder / "notes.txt").write_text("x")
    killed_before("os.rename", lambda: spool.drain(log))
    assert files(spool) == ["notes.txt"] and log.head()[0] == 1
    assert spool.drain(log).aside == ["notes.txt"]
    assert log.head()[0] == 1


def test_many_may_drain_at_once(spool, log):
    events = [failed(number) for number in range(40)]
    for event in events:
        spool.put(event)
    Path(spool.folder / "notes.txt").write_text("x")
    reports = []
    drainers = [Thread(target=lambda: reports.append(spool.drain(log))) for _ in range(4)]
    for drainer in drainers:
        drainer.start()
    for drainer in drainers:
        drainer.join()
    assert len(reports) == 4 and {report.left for report in reports} == {0}
    assert sum(len(report.aside) for report in reports) == 1
    assert {stored.event.event_id for stored in log.events(kind="task.failed")} == {event.event_id for event in events}
    assert log.head()[0] == 41 and log.verify().ok and spool.is_empty()


def test_an_alarm_has_no_person_for_its_actor(spool, log):
    spool.folder.mkdir(parents=True)
    (spool.folder / "x").write_text("")
    spool.drain(log)
    assert log.events()[0].event.actor == Actor(kind="system", name="audit spool")
