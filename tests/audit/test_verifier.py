"""The standalone verifier on real exports: what it says of honest ones, of hostile ones, and in which words."""

import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audit import second_verifier
from tests.audit.accounts import NOW, Airflow, ended
from tests.audit.conftest import MOMENT, make_event
from tests.audit.under_attack import InDatabase, InFolder, note_by

from airgate.audit import checkpoints, merkle, retention, signing, verifier
from airgate.audit.completeness import TaskTry
from airgate.audit.event import CodeRef, TaskRef, event_id_for, time_text
from airgate.audit.export import export
from airgate.audit.runs import run_ended
from airgate.audit.store import AuditStore

NAME = "audit.example.org/airgate"
KEY = signing.signer_of(Ed25519PrivateKey.from_private_bytes(b"k" * 32), NAME)
FILE = Path(verifier.__file__)


def new_log(folder):
    log = AuditStore(f"sqlite:///{folder}/audit.db")
    log.create()
    return log


@pytest.fixture
def log(tmp_path):
    return new_log(tmp_path)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """An export of 15 events: checkpoints at 5, 9 and 13."""
    folder = tmp_path_factory.mktemp("honest")
    log = new_log(folder)
    for start in (0, 4, 8):
        log.append_many([make_event(number) for number in range(start, start + 4)])
        checkpoints.checkpoint(log, KEY)
    log.append_many([make_event(number) for number in (50, 51)])
    return export(log, folder / "export", origin=NAME).folder


@pytest.fixture
def folder(honest, tmp_path):
    """A copy of it, to be changed."""
    return _copy(honest, tmp_path / "export")


def _copy(source, target):
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def verdict(folder, *keys, **options):
    return verifier.verify(folder, keys or [KEY.public], **options)


def said(folder, *keys, **options):
    """The words of a verdict, without what differs from run to run."""
    return [line.replace(KEY.public.text(), "KEY").replace(KEY.public.hash.hex(), "HASH")
            for line in verdict(folder, *keys, **options).lines()]


# ---------------------------------------------------------------------------------------------- honest exports


def test_what_is_said_of_an_honest_export(honest, log):
    root = merkle.root_of(InFolder(honest).hashes()).hex()
    ok, unsigned, no_anchor = said(honest)
    assert ok == f"ok: 15 events, root {root}, log {NAME}, signed by {NAME}+HASH"
    assert unsigned == "notice: the 2 events from number 13 on are not signed yet: they came after the newest checkpoint"
    assert no_anchor.startswith("notice: no anchored checkpoint was compared: a log restored from an older state")


def test_without_a_key_it_says_where_it_took_one_from(honest):
    notices = verifier.verify(honest).notices
    assert notices[0].startswith(f"no --key was given, so the key was taken from the export itself ({KEY.public.text()})")


def test_an_empty_log(log, tmp_path):
    export(log, tmp_path / "export", origin=NAME)
    found = verifier.verify(tmp_path / "export")
    assert (found.word, found.text) == ("ok", f"0 events, root {merkle.EMPTY_ROOT.hex()}, log {NAME}")


def test_a_log_that_was_never_signed(log, tmp_path):
    log.append(make_event())
    export(log, tmp_path / "export", origin=NAME)
    assert said(tmp_path / "export")[0] == (
        "tampered: there is no checkpoint, so nothing vouches for the log: they were removed, or it was never signed")


