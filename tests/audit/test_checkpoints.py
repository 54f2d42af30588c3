from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airgate.audit import checkpoints, signing
from airgate.audit.anchors import AnchorError, open_anchors
from airgate.audit.event import AuditEvent
from airgate.audit.merkle import root_of
from airgate.audit.schema import CHECKPOINTS
from airgate.errors import AuditError

NAME = "audit.example.org/airgate"


def named(body):
    return AuditEvent(event_id=uuid4(), kind="audit.key", occurred_at=datetime.now(UTC), actor=checkpoints.ACTOR, source="api",
                      body=body)


def signer():
    return signing.signer_of(Ed25519PrivateKey.generate(), NAME)


@pytest.fixture
def key():
    return signer()


def test_a_checkpoint_signs_what_is_there(store, make, key):
    store.append(make(0))
    note = checkpoints.checkpoint(store, key)
    assert note.origin == NAME
    assert note.size == 2  # the event, and the key on record
    assert note.root == root_of(stored.leaf_hash for stored in store.events()) == store.head()[1]
    assert note.previous is None
    assert note.signed_by(key.public)
    assert not note.signed_by(signer().public)
    assert [stored.event.body for stored in store.events(kind="audit.key")] == [
        {"vkey": key.public.text(), "replaces": None}]
    assert checkpoints.newest(store) == note


def test_each_is_chained_to_the_one_before(store, make, key):
    notes = []
    for number in range(3):
        store.append(make(number))
        notes.append(checkpoints.checkpoint(store, key))
    assert [note.size for note in notes] == [2, 3, 4]
    assert [note.previous for note in notes] == [None, notes[0].digest(), notes[1].digest()]
    assert checkpoints.notes(store) == notes


def test_without_new_events_there_is_no_new_checkpoint(store, make, key):
    first = checkpoints.checkpoint(store, key)
    assert checkpoints.checkpoint(store, key) == first
    assert store.head()[0] == first.size == 1


def test_an_empty_log_has_none(store):
    assert checkpoints.newest(store) is None
    assert checkpoints.notes(store) == []
    assert checkpoints.key_in_force(store) is None


def test_a_key_that_is_not_in_force_does_not_sign(store, key):
    checkpoints.checkpoint(store, key)
    other = signer()
    with pytest.raises(AuditError, match="but the one in force is .* or rotate: `airgate audit rotate-key`"):
        checkpoints.checkpoint(store, other)
    with pytest.raises(AuditError, match="a rotation needs the key in force"):
        checkpoints.rotate(store, other, signer())
    with pytest.raises(AuditError, match="signs this log already"):
        checkpoints.rotate(store, other, key)


def test_a_rotation_is_vouched_for_by_both_keys(store, make, key):
    store.append(make(0))
    before = checkpoints.checkpoint(store, key)
    new = signer()
    note = checkpoints.rotate(store, key, new)
    assert note.signed_by(key.public)
    assert note.signed_by(new.public)
    assert note.size == before.size + 1
    assert checkpoints.keys_in_force(store) == [key.public, new.public]
    store.append(make(1))
    after = checkpoints.checkpoint(store, new)
    assert after.signed_by(new.public)
    assert not after.signed_by(key.public)
    with pytest.raises(AuditError, match="the one in force is"):
        checkpoints.checkpoint(store, key)


def test_a_rotation_that_was_interrupted_changes_nothing_until_it_is_done_again(store, make, key):
    checkpoints.checkpoint(store, key)
    new = signer()
    checkpoints._record_key(store, new.public, replaces=key.public, attempt=1)  # and then the process was killed
    assert checkpoints.key_in_force(store) == key.public
    assert checkpoints.checkpoint(store, key).signed_by(key.public)  # the upkeep goes on
    assert checkpoints.key_in_force(store) == key.public
    with pytest.raises(AuditError, match="the one in force is"):
        checkpoints.checkpoint(store, new)
    assert checkpoints.rotate(store, key, new).signed_by(new.public)
    store.append(make(1))
    assert checkpoints.checkpoint(store, new).signed_by(new.public)


def test_whoever_can_append_cannot_bring_in_a_key(store, make, key):
    """A leaf that names a key counts only under a checkpoint by the key before and the new one."""
    checkpoints.checkpoint(store, key)
    evil = signer()
    for replaces in (key.public.text(), None, evil.public.text()):
        store.append(named({"vkey": evil.public.text(), "replaces": replaces}))
    store.append(named({"vkey": "nonsense", "replaces": key.public.text()}))
    note = checkpoints.checkpoint(store, key)
    assert note.signed_by(key.public)
    assert checkpoints.keys_in_force(store) == [key.public]


