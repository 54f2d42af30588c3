"""What the signatures and the anchors find that the log's own hashes cannot: somebody with every right who rebuilds it."""

from contextlib import closing
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit.test_integrity import Owner
from tests.audit.under_attack import InDatabase

from airgate.audit import checkpoints, retention, signing, trust
from airgate.audit.anchors import open_anchors
from airgate.audit.entry import entry_bytes
from airgate.audit.event import AuditEvent, canonical, time_text
from airgate.audit.merkle import Frontier, leaf_hash

NAME = "audit.example.org/airgate"


@pytest.fixture
def key():
    return signing.signer_of(Ed25519PrivateKey.generate(), NAME)


@pytest.fixture
def anchors(tmp_path):
    (tmp_path / "kept").mkdir()
    return open_anchors(f"file://{tmp_path}/kept")


@pytest.fixture
def log(store, make, key, anchors):
    """Three checkpoints over 5, 9 and 13 events, and two events since."""
    for start in (0, 4, 8):
        store.append_many([make(number) for number in range(start, start + 4)])
        checkpoints.checkpoint(store, key)
        checkpoints.anchor_all(store, anchors)
    store.append_many([make(number) for number in (50, 51)])
    return store


class Everything(Owner):
    """An owner whose triggers are off on every table."""

    def do(self, statement, *values):
        if not self.sqlite:
            for table in ("checkpoints", "receipts", "tree"):
                super().do(f"ALTER TABLE airgate_{table} DISABLE TRIGGER ALL")
        return super().do(statement, *values)


def rebuild(log, owner, keep=None, change=lambda event: event):
    """Make the whole tree anew over changed events, consistent in itself."""
    tree = Frontier()
    for stored in log.events()[:keep]:
        entry = entry_bytes(canonical(change(stored.event)), stored.seq, time_text(stored.stored_at))
        tree.append(leaf_hash(entry))
        owner.do("UPDATE airgate_events SET entry = ?, leaf_hash = ? WHERE seq = ?", entry, leaf_hash(entry), stored.seq)
    owner.do("DELETE FROM airgate_events WHERE seq >= ?", tree.size)
    owner.do("UPDATE airgate_head SET size = ?, root = ?, frontier = ?", tree.size, tree.root(), tree.to_bytes())


def forged(event):
    return event.model_copy(update={"body": {"forged": True}}) if event.kind == "task.succeeded" else event


def test_an_honest_log(log, key, anchors):
    report = trust.verify(log, key.public, anchors)
    assert report.ok
    assert list(report.lines()) == [
        "integrity: ok", "checkpoints: ok, 3 of them, the newest over 13 events; the 2 since then are not signed yet",
        f"anchor: {anchors[0].name} agrees"]


def test_a_log_without_checkpoints(store, make, key):
    store.append(make(0))
    report = trust.verify(store, key.public)
    assert report.ok
    assert list(report.lines())[1] == "checkpoints: none yet; `airgate audit checkpoint`, or the DAG audit_upkeep, makes one"


def test_a_tree_rebuilt_without_the_key(log, url, key, anchors):
    rebuild(log, Everything(url), change=forged)
    assert log.verify().ok  # its own hashes say nothing
    report = trust.verify(log, key.public)
    assert not report.ok
    assert report.reasons[0] == "the first 5 events are not those that their checkpoint signed"


def test_a_tree_rebuilt_and_signed_by_another_key(log, url, key, anchors):
    other = signing.signer_of(Ed25519PrivateKey.generate(), NAME)
    owner = Everything(url)
    owner.do("DELETE FROM airgate_checkpoints")
    owner.do("DELETE FROM airgate_receipts")
    rebuild(log, owner, change=lambda event: event.model_copy(
        update={"body": {"vkey": other.public.text(), "replaces": None}}) if event.kind == "audit.key" else forged(event))
    checkpoints.checkpoint(log, other)
    assert trust.verify(log, None).ok  # who believes the log's own key believes everything
    assert "somebody else signs this log" in trust.verify(log, key.public).reasons[0]
    said = " ".join(trust.verify(log, None, anchors).reasons)
    assert "holds a checkpoint over 5 events that is missing in the database" in said


def test_an_old_backup(log, url, key, anchors):
    owner = Everything(url)
    owner.do("DELETE FROM airgate_checkpoints WHERE size > 9")
    owner.do("DELETE FROM airgate_receipts WHERE size > 9")
    rebuild_kept(log, owner, 9)
    assert trust.verify(log, key.public).ok  # the past was like that
    [reason] = trust.verify(log, key.public, anchors).reasons
    assert reason.endswith("holds a checkpoint over 13 events, the log has 9: events were lost, or an old backup was restored")