@pytest.mark.parametrize("jobs", [1, 2])
def test_more_than_one_segment(tmp_path, jobs):
    """The log's own shape at the edge of a segment; made without a database, for speed."""
    size = verifier.SEGMENT + 3
    time = b"2025-01-01T00:00:00.000000Z"
    leaves = [b'{"event":{"kind":"x","occurred_at":"%b"},"seq":%d,"stored_at":"%b"}' % (time, seq, time) for seq in range(size)]
    folder = tmp_path / "export"
    (folder / "log").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    for first in (0, verifier.SEGMENT):
        part = slice(first, first + verifier.SEGMENT)
        (folder / "log" / f"{first:020d}.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves[part]))
        (folder / "log" / f"{first:020d}.hashes").write_bytes(b"".join(hashes[part]))
    place, previous = InFolder(folder), None
    sizes = (1, 1000, verifier.SEGMENT - 1, verifier.SEGMENT, verifier.SEGMENT + 1, size)
    for signed in sizes:
        previous = note_by(KEY, leaves[:signed], previous)
        place.put_note(signed, previous)
    place.write_json("manifest.json", {"format": verifier.FORMATS[0], "made_at": "2025-01-01T00:00:00.000000Z", "origin": NAME,
                                       "segment": verifier.SEGMENT, "size": size})
    place.write_json("proofs.json", {"consistency": [
        {"new": new, "old": old, "proof": [node.hex() for node in merkle.consistency_proof(hashes[:new], old)]}
        for old, new in pairwise(sizes)]})
    (folder / "keys.txt").write_bytes(b"")
    done = []
    found = verdict(folder, jobs=jobs, progress=lambda count, of: done.append((count, of)))
    assert (found.word, f"root {merkle.root_of(hashes).hex()}" in found.text) == ("ok", True)
    assert done == [(verifier.SEGMENT, size), (size, size)]
    second = folder / "log" / f"{verifier.SEGMENT:020d}.jsonl"
    second.write_bytes(second.read_bytes().replace(b"2025", b"2024", 1))
    assert verdict(folder, jobs=jobs).first_bad == verifier.SEGMENT


def other_key():
    return signing.signer_of(Ed25519PrivateKey.generate(), NAME)


def test_a_key_that_replaced_another_counts_from_the_next_checkpoint_on(log, tmp_path):
    new = other_key()
    log.append(make_event(0))
    checkpoints.checkpoint(log, KEY)
    checkpoints.rotate(log, KEY, new)
    log.append(make_event(1))
    checkpoints.checkpoint(log, new)
    folder = export(log, tmp_path / "export", origin=NAME).folder
    found = verdict(folder)
    assert found.word == "ok"
    assert found.text.endswith(f"signed by {NAME}+{new.public.hash.hex()}")
    assert ("the log replaced its key, under a checkpoint that both signed; the key that counts at its end: "
            f"{NAME}+{new.public.hash.hex()}") in found.notices
    # The key that came later does not vouch for what was before.
    assert verdict(folder, new.public).text.startswith("the checkpoint at 2 is not signed by a key that is trusted")
    # The key that was replaced may have been stolen.
    place = InFolder(folder)
    place.put_note(4, note_by(KEY, place.leaves(), place.notes()[3]))
    assert verdict(folder).text.startswith("the checkpoint at 4 is not signed by a key that is trusted")
    # One of the two signatures is not enough.
    for alone in (KEY, new):
        place.put_note(3, note_by(alone, place.leaves()[:3], place.notes()[2]))
        place.put_note(4, note_by(new, place.leaves(), place.notes()[3]))
        assert verdict(folder).word == "tampered"


@pytest.mark.parametrize(("replaces", "vkey"), [
    (KEY.public.text(), other_key().public.text()), (None, other_key().public.text()), (other_key().public.text(), "x"),
    ("x", "y"), (None, None), ([], {})], ids=[
        "ours by another", "none by another", "another by nonsense", "nonsense", "nothing", "no texts"])
def test_whoever_appends_a_key_changes_nothing(log, tmp_path, replaces, vkey):
    checkpoints.checkpoint(log, KEY)
    log.append(make_event(0, "audit.key", body={"replaces": replaces, "vkey": vkey}))
    place = InFolder(export(log, tmp_path / "export", origin=NAME).folder)
    place.put_note(2, note_by(KEY, place.leaves(), place.notes()[1]))
    found = verdict(place.folder)
    assert (found.word, found.text.endswith(f"signed by {NAME}+{KEY.public.hash.hex()}")) == ("ok", True)
    assert any("changes nothing" in notice and "number 1" in notice for notice in found.notices)


def test_clocks_are_noticed(log, tmp_path):
    log.append(make_event(0, occurred_at=MOMENT + timedelta(days=100_000)))
    checkpoints.checkpoint(log, KEY)
    found = verdict(export(log, tmp_path / "export", origin=NAME).folder)
    assert found.word == "ok"
    assert any(notice.startswith("clocks: events 0 (by ") and notice.endswith(" s) say that they happened after they were stored")
               for notice in found.notices)


def test_time_stamps_are_left_to_openssl(folder):
    (folder / "receipts" / "tsa").mkdir(parents=True)
    (folder / "receipts" / "tsa" / f"{9:020d}.tsr").write_bytes(b"0")
    assert any(notice.startswith("1 time stamps are there and were not checked here: openssl ts -verify") for notice in
               verdict(folder).notices)


def test_a_time_stamp_of_a_checkpoint_that_is_not_there_is_named(folder):
    (folder / "receipts" / "tsa").mkdir(parents=True)
    (folder / "receipts" / "tsa" / f"{7:020d}.tsr").write_bytes(b"0")
    assert f"of checkpoints that are not there: receipts/tsa/{7:020d}.tsr" in verdict(folder).notices


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 60_000, b"x" * 100_000, b'{"consistency":[{"new":9,"proof":[5]},{}]}'])
def test_proofs_that_are_none_are_named(folder, content):
    """They are for readers without the leaves."""
    (folder / "proofs.json").write_bytes(content)
    words = "proofs.json does not prove each checkpoint to be the beginning of the next: do not hand it on"
    assert words in verdict(folder).notices
    (folder / "proofs.json").unlink()
    assert "proofs.json is missing" in verdict(folder).notices


def test_a_proof_with_another_hash_is_named(folder):
    found = InFolder(folder).read_json("proofs.json")
    found["consistency"][0]["proof"][0] = "0" * 64
    InFolder(folder).write_json("proofs.json", found)
    assert any(notice.startswith("proofs.json does not prove") for notice in verdict(folder).notices)


def test_what_is_no_part_of_an_export_is_named(folder):
    (folder / "my notes.txt").write_text("x")
    (folder / ".hidden").write_text("x")
    assert "files that are no part of an export were passed over: my notes.txt" in verdict(folder).notices


