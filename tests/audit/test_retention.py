from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.audit import second_verifier
from tests.audit.under_attack import InDatabase

from airgate.audit import checkpoints, retention, signing, trust, verifier
from airgate.audit.event import KINDS, Actor
from airgate.audit.expired import Expired
from airgate.audit.export import export
from airgate.audit.schema import EVENTS
from airgate.errors import ConfigError

KEEPER = Actor(kind="outside", name="dana")
NOW = datetime.now(UTC)


def later(months):
    return NOW + timedelta(days=31 * months + 5)


@pytest.fixture
def age(url):
    """Lets what is in the log have been stored so many months ago."""

    def change(months):
        with closing(InDatabase(url)) as place:
            place.age(31 * months + 5)

    return change


def test_every_kind_has_a_class_in_the_file_that_is_shipped():
    shipped = retention.load()
    assert {name: one.months for name, one in shipped.classes.items()} == {
        "ai_act_logs": 6, "default": 60, "hipaa": 72, "ai_act_documentation": 120}
    assert all(one.source for one in shipped.classes.values())
    for kind in KINDS:
        first = kind.partition(".")[0]
        expected = {"audit": None, "task": "default", "run": "default"}.get(first, "ai_act_documentation")
        assert shipped.class_of(kind, "m") == expected


def test_the_longest_rule_wins():
    times = retention.Retention.model_validate({
        "classes": {"short": {"months": 6, "source": "a"}, "long": {"months": 72, "source": "b"}},
        "rules": [{"models": ["clinical_*"], "class": "long"}, {"kinds": ["task.*"], "class": "short"}]})
    assert times.class_of("task.failed", "other") == "short"
    assert times.class_of("task.failed", "clinical_x") == "long"
    assert times.class_of("run.ended", None) is None


@pytest.mark.parametrize(("text", "message"), [
    ("classes: {a: {months: 6, source: x}}\nrules: [{class: b}]", "a rule names the class 'b'; Allowed: a"),
    ("classes: {a: {months: 0, source: x}}\nrules: []", "classes.a.months: Input should be greater than or equal to 1"),
    ("classes: {a: {month: 6, source: x}}\nrules: []", "classes.a.month"),
    ("classes: [", "not YAML"),
    ("", "Input should be"),
])
def test_a_wrong_file_is_explained(tmp_path, text, message):
    path = tmp_path / "retention.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        retention.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        retention.load(tmp_path / "none")


def test_nothing_is_due_before_its_time(store, make):
    store.append_many([make(number) for number in range(5)])
    assert retention.due(store, retention.load(), NOW) == {}
    assert retention.due(store, retention.load(), later(58)) == {}


def test_what_is_in_force_does_not_expire(store, make):
    """However old: inference asks for the approvals of what is live, and the next move begins where the last one ended."""
    kinds = ("gate.verdict", "promotion.requested", "promotion.approved", "stage.moving", "stage.moved")
    store.append_many([make(10 * version + place, kind, model="m", version=str(version))
                       for version in (1, 2) for place, kind in enumerate(kinds)])
    store.append_many([make(30, "stage.moved", model="other", version="2"), make(31, "gate.verdict", model="n", version="2")])
    found = retention.due(store, retention.load(), later(130))
    assert found == {"ai_act_documentation": [0, 1, 2, 3, 4, 11]}


def test_what_is_live_stays_although_another_stage_moved_later(store, make):
    """Archiving version 1, or giving a move up, is the newest move of the model; version 2 is in production all the same."""
    def moved(number, version, kind="stage.moved", **body):
        return make(number, kind, model="m", version=version, body=body)

    store.append_many([
        make(0, "model.signed", model="m", version="1"), moved(1, "1"),  # as release 0.2.0 wrote it
        make(2, "model.signed", model="m", version="2"), make(3, "promotion.approved", model="m", version="2"),
        moved(4, "2", stage="production"), moved(5, "9", stage="archived"), moved(6, "1", stage="archived"),
        moved(7, "4", "stage.reverted", stage="production")])
    found = retention.due(store, retention.load(), later(130))
    # Version 1 is the newest in 'archived'. The chain goes on from 7, and 9 is archived for good.
    assert found == {}
    store.append_many([moved(8, "3", stage="production"), moved(9, "9", stage="staging")])
    assert retention.due(store, retention.load(), later(130)) == {"ai_act_documentation": [2, 3, 4, 7]}


def test_expiry_drops_contents_keeps_hashes_and_is_an_event(store, make, age):
    kinds = ["task.started", "gate.verdict", "task.succeeded", "task.failed", "promotion.approved"]
    store.append_many([make(number, kind, model="m") for number, kind in enumerate(kinds)])
    age(61)
    leaves = [stored.leaf_hash for stored in store.events()]
    root = store.root_at(5)
    assert retention.due(store, retention.load(), NOW) == {"default": [0, 2, 3]}
    assert retention.announce(store, retention.load(), NOW, by=KEEPER) == 3
    assert retention.drop(store, retention.load(), NOW, 5) == 0  # no checkpoint covers the announcement
    assert retention.drop(store, retention.load(), NOW, 6) == 3
    assert [stored.seq for stored in store.events()] == [1, 4, 5]
    record = store.events(kind="audit.expired")[0].event
    assert record.body == {"class": "default", "months": 60, "rule": "our own default, five years", "ranges": [[0, 0], [2, 3]]}
    rows = store.database.transact(
        lambda connection: connection.execute(EVENTS.select().order_by(EVENTS.c.seq)).all(), write=False)
    assert [bytes(row.leaf_hash) for row in rows][:5] == leaves
    assert (rows[0].run_id, rows[0].task_id, rows[0].model) == (None, None, "m")
    assert store.root_at(5) == root
    assert store.verify().line() == "integrity: ok"
    assert store.append(make(0, "task.started", model="m")) == 0  # a repetition is still known
    assert retention.announce(store, retention.load(), NOW, by=KEEPER) == 0