def test_the_key_in_force_is_told_by_few_checkpoints(store, make, key):
    """Those that a key came in by, and the newest, tell what all do, after rotations and leaves that count for nothing."""
    keys = [key, signer(), signer()]
    for number, current in enumerate(keys):
        if number:
            checkpoints.rotate(store, keys[number - 1], current)
        for more in range(3):
            store.append(make(10 * number + more))
            store.append(named({"vkey": signer().public.text(), "replaces": current.public.text()}))
            checkpoints.checkpoint(store, current)
            everything = checkpoints.succession(checkpoints.keys_named(store), checkpoints.notes(store))
            assert checkpoints.key_in_force(store) == everything[-1] == current.public
    few, succession = store.database.transact(checkpoints._succession_now, write=False)
    assert few[-1] == checkpoints.newest(store)
    assert succession[-2:] == everything[-2:]


def test_a_checkpoint_reads_no_older_ones_than_it_needs(store, make, key):
    for number in range(4):
        store.append(make(number))
        checkpoints.checkpoint(store, key)
    few, _ = store.database.transact(checkpoints._succession_now, write=False)
    assert [note.size for note in few] == [note.size for note in checkpoints.notes(store)][::3]


def test_many_at_once_make_one_chain(store, make, key):
    checkpoints.checkpoint(store, key)

    def work(number):
        store.append(make(number))
        return checkpoints.checkpoint(store, key)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    notes = checkpoints.notes(store)
    assert [note.previous for note in notes[1:]] == [note.digest() for note in notes[:-1]]
    assert all(note.root == store.root_at(note.size) for note in notes)


def test_anchors_get_what_they_lack(store, make, key, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    first = checkpoints.checkpoint(store, key)
    anchors = open_anchors(f"file://{tmp_path}/one")
    assert checkpoints.anchor_all(store, anchors).taken == [(anchors[0].name, first.size)]
    store.append(make(1))
    second = checkpoints.checkpoint(store, key)
    both = [*anchors, *open_anchors(f"file://{tmp_path}/two")]
    assert len(checkpoints.anchor_all(store, both).taken) == 3
    assert checkpoints.anchor_all(store, both) == checkpoints.Anchored()
    for anchor in both:
        assert anchor.notes() == {first.size: first.raw, second.size: second.raw}


class Broken:
    name = "broken"

    def put(self, size, note):
        raise AnchorError("broken: it is down")


def test_an_anchor_that_fails_is_on_record_once_and_stops_nothing(store, make, key, tmp_path):
    (tmp_path / "sound").mkdir()
    checkpoints.checkpoint(store, key)
    anchors = [Broken(), *open_anchors(f"file://{tmp_path}/sound")]
    result = checkpoints.anchor_all(store, anchors)
    assert [name for name, _ in result.taken] == [anchors[1].name]
    assert result.failed == ["broken: broken: it is down"]
    checkpoints.anchor_all(store, anchors)
    alarms = [stored.event.body for stored in store.events(kind="audit.alarm")]
    assert alarms == [{"alarm": "anchor", "anchor": "broken", "size": 1, "message": "broken: it is down"}]
    store.append(make(5))


@pytest.mark.parametrize("size", [2, 10**12])
def test_a_forged_checkpoint_is_neither_followed_nor_anchored(store, make, key, tmp_path, size):
    """Whoever may add checkpoints could keep the log from being signed, and poison a place that never forgets."""
    (tmp_path / "kept").mkdir()
    checkpoints.checkpoint(store, key)
    store.append_many([make(number) for number in range(5)])
    text = f"{NAME}\n{size}\n{b64encode(bytes(32)).decode()}\ntime 2026-01-08T06:00:00.000000Z\n".encode()
    note = text + b"\n" + signer().signature_line(text)
    store.database.transact(lambda connection: connection.execute(
        CHECKPOINTS.insert().values(size=size, note=note, made_at="2026-01-08T06:00:00.000000Z")), write=True)
    with pytest.raises(AuditError, match=r"is not signed by the key that was in force: somebody forged it"):
        checkpoints.checkpoint(store, key)
    result = checkpoints.anchor_all(store, open_anchors(f"file://{tmp_path}/kept"))
    assert [taken for _, taken in result.taken] == [1]