# ---------------------------------------------------------------------------------------------- what differs, in words


@pytest.mark.parametrize(("act", "words"), [
    (lambda place: place.put(6, place.leaves()[6].replace(b"number", b"numbes")),
     f"tampered: at number 6: its bytes do not have the hash that log/{0:020d}.hashes has for it"),
    (lambda place: place.remove(6), "tampered: at number 6: the leaf that stands here says that it is number 7: "
                                    "some are missing, added or in another order"),
    (lambda place: place.lines.write_bytes(place.lines.read_bytes()[:-9]),
     "tampered: at number 14: the file ends in the middle of this leaf"),
    (lambda place: place.cut(14), "tampered: at number 14: the log ends here, the manifest counts 1 more in this file"),
    (lambda place: (place.cut(12), place.agree()),
     "tampered: at number 12: the log ends here, there is a checkpoint of 13 leaves: it was cut"),
    (lambda place: place.put_note(9, note_by(KEY, place.leaves()[:9], None)),
     "tampered: the checkpoint at 9 does not follow the one at 5: one between them is missing, or one was replaced"),
    (lambda place: place.put_note(9, place.notes()[13]),
     f"tampered: the checkpoint checkpoints/{9:020d}.note is one of 13 leaves"),
    (lambda place: place.put_note(9, b"x"), f"tampered: the checkpoint checkpoints/{9:020d}.note cannot be read: it has no "
                                            "signature lines after an empty line, or ends within a line"),
    (lambda place: (place.folder / "manifest.json").write_bytes(b"{}"),
     "tampered: manifest.json is not as section 7 of the format has it"),
])
def test_what_differs_is_said(folder, act, words):
    act(InFolder(folder))
    assert said(folder)[0] == words


def test_a_leaf_and_its_hash_changed_between_two_checkpoints(folder):
    place = InFolder(folder)
    place.put(6, place.leaves()[6].replace(b"number", b"numbes"), hash_too=True)
    assert said(folder)[0].startswith("tampered: between number 5 and number 8: the checkpoint at 9 signed the root ")


def test_a_leaf_changed_alone_between_two_checkpoints_is_named(log, tmp_path):
    checkpoints.checkpoint(log, KEY)
    log.append(make_event(1))
    checkpoints.checkpoint(log, KEY)
    place = InFolder(export(log, tmp_path / "export", origin=NAME).folder)
    place.put(1, place.leaves()[1].replace(b"number", b"numbes"), hash_too=True)
    assert verdict(place.folder).first_bad == 1


def test_an_anchor_tells_of_checkpoints_that_the_export_lacks(folder, honest, tmp_path):
    kept = _copy(honest / "checkpoints", tmp_path / "kept")
    (kept / "README").write_text("not a note")
    assert not any("anchor" in notice for notice in verdict(folder, anchors=[kept]).notices)
    InFolder(folder).drop_note(13)
    InFolder(folder).agree()
    assert verdict(folder).word == "ok"
    assert said(folder, anchors=[kept])[0] == (
        f"tampered: the note of the anchor {kept} at 13 is not among the checkpoints of the export: it was removed or replaced, "
        "or the log was restored from an older state")
    InFolder(folder).cut(9)
    InFolder(folder).agree()
    assert said(folder, anchors=[kept])[0] == (
        f"tampered: at number 9: the log ends here, the anchor {kept} holds a note of 13 leaves: it was cut, or restored from an "
        "older state; or the anchor is newer than the export")


def test_two_logs_under_one_key(folder, tmp_path):
    place = InFolder(folder)
    kept = tmp_path / "kept"
    kept.mkdir()
    other = [*place.leaves()[:8], place.leaves()[2]]
    (kept / f"{9:020d}.note").write_bytes(note_by(KEY, other, place.notes()[5]))
    assert said(folder, anchors=[kept])[0].endswith(
        "and a signed checkpoint of the export agrees with these: there are two logs under one key")


def test_an_empty_anchor_says_nothing(folder, tmp_path):
    (tmp_path / "kept").mkdir()
    found = verdict(folder, anchors=[tmp_path / "kept"])
    assert f"the anchor {tmp_path / 'kept'} holds no notes, so it says nothing" in found.notices


# ---------------------------------------------------------------------------------------------- expired contents


def expired_event(*ranges, months=1):
    return make_event(99, "audit.expired", body={"months": months, "ranges": [list(one) for one in ranges]})


def age(log, days):
    with closing(InDatabase(f"sqlite:///{log.where}")) as place:
        place.age(days)


def test_expired_contents_need_an_event_that_says_so(log, tmp_path):
    log.append_many([make_event(number) for number in range(4)])
    age(log, 40)
    log.append(expired_event((0, 1), (3, 3), (5, 5)))
    log.append(make_event(7))
    checkpoints.checkpoint(log, KEY)
    place = InFolder(export(log, tmp_path / "export", origin=NAME).folder)
    for seq in (0, 1, 3):
        place.put(seq, None)
    found = verdict(place.folder)
    assert found.word == "ok"
    assert ("the contents of 3 events have expired; their hashes are there. They had to be kept for 1 months or longer: so say "
            "the log's audit.expired leaves") in found.notices
    before = place.leaves()
    for seq in (2, 5):  # 5 came after the event that names it
        place.put(seq, None)
        assert said(place.folder)[0] == (
            f"tampered: at number {seq}: its contents are gone and no audit.expired leaf that is signed says so")
        place.put(seq, before[seq])