@pytest.mark.parametrize("months", [61, 121])
def test_an_expired_log_verifies_here_and_outside(store, make, age, tmp_path, months):
    """Old events of two classes around a key on record, and young ones after."""
    key = signing.signer_of(Ed25519PrivateKey.generate(), "audit.example.org/airgate")
    store.append_many([make(number, "gate.verdict" if number % 2 else "task.failed") for number in range(6)])
    age(months)
    checkpoints.checkpoint(store, key)
    store.append_many([make(number) for number in range(10, 13)])
    announced = retention.announce(store, retention.load(), datetime.now(UTC), by=KEEPER)
    signed = checkpoints.checkpoint(store, key).size
    dropped = retention.drop(store, retention.load(), datetime.now(UTC), signed)
    assert dropped == announced == (3 if months == 61 else 6)
    assert trust.verify(store, key.public).ok
    folder = export(store, tmp_path / "export", origin=key.public.name).folder
    found = verifier.verify(folder, [key.public])
    assert found.word == "ok"
    assert (f"the contents of {dropped} events have expired; their hashes are there. They had to be kept for 60 months or longer"
            ": so say the log's audit.expired leaves") in found.notices
    assert second_verifier.verify(folder, [key.public.text()])[0] == "ok"


def test_expiry_that_was_interrupted_goes_on(store, make, age):
    store.append_many([make(number) for number in range(6)])
    age(61)
    times = retention.load()
    assert retention.announce(store, times, NOW, by=KEEPER) == 6  # and then it was killed
    assert store.verify().ok
    assert retention.announce(store, times, NOW, by=KEEPER) == 0
    assert retention.drop(store, times, NOW, store.head()[0]) == 6
    assert len(store.events(kind="audit.expired")) == 1
    assert store.verify().ok


def test_an_announcement_drops_nothing_whose_time_is_not_over(store, make):
    """Whoever can append could announce the whole log. No verifier would believe it, so nothing goes by it, then or later."""
    store.append_many([make(number) for number in range(4)])
    times = retention.load()
    store.append(retention._event("default", times.classes["default"], [[0, 3]], NOW, KEEPER))
    assert retention.drop(store, times, NOW, store.head()[0]) == 0
    assert retention.drop(store, times, later(61), store.head()[0]) == 0
    assert retention.announce(store, times, later(61), by=KEEPER) == 4  # it is announced anew


def test_contents_that_go_without_a_record_are_found(store, make):
    store.append_many([make(number) for number in range(4)])
    store.database.transact(
        lambda connection: connection.execute(EVENTS.update().where(EVENTS.c.seq == 2).values(entry=None)), write=True)
    report = store.verify()
    assert report.line() == "integrity: TAMPERED at event 2: its contents are gone and no audit.expired event that counts says so"


@given(st.sets(st.integers(0, 60)), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=6))
def test_what_is_unexplained_is_the_first_that_no_range_covers(without, drawn):
    ranges = [[first, first + more] for first, more in drawn]
    expired = Expired()
    for seq in sorted(without):
        expired.gone(seq, "")
    expired.read(100, {"kind": "audit.expired", "body": {"months": 60, "ranges": ranges}})
    covered = {seq for first, last in ranges for seq in range(first, last + 1)}
    assert expired.unexplained() == min(without - covered, default=None)


def test_a_range_into_the_future_explains_nothing():
    expired = Expired()
    expired.gone(4, "")
    expired.read(5, {"kind": "audit.expired", "body": {"months": 60, "ranges": [[0, 10**12], [5, 5]]}})
    assert expired.unexplained() == 4


@pytest.mark.parametrize("months", [None, 0, 1201, 60.0, "60", True])
def test_an_announcement_without_its_months_explains_nothing(months):
    expired = Expired()
    expired.gone(4, "")
    expired.read(5, {"kind": "audit.expired", "body": {"months": months, "ranges": [[4, 4]]}})
    assert expired.unexplained() == 4


@given(st.sets(st.integers(0, 60)), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=6))
def test_numbers_within_ranges(numbers, drawn):
    ranges = sorted((first, first + more) for first, more in drawn)
    expected = [seq for seq in sorted(numbers) if any(first <= seq <= last for first, last in ranges)]
    assert list(retention._within(sorted(numbers), ranges)) == expected


@given(st.sets(st.integers(0, 200)))
def test_ranges_say_what_the_numbers_say(numbers):
    ranges = retention.ranges_of(sorted(numbers))
    assert {seq for first, last in ranges for seq in range(first, last + 1)} == numbers
    assert all(right[0] > left[1] + 1 for left, right in pairwise(ranges))