def test_a_tail_cut_with_its_head(log, url, key):
    rebuild_kept(log, Everything(url), 10)
    [reason] = trust.verify(log, key.public).reasons
    assert reason == ("the checkpoint over 13 events is older than this log, which has 10: events were lost, or an old backup "
                      "was restored")


def rebuild_kept(log, owner, size):
    tree = Frontier()
    for stored in log.events()[:size]:
        tree.append(stored.leaf_hash)
    owner.do("DELETE FROM airgate_events WHERE seq >= ?", size)
    owner.do("UPDATE airgate_head SET size = ?, root = ?, frontier = ?", tree.size, tree.root(), tree.to_bytes())


def test_a_missing_checkpoint(log, url, key, anchors):
    Everything(url).do("DELETE FROM airgate_checkpoints WHERE size = 9")
    [reason] = trust.verify(log, key.public).reasons
    assert reason == "the checkpoint over 13 events does not follow the one before it: a checkpoint is missing, or was exchanged"
    said = trust.verify(log, key.public, anchors).reasons
    assert any("holds a checkpoint over 9 events that is missing in the database" in reason for reason in said)


@pytest.mark.parametrize(("old", "new"), [(b"\n9\n", b"\n8\n"), (b"time 2", b"time 3")])
def test_an_edited_checkpoint(log, url, key, old, new):
    owner = Everything(url)
    [[raw]] = owner.do("SELECT note FROM airgate_checkpoints WHERE size = 9")
    owner.do("UPDATE airgate_checkpoints SET note = ? WHERE size = 9", raw.replace(old, new, 1))
    report = trust.verify(log, key.public)
    assert not report.ok
    assert "checkpoints: TAMPERED" in list(report.lines())[1]


@pytest.mark.parametrize(("days", "word"), [(32, "ok"), (0, "TAMPERED")])
def test_contents_dropped_on_the_word_of_an_event(store, url, make, key, days, word):
    """Whoever rules the database drops what he likes and announces it himself: that must be signed, and the time over."""
    store.append_many([make(number) for number in range(4)])
    with closing(InDatabase(url)) as place:
        place.age(days)
    checkpoints.checkpoint(store, key)
    store.append(AuditEvent(event_id=uuid4(), kind="audit.expired", occurred_at=datetime.now(UTC), actor=checkpoints.ACTOR,
                            source="api", body={"months": 1, "ranges": [[2, 3]]}))
    assert retention._drop(store, 2, 3) == 2
    report = trust.verify(store, key.public)
    assert report.integrity.line() == ("integrity: TAMPERED at event 2: its contents are gone and no audit.expired event that "
                                       "counts says so")
    checkpoints.checkpoint(store, key)
    assert trust.verify(store, key.public).integrity.line().startswith(f"integrity: {word}")


def test_an_anchor_that_was_edited_or_emptied(log, key, anchors, tmp_path):
    kept = sorted((tmp_path / "kept").iterdir())
    kept[0].unlink()
    assert any("5" in reason for reason in trust.verify(log, key.public, anchors).reasons)
    kept[1].chmod(0o600)
    kept[1].write_bytes(kept[2].read_bytes())
    assert f"{anchors[0].name} holds another checkpoint over 9 events than the database" in trust.verify(
        log, key.public, anchors).reasons


def test_an_anchor_that_cannot_be_asked_is_no_tampering(log, key, anchors, tmp_path):
    (tmp_path / "kept").rename(tmp_path / "away")
    report = trust.verify(log, key.public, anchors)
    assert report.ok
    assert "anchor: could not be asked: " in list(report.lines())[2]


def test_nothing_is_signed_where_the_anchors_know_of_checkpoints_that_are_gone(log, url, key, anchors):
    """Else whoever rebuilt the log and removed its checkpoints would have it signed by the next hour's run."""
    assert trust.contradictions(log, anchors) == []
    Everything(url).do("DELETE FROM airgate_checkpoints")
    found = trust.contradictions(log, anchors)
    assert len(found) == 3
    assert "holds a checkpoint over 5 events that is missing in the database" in found[0]


def test_without_a_configured_key_the_report_says_whose_word_was_taken(log):
    said = list(trust.verify(log, None).lines())
    assert "no AIRGATE_AUDIT_KEY is configured here: the log's own word for its key was believed" in said