def test_an_explanation_that_is_not_signed_does_not_count(log, tmp_path):
    log.append_many([make_event(number) for number in range(4)])
    age(log, 40)
    checkpoints.checkpoint(log, KEY)
    log.append(expired_event((2, 2)))
    place = InFolder(export(log, tmp_path / "export", origin=NAME).folder)
    place.put(2, None)
    assert said(place.folder)[0] == (
        "tampered: at number 2: its contents are gone and no audit.expired leaf that is signed says so; one that is not signed "
        "yet does: ask for an export with a newer checkpoint")


@pytest.mark.parametrize("body", [
    {"months": 1, "ranges": None}, {"months": 1, "ranges": 5}, {"months": 1}, {"ranges": [[0, 0]]},
    {"months": 0, "ranges": [[0, 0]]}, {"months": 1201, "ranges": []}, {"months": True, "ranges": []}])
def test_an_announcement_that_cannot_be_read_says_nothing(log, tmp_path, body):
    log.append(make_event(0, "audit.expired", body=body))
    checkpoints.checkpoint(log, KEY)
    found = verdict(export(log, tmp_path / "export", origin=NAME).folder)
    assert found.word == "ok"
    assert "number 0, of kind audit.expired, cannot be read and changes nothing" in found.notices


@pytest.mark.parametrize("ranges", [[[2, 1]], [[0]], [["0", "1"]], [[-1, 3]], [[0, 1.5]], [5], [[True, 1]]])
def test_a_range_that_cannot_be_read_says_nothing_and_its_neighbour_does(ranges):
    assert verifier.Announcement.of(9, {"months": 1, "ranges": [*ranges, [4, 5], [8, 9]]}).spans == [(4, 5)]


@pytest.mark.parametrize(("signed", "months", "limit"), [
    ("2026-03-15", 1, "2026-02-16"), ("2026-03-31", 1, "2026-03-04"), ("2026-01-01", 1, "2025-12-02"),
    ("2026-12-05", 60, "2021-12-06"), ("2024-02-29", 12, "2023-03-02")])
def test_months_back_and_a_day_for_clocks(signed, months, limit):
    time = "T06:07:08.000009Z"
    assert verifier.Announcement(9, months, []).limit(signed + time) == limit + time


@given(st.datetimes(datetime(2001, 1, 1), datetime(2060, 1, 1)), st.timedeltas(timedelta(0), timedelta(99)), st.integers(1, 120))
def test_what_was_due_when_it_was_announced_is_old_enough_when_that_is_signed(now, later, months):
    """A month is counted in two ways; the log's own is the stricter."""
    due = retention._months_before(now.replace(tzinfo=UTC), months)
    assert time_text(due) <= verifier.Announcement(9, months, []).limit(time_text((now + later).replace(tzinfo=UTC)))


def day(number):
    return f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T00:00:00.000000Z"


@given(st.data())
def test_both_verifiers_agree_on_what_may_be_gone(data):
    """Leaves of any time, some without contents, under checkpoints and announcements of any time."""
    size = data.draw(st.integers(2, 12))
    times = [day(data.draw(st.integers(0, 200))) for _ in range(size)]
    gone = data.draw(st.sets(st.integers(0, size - 2)))
    told = {seq: {"months": data.draw(st.integers(1, 4)), "ranges": [[first, first + data.draw(st.integers(0, 9))]]}
            for seq in range(size) if seq not in gone and (first := data.draw(st.integers(0, size))) < seq}
    signed = sorted((one, day(data.draw(st.integers(0, 200)))) for one in data.draw(st.sets(st.integers(1, size), min_size=1)))
    spans: list[verifier.Gone] = []
    for seq in sorted(gone):
        verifier.add_gone(spans, seq, times[seq - 1] if seq and seq - 1 not in gone else "")
    announced = [verifier.Announcement.of(seq, body) for seq, body in told.items()]
    found = verifier.unexplained(spans, announced, signed)
    leaves = [second_verifier.Leaf(seq, b"", {} if seq in gone else {
        "kind": "audit.expired" if seq in told else "x", "body": told.get(seq, {})}, None, None if seq in gone else
        datetime.fromisoformat(times[seq])) for seq in range(size)]
    notes = [second_verifier.Note("", b"", b"", "", at, b"", None, datetime.fromisoformat(time), []) for at, time in signed]
    try:
        second_verifier.check_expired(leaves, notes)
        other = None
    except second_verifier.Tampered as problem:
        other = int(str(problem).split()[1])
    assert found == other


