"""What belongs to the chain of a model's moves, and what somebody who may append only wrote beside it."""

import sqlite3
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audit.conftest import MOMENT

from airgate.audit import stage_chain
from airgate.audit.entry import StoredEvent
from airgate.audit.event import Actor, AuditEvent
from airgate.audit.stage_chain import Chain, claim_id, follow, settling_id
from airgate.audit.store import AuditStore

MODEL = "m"


class Log:
    """Moves as Airgate writes them, and whatever else is appended."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.settled = ""

    def add(self, kind: Any, event_id: UUID, **body: Any) -> str:
        self.events.append(AuditEvent(event_id=event_id, kind=kind, occurred_at=MOMENT, actor=Actor(kind="system", name="x"),
                                      model=MODEL, version="1", source="operator", body=body))
        return str(event_id)

    def claim(self, to: str) -> UUID:
        claim = claim_id(MODEL, self.settled)
        self.add("stage.moving", claim, to_version=to, previous=self.settled)
        return claim

    def move(self, to: str, kind: Any = "stage.moved") -> None:
        claim, before = self.claim(to), self.settled
        self.settled = self.add(kind, settling_id(claim), to_version=to, previous=before)

    def read(self, without: tuple[int, ...] = (), expired: frozenset[str] | None = None) -> Chain:
        return follow(MODEL, [StoredEvent(seq, event, MOMENT, b"", b"") for seq, event in enumerate(self.events)
                              if seq not in without], expired)


def versions(chain: Chain) -> list[str | None]:
    return [move.body.to_version for move in chain.moves]


GARBAGE: dict[str, Any] = {"cause": "hm", "window": 7}
FORGERIES = {
    "no move before it": {"to_version": "9"}, "a move that never was before it": {"to_version": "9", "previous": str(uuid4())},
    "the first again": {"to_version": "9", "previous": ""}, "unreadable": GARBAGE}


@pytest.mark.parametrize("body", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("kind", ["stage.moved", "stage.reverted"])
@pytest.mark.attack("a move is written into the log beside the chain")
def test_what_is_no_link_counts_for_nothing_and_the_chain_goes_on(kind: Any, body: dict[str, Any]) -> None:
    log = Log()
    log.move("1")
    log.add(kind, uuid4(), **body)
    log.move("2")
    chain = log.read(expired=frozenset())
    assert (versions(chain), chain.reverted, chain.strays) == (["1", "2"], (), (2,))
    assert (chain.settled, chain.claim) == (log.settled, None)


@pytest.mark.attack("a move that never was is made up as the one before")
def test_a_forged_move_with_the_ids_of_a_chain_that_never_was() -> None:
    log = Log()
    log.move("1")
    made_up = str(uuid4())
    log.add("stage.moved", settling_id(claim_id(MODEL, made_up)), to_version="9", previous=made_up)
    assert versions(log.read(expired=frozenset())) == ["1"]
    log.move("2")
    assert versions(log.read(expired=frozenset())) == ["1", "2"]


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("taken", ["claim", "settling"])
@pytest.mark.attack("the ids of coming moves are taken with nonsense")
def test_a_link_that_cannot_be_read_moves_nothing_and_does_not_end_the_chain(taken: str, ahead: int) -> None:
    """Also where its id was taken before its turn."""
    log = Log()
    log.move("1")
    before = log.settled
    for _ in range(ahead):
        before = str(settling_id(claim_id(MODEL, before)))
    claim = claim_id(MODEL, before)
    squat = log.add("stage.moving" if taken == "claim" else "stage.moved", claim if taken == "claim" else settling_id(claim),
                    **GARBAGE)
    for _ in range(ahead):
        log.move("2")
    chain = log.read(expired=frozenset())
    assert (versions(chain), chain.settled, chain.claim, chain.strays) == (["1", *["2"] * ahead], squat, None, (2,))
    log.settled = squat
    log.move("3")
    assert versions(log.read(expired=frozenset())) == ["1", *["2"] * ahead, "3"]


def test_records_of_release_0_2_0_come_before_the_chain_and_never_after_it() -> None:
    log = Log()
    log.add("stage.moving", uuid4(), to_version="1")
    log.add("stage.moved", uuid4(), to_version="1")
    log.settled = log.add("stage.moved", uuid4(), to_version="2")
    log.move("3")
    log.add("stage.moved", uuid4(), to_version="9")
    chain = log.read(expired=frozenset())
    assert (versions(chain), chain.strays) == (["1", "2", "3"], (5,))


def test_an_open_claim_of_a_chain_that_begins_with_garbage() -> None:
    log = Log()
    log.add("stage.moved", uuid4(), **GARBAGE)
    claim = log.claim("1")
    found = log.read().claim
    assert found and found.event.event_id == claim


@given(kinds=st.lists(st.sampled_from(["stage.moved", "stage.reverted"]), max_size=8), data=st.data())
def test_whatever_expired_the_newest_moves_are_the_same(kinds: list[Any], data: st.DataObject) -> None:
    """What expires is of any age, but the newest move of a stage and the chain's last link do not."""
    log = Log()
    for number, kind in enumerate(kinds):
        log.move(str(number), kind)
    whole = log.read(expired=frozenset())
    kept = {item.seq for item in (*whole.moves[-1:], *whole.reverted[-1:]) if item.event_id == whole.settled} | {
        move.seq for move in whole.moves[-1:]}
    gone = data.draw(st.sets(st.sampled_from(sorted(set(range(len(log.events))) - kept)))) if len(log.events) > len(kept) else ()
    expired = frozenset(str(log.events[seq].event_id) for seq in gone)
    for known in (expired, None):
        found = log.read(tuple(gone), known)
        assert [move for move in whole.moves if move.seq not in gone] == list(found.moves)
        assert (found.settled, found.claim, found.strays) == (whole.settled, None, ())


def test_what_expired_is_known_from_the_log(tmp_path: Any) -> None:
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    log = Log()
    for version in "123":
        log.move(version)
    store.append_many(log.events)
    with closing(sqlite3.connect(tmp_path / "audit.db")) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE airgate_events SET entry = NULL WHERE seq < 4")
    assert stage_chain.expired_ids(store, MODEL) == {str(event.event_id) for event in log.events[:4]}
    chain = stage_chain.read(store, MODEL)
    assert (versions(chain), chain.settled, chain.strays) == (["3"], log.settled, ())