def test_contents_that_went_too_soon(log, tmp_path):
    """The word of whoever rules the log, signed by its hourly run, against what stands around the leaf."""
    log.append_many([make_event(number) for number in range(4)])
    age(log, 40)
    checkpoints.checkpoint(log, KEY)  # number 4 is the key on record
    log.append_many([make_event(number) for number in (5, 6)])
    log.append(expired_event((0, 6)))
    checkpoints.checkpoint(log, KEY)
    place = InFolder(export(log, tmp_path / "export", origin=NAME).folder)
    for seq in range(4):
        place.put(seq, None)
    assert verdict(place.folder).word == "ok"
    place.put(6, None)
    assert said(place.folder)[0] == (
        "tampered: at number 6: its contents are gone too soon: the audit.expired leaf at number 7 says that such are kept for 1 "
        "months, and they were newer when that was signed")
    assert second_verifier.verify(place.folder, [KEY.public.text()])[0] == "tampered"


def test_a_checkpoint_says_how_old_leaves_are_that_lost_all_their_neighbours(log, tmp_path):
    """Leaves 5 to 7 came after a checkpoint that is not a month old; nothing around them has contents."""
    log.append_many([make_event(number) for number in range(4)])
    age(log, 40)
    checkpoints.checkpoint(log, KEY)
    log.append_many([make_event(number) for number in (5, 6, 7)])
    log.append(expired_event((0, 3), (5, 7)))
    checkpoints.checkpoint(log, KEY)
    place = InFolder(export(log, tmp_path / "export", origin=NAME).folder)
    for seq in (0, 1, 2, 3, 5, 6, 7):
        place.put(seq, None)
    assert verdict(place.folder).first_bad == 5


@given(st.sets(st.integers(0, 60)), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10))))
def test_the_first_number_that_nothing_explains(gone, spans):
    ranges = [(first, first + more) for first, more in spans]
    left = sorted(gone - {seq for first, last in ranges for seq in range(first, last + 1)})
    assert verifier._uncovered([(seq, seq) for seq in sorted(gone)], ranges) == (left[0] if left else None)
    assert verifier._uncovered(verifier._merged((seq, seq) for seq in gone), ranges) == (left[0] if left else None)


# ---------------------------------------------------------------------------------------------- completeness


UNANSWERED = '{"dag_id":"d","map_index":-1,"run_id":"r","state":"success","task_id":"t","try_number":1}\n'


def attempt(task_id, state, index=-1):
    return TaskTry("d", "r0", task_id, index, 1, state, None, None, None)


def test_what_airflow_says_and_the_log_lacks(log, tmp_path):
    log.append(make_event(0))
    log.append(make_event(3, "task.retrying"))
    by_hand = TaskRef(dag_id="d", run_id="r0", task_id="marked", map_index=2, try_number=1)
    log.append(make_event(0, "manual.change", task=by_hand, body={"state": "success"}))
    checkpoints.checkpoint(log, KEY)
    account = [attempt("t0", "success"), attempt("t3", "failed"), attempt("marked", "success", 2), attempt("still", "running"),
               attempt("none", None)]
    whole = export(log, tmp_path / "whole", origin=NAME, account=Airflow(*account))
    assert verdict(whole.folder).text.endswith(", complete by Airflow's account")
    lacking = export(log, tmp_path / "lacking", origin=NAME, account=Airflow(
        *account, attempt("killed", "failed"), attempt("t3", "success"), attempt("marked", "failed", 2),
        attempt("t\x1b[31m", "removed")))
    found = verdict(lacking.folder)
    assert found.lines()[0].startswith("incomplete: 4 records are missing; nothing was changed: 4 events, root ")
    assert found.lines()[1:5] == [
        "  d r0 killed try 1: Airflow says failed, no task.failed", "  d r0 t3 try 1: Airflow says success, no task.succeeded",
        "  d r0 marked[2] try 1: Airflow says failed, no task.failed",
        "  d r0 t [31m try 1: Airflow says removed, no task.skipped"]


def test_the_present_end_of_every_run_is_asked_for(log, tmp_path):
    """A run that was cleared or marked has several ends; what answers for one does not for another."""
    first, state, later = ended(state="failed"), ended(), ended(end=NOW + timedelta(hours=1))
    timeless = ended("never", "failed", end=None)
    for run in (first, timeless):
        log.append(run_ended(run, "callback", CodeRef()))
    checkpoints.checkpoint(log, KEY)
    whole = export(log, tmp_path / "whole", origin=NAME, account=Airflow(first, timeless, ended("now", "running")))
    assert verdict(whole.folder).word == "ok"
    folder = export(log, tmp_path / "lacking", origin=NAME, account=Airflow(state, later, ended("\u00e9"))).folder
    found, other = verdict(folder), second_verifier.verify(folder, [KEY.public.text()])
    assert (found.word, found.missing) == ("incomplete", [
        f"d {run}: Airflow says the run ended as success, no run.ended" for run in ("r", "r", "\u00e9")])
    assert (other[0], other[1].count("has no answer")) == ("incomplete", 3)
    for run in (state, later, ended("\u00e9")):
        log.append(run_ended(run, "sweep", CodeRef()))
    again = export(log, tmp_path / "again", origin=NAME, account=Airflow(state, later, ended("\u00e9"))).folder
    assert (verdict(again).word, second_verifier.verify(again, [KEY.public.text()])[0]) == ("ok", "ok")


def test_a_stage_move_needs_its_announcement_and_an_approval_before_it(log, tmp_path):
    def move(number, kind, request, **names):
        log.append(make_event(number, kind, body={"request_digest": request}, **names))

    for number, kind in enumerate(("promotion.approved", "stage.moving", "stage.moved")):
        move(number, kind, "a")
    checkpoints.checkpoint(log, KEY)
    assert verdict(export(log, tmp_path / "whole", origin=NAME).folder).word == "ok"
    move(10, "stage.moving", "b")
    move(11, "stage.moved", "b")  # number 5
    move(12, "promotion.approved", "b")
    move(13, "promotion.approved", "c")
    move(14, "stage.moved", "c", model="tumour", version="3")  # number 8
    move(15, "stage.moved", None)  # number 9
    found = verdict(export(log, tmp_path / "lacking", origin=NAME).folder)
    assert (found.word, found.missing) == ("incomplete", [
        "number 5: stage.moved without promotion.approved before it",
        "number 8: stage.moved of tumour version 3 without stage.moving before it",
        "number 9: stage.moved without stage.moving and promotion.approved before it"])


def test_tampering_is_worse_than_missing_records(folder):
    place = InFolder(folder)
    (folder / "account.jsonl").write_text(UNANSWERED)
    assert verdict(folder).word == "incomplete"
    place.remove(3)
    assert verdict(folder).word == "tampered"


@given(st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.integers(0, 9), st.integers(-1, 9)))
def test_event_ids_are_those_of_the_log(task):
    assert verifier.event_id(*task, "task.failed") == event_id_for(*task, "task.failed").bytes


# ---------------------------------------------------------------------------------------------- fuzz

# What is covered by hashes and signatures, or said twice. Not: made_at, keys.txt beside a given key, proofs, the account, time
# stamps, readable.jsonl.
COVERED = [f"log/{0:020d}.jsonl", f"log/{0:020d}.hashes",
           *(f"checkpoints/{size:020d}.note" for size in (5, 9, 13))]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_byte_that_is_changed_is_found(honest, data):
    path = honest / data.draw(st.sampled_from(COVERED))
    before = path.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    try:
        path.write_bytes(before[:at] + bytes([before[at] ^ data.draw(st.integers(1, 255))]) + before[at + 1 :])
        assert verdict(honest).word == "tampered"
    finally:
        path.write_bytes(before)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_line_removed_doubled_or_swapped_is_found(honest, data):
    path = honest / data.draw(st.sampled_from([name for name in COVERED if not name.endswith(".hashes")]))
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    one, other = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, len(lines) - 1))
    changed = list(lines)
    match data.draw(st.sampled_from(["remove", "double", "swap"])):
        case "remove":
            del changed[one]
        case "double":
            changed.insert(other, lines[one])
        case "swap":
            changed[one], changed[other] = changed[other], changed[one]
    signed_twice = path.stem.endswith("13") and len(changed) > len(lines) and changed[-2] == changed[-1]  # nothing is wrong in it
    try:
        path.write_bytes(b"".join(changed))
        assert verdict(honest).word == ("ok" if changed == lines or signed_twice else "tampered")
    finally:
        path.write_bytes(before)


NAMES = st.sampled_from(["format", "size", "origin", "consistency", "proof"])
JSON = st.recursive(st.none() | st.integers() | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner))
ANYTHING = st.binary(max_size=300) | st.text(max_size=300).map(str.encode) | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_file_there_is_a_verdict_or_a_refusal(honest, data):
    path = honest / data.draw(st.sampled_from([*COVERED, "manifest.json"]))
    before = path.read_bytes()
    try:
        path.write_bytes(data.draw(ANYTHING))
        assert verifier.main([str(honest), "--jobs", "1"]) in {1, 2}
    finally:
        path.write_bytes(before)


# ---------------------------------------------------------------------------------------------- hostile exports


def refused(folder, capsys, *words):
    code = verifier.main([str(folder), "--key", KEY.public.text(), "--jobs", "1", *words])
    out = capsys.readouterr()
    assert "Traceback" not in out.out + out.err
    return code, (out.err or out.out).splitlines()[0]


DEEP = b"[" * 60_000


@pytest.mark.parametrize(("name", "content", "code", "words"), [
    (f"log/{0:020d}.jsonl", b"x" * 3_000_000, 1, "tampered: at number 0: this leaf has more than 65664 bytes"),
    (f"log/{0:020d}.jsonl", b"\n" * 3_000_000, 1, "tampered: at number 0: the line is no leaf"),
    (f"log/{0:020d}.jsonl", b"\xff\xfe\n", 1, "tampered: at number 0: the line is no leaf"),
    (f"log/{0:020d}.jsonl", b'{"event":{' + DEEP + b'"kind":"audit.key","occurred_at":"2025-01-01T00:00:00.000000Z"},"seq":0,'
     b'"stored_at":"2025-01-01T00:00:00.000000Z"}\n', 1, "tampered: at number 0: its bytes do not have the hash"),
    (f"log/{0:020d}.hashes", b"x" * 3_000_000, 1, "tampered: at number 0: log/"),
    ("manifest.json", DEEP, 1, "tampered: manifest.json is not as section 7"),
    ("manifest.json", b"x" * 100_000, 1, "tampered: manifest.json has more than 65536 bytes"),
    ("manifest.json", b'{"size":' + b"9" * 5000 + b"}", 1, "tampered: manifest.json is not as section 7"),
    ("manifest.json", b"[]", 1, "tampered: manifest.json is not as section 7"),
    ("manifest.json", b'{"format":"airgate-audit-export/2"}', 2,
     "airgate-verify: manifest.json says that the format is 'airgate-audit-export/2'; this verifier knows"),
    (f"checkpoints/{9:020d}.note", b"x" * 100_000, 1, f"tampered: {9:020d}.note has more than 65536 bytes"),
    ("checkpoints/x.note", b"", 1, "tampered: checkpoints/x.note is no checkpoint"),
    (f"checkpoints/{10**19:020d}.note", b"x", 1, "tampered: the checkpoint checkpoints/"),
    (f"log/{5:020d}.jsonl", b"", 1, "tampered: log/00000000000000000005.jsonl does not belong to a log of 15 leaves"),
    ("account.jsonl", b"{}\n", 2, "airgate-verify: line 1 of account.jsonl is no task try and no run"),
    ("account.jsonl", b'{"dag_id":"d","end":null,"run_id":"r","state":"success"}\n', 2,
     "airgate-verify: line 1 of account.jsonl is no task try and no run"),
    ("account.jsonl", DEEP, 2, "airgate-verify: line 1 of account.jsonl is no task try"),
    ("account.jsonl", b"x" * 3_000_000, 2, "airgate-verify: line 1 of account.jsonl is no task try"),
    ("account.jsonl", b'{"dag_id":[],"map_index":{},"run_id":1,"state":"success","task_id":null,"try_number":""}\n', 2,
     "airgate-verify: line 1 of account.jsonl is no task try"),
    ("account.jsonl", b'{"dag_id":"d","map_index":-1,"run_id":"r","state":[],"task_id":"t","try_number":1}\n', 2,
     "airgate-verify: line 1 of account.jsonl is no task try"),
])
def test_hostile_content(folder, capsys, name, content, code, words):
    (folder / name).write_bytes(content)
    found, line = refused(folder, capsys)
    assert (found, line[: len(words)]) == (code, words)


@pytest.mark.parametrize("content", [b"\xff", b"", b"x" * 2_000_000])
def test_the_list_of_keys_counts_for_nothing_beside_a_given_key(folder, content):
    (folder / "keys.txt").write_bytes(content)
    found = verdict(folder)
    assert found.word == "ok"
    assert any(notice.startswith("keys.txt does not list the keys that the log's") for notice in found.notices)


@pytest.mark.parametrize("size", [16, 10**6, 10**18, 10**30])
def test_an_absurd_size_is_no_work(folder, capsys, size):
    place = InFolder(folder)
    place.write_json("manifest.json", place.read_json("manifest.json") | {"size": size})
    code, line = refused(folder, capsys)
    assert (code, line.startswith("tampered: at number 15: the log ends here")) == (1, True)


@pytest.mark.parametrize("size", [-1, 15.0, "15", True, None])
def test_a_size_that_is_none(folder, capsys, size):
    place = InFolder(folder)
    place.write_json("manifest.json", place.read_json("manifest.json") | {"size": size})
    assert refused(folder, capsys) == (1, "tampered: manifest.json is not as section 7 of the format has it")


@pytest.mark.parametrize("name", ["manifest.json", f"log/{0:020d}.jsonl", f"log/{0:020d}.hashes", f"checkpoints/{9:020d}.note",
                                  "keys.txt", "proofs.json", "log", "checkpoints", "receipts"])
def test_no_link_is_followed(folder, tmp_path, capsys, name):
    target = tmp_path / "elsewhere"
    if (folder / name).exists():
        (folder / name).rename(target)
    (folder / name).symlink_to(target)
    code, line = refused(folder, capsys)
    assert code == 2
    assert line.startswith(f"airgate-verify: {folder / name} is a link or no ")


def test_a_worker_refuses_too(folder, capsys):
    (folder / "log" / f"{0:020d}.jsonl").unlink()
    (folder / "log" / f"{0:020d}.jsonl").symlink_to("/dev/zero")
    assert refused(folder, capsys, "--jobs", "2") == (
        2, f"airgate-verify: {folder / 'log'}/{0:020d}.jsonl is a link or no file; an export holds plain files only")


def test_what_puts_nothing_to_use_needs_its_claim_only(log, tmp_path):
    claim = make_event(0, "stage.moving", body={"request_digest": None, "to_version": None})
    log.append(claim)
    ours = str(claim.event_id)
    moves = [
        {"to_version": None, "claim": ours}, {"to_version": "3", "stage": "archived", "claim": ours},
        {"to_version": "3", "stage": "production", "claim": ours},  # number 3
        {"to_version": None, "claim": "another"}, {"to_version": None},  # numbers 4 and 5
    ]
    for number, move in enumerate(moves, start=1):
        log.append(make_event(number, "stage.moved", body={"request_digest": None, **move}))
    checkpoints.checkpoint(log, KEY)
    found = verdict(export(log, tmp_path / "export", origin=NAME).folder)
    assert found.word == "incomplete"
    assert [line.partition(":")[0] for line in found.missing] == ["number 3", "number 4", "number 5"]


@pytest.mark.parametrize("body", ["[" * 30_000 + "]" * 30_000, '{"vkey":' + "9" * 5000 + "}", '{"vkey":5}', "{}", "[]", "\xff"])
@pytest.mark.parametrize("kind", ["audit.key", "audit.expired", "stage.moving", "promotion.approved"])
def test_a_leaf_that_cannot_be_read_says_nothing(folder, body, kind):
    place = InFolder(folder)
    leaf = b'{"event":{"body":%b,"kind":"%b","task":null},"seq":14,"stored_at":"2030-01-01T00:00:00.000000Z"}'
    place.put(14, leaf % (body.encode("latin-1"), kind.encode()), hash_too=True)
    found = verdict(folder)
    assert found.word == "ok"
    assert (f"number 14, of kind {kind}, cannot be read and changes nothing" in found.notices) == kind.startswith("audit.")


def test_a_pipe_is_not_waited_for(folder, capsys):
    (folder / "keys.txt").unlink()
    os.mkfifo(folder / "keys.txt")
    assert refused(folder, capsys)[0] == 2


def test_control_characters_do_not_reach_the_terminal(folder, capsys):
    place = InFolder(folder)
    place.write_json("manifest.json", place.read_json("manifest.json") | {"origin": "a\x1b[2Jb"})
    code, line = refused(folder, capsys)
    assert code == 1
    assert line.isprintable()


# ---------------------------------------------------------------------------------------------- the command


def test_the_file_runs_alone(honest, tmp_path):
    """Copied elsewhere, without our code on the path."""
    alone = tmp_path / "verifier.py"
    alone.write_bytes(FILE.read_bytes())
    words = [sys.executable, "-I", str(alone), str(honest), "--key", KEY.public.text(), "--jobs", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: 15 events")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import verifier; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    third = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"__main__", "verifier", "_cffi_backend"}
    assert {name for name in third if not name.startswith(("_", "site"))} - {"cryptography", "sitecustomize"} == set()


def test_a_terminal_that_cannot_show_everything(folder):
    place = InFolder(folder)
    place.write_json("manifest.json", place.read_json("manifest.json") | {"origin": "caf\u00e9"})
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes().replace(b"\\u00e9", "\u00e9".encode()))
    done = subprocess.run([sys.executable, str(FILE), str(folder)], capture_output=True, text=True, check=False,
                          env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (1, "")
    assert r"the manifest says 'caf\xe9'" in done.stdout


def test_the_command_of_this_checkout(honest):
    done = subprocess.run(["scripts/airgate-verify", str(honest)], capture_output=True, text=True, check=False,
                          cwd=FILE.parents[3])
    assert (done.returncode, done.stdout[:14]) == (0, "ok: 15 events,")


def test_keys_from_a_file(honest, tmp_path, capsys):
    keys = tmp_path / "keys"
    keys.write_text(f"# ours\n{KEY.public.text()}\n")
    assert verifier.main([str(honest), "--key", str(keys)]) == 0
    assert "no --key" not in capsys.readouterr().out


@pytest.mark.parametrize(("words", "message"), [
    (["--key", "nowhere"], "airgate-verify: --key nowhere is no verifier key (NAME+HASH+BASE64) and no file: No such file"),
    (["--key", "a+b"], "airgate-verify: --key a+b: 'a+b' is no verifier key; one reads NAME+HASH+BASE64"),
    (["--key", "a+00000000+AAAA"], "airgate-verify: --key a+00000000+AAAA: the verifier key 'a' is not of kind 1, which is Ed"),
    (["--key", "/dev/null"], "airgate-verify: --key /dev/null: the file holds no key"),
    (["--anchor", "nowhere"], "airgate-verify: there is no folder nowhere; --anchor takes the folder of notes of an anchor"),
])
def test_a_wrong_command_is_said(honest, capsys, words, message):
    assert verifier.main([str(honest), *words]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_folder_that_is_no_export(tmp_path, capsys):
    assert verifier.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"airgate-verify: {tmp_path} is no export: it has no manifest.json\n"
    assert verifier.main([str(tmp_path / "x")]) == 2
    assert "give the folder that `airgate audit export` wrote" in capsys.readouterr().err


@pytest.mark.parametrize(("act", "code"), [
    (lambda folder: None, 0), (lambda folder: InFolder(folder).remove(3), 1),
    (lambda folder: (folder / "account.jsonl").write_text(UNANSWERED), 3),
])
def test_exit_codes(folder, capsys, act, code):
    act(folder)
    assert verifier.main([str(folder)]) == code
