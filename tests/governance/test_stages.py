from datetime import UTC, datetime
from typing import Any

import pytest

from airgate.audit.entry import StoredEvent
from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of
from airgate.audit.store import AuditStore
from airgate.governance import stages
from airgate.governance.stages import Stages

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
MODEL = "m"


class Chain:
    """A log of moves, each with its claim, made as `lifecycle.moves` makes them."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.settled = ""

    def claim(self, **body: Any) -> AuditEvent:
        return self.add("stage.moving", stages.claim_id(MODEL, self.settled), body)

    def move(self, to: str | None, cause: str = "promotion", kind: Any = "stage.moved", **body: Any) -> AuditEvent:
        body = {"cause": cause, "to_version": to, "request_digest": f"r{to}", **body}
        event = self.add(kind, stages.settling_id(self.claim(**body).event_id), body)
        self.settled = str(event.event_id)
        return event

    def add(self, kind: Any, event_id: Any, body: dict[str, Any], actor: str = "ana") -> AuditEvent:
        task = TaskRef(dag_id="m_promotion", run_id=f"p{len(self.events)}", task_id="apply", try_number=1)
        event = AuditEvent(event_id=event_id, kind=kind, occurred_at=NOW, actor=Actor(kind="user", name=actor), task=task,
                           model=MODEL, version="1", source="operator", body=body)
        self.events.append(event)
        return event

    def read(self) -> Stages:
        return stages.of_events(MODEL, [StoredEvent(seq, event, NOW, b"", b"") for seq, event in enumerate(self.events)])


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_a_model_that_nothing_is_known_of() -> None:
    now = stages.of_events("x", [])
    state = now.state()
    assert (state.version, state.digest, state.moved, now.settled, now.claim) == (None, None, None, "", None)


def test_the_newest_move_of_a_stage_decides(chain: Chain) -> None:
    chain.move("1", model_digest="d1")
    second = chain.move("2", model_digest="d2")
    chain.move("1", "archiving", stage="archived")
    state = chain.read().state()
    assert (state.version, state.digest, state.moved and state.moved.event) == ("2", "d2", second)
    assert chain.read().stages == {"production": "2", "archived": "1"}
    assert [chain.read().stage_of(version) for version in "123"] == ["archived", "production", None]


def test_an_open_claim_is_seen_until_it_is_settled_either_way(chain: Chain) -> None:
    chain.move("1")
    claim = chain.claim(to_version="2")
    assert chain.read().claim and chain.read().claim.event == claim
    chain.add("stage.reverted", stages.settling_id(claim.event_id), {"to_version": "2", "reason": "gone"})
    now = chain.read()
    assert (now.claim, now.state().version, [move.body.reason for move in now.reverted]) == (None, "1", ["gone"])
    assert stages.claim_id(MODEL, now.settled) != claim.event_id


def test_the_ids_depend_on_nothing_but_what_they_follow() -> None:
    assert stages.claim_id("m", "") == event_id_of("stage.moving", "m", "")
    assert stages.claim_id("m", "") != stages.claim_id("n", "")
    assert stages.settling_id(stages.claim_id("m", "")) == event_id_of("stage.settled", str(stages.claim_id("m", "")))


def test_records_of_release_0_2_0_are_promotions_to_production_and_the_chain_goes_on_from_them(chain: Chain) -> None:
    old = {"from_version": None, "to_version": "1", "stage": "production", "model_digest": "d1", "request_digest": "r1",
           "data_revision": "c0ffee", "window": {"start": "2026-01-08", "end": "2026-01-09"}}
    chain.add("stage.moving", event_id_of("m_promotion", "p", "apply", -1, "stage.moving"), old)
    moved = chain.add("stage.moved", event_id_of("m_promotion", "p", "apply", -1, "stage.moved"),
                      {**old, "approvers": [{"role": "risk_officer", "user": "omar"}]})
    # begun and refused: release 0.2.0 left such claims open for ever
    chain.add("stage.moving", event_id_of("m_promotion", "q", "apply", -1, "stage.moving"), {**old, "to_version": "2"})
    now = chain.read()
    live = now.state().moved
    assert live and (now.state().version, live.body.cause, now.settled) == ("1", "promotion", str(moved.event_id))
    assert now.claim is None
    assert live.who == ("omar",)
    chain.settled = now.settled
    chain.move("2", from_version="1")
    assert chain.read().state().version == "2"


@pytest.mark.parametrize(("history", "previous"), [
    ([], None), (["1"], None), (["1", "2"], "1"), (["1", "2", "3"], "2"),
    (["1", "2", "3", "back 2"], "1"),  # not 3, which was left
    (["1", "2", "3", "back 2", "back 1"], None), (["1", "2", "3", "back 2", "4"], "2"),
    (["1", "2", "demote"], "1"), (["1", "demote"], None), (["1", "2", "back 1", "demote"], None),
    (["1", "2", "3", "archive 2"], "1"), (["1", "2", "archive 1"], None), (["1", "2", "1"], "2"), (["1", "2", "2"], "1"),
])
def test_what_a_rollback_goes_back_to(chain: Chain, history: list[str], previous: str | None) -> None:
    for act in history:
        word, _, version = act.rpartition(" ")
        if act == "demote":
            chain.move(None, "demotion")
        elif word == "archive":
            chain.move(version, "archiving", stage="archived")
        else:
            chain.move(version, "rollback" if word else "promotion")
    found = chain.read().previous()
    assert (found and found.body.to_version) == previous
    assert found is None or found.body.cause == "promotion"


def test_a_rollback_goes_further_back_than_what_cannot_be_used(chain: Chain) -> None:
    for version in "12345":
        chain.move(version)
    chain.move("4", "archiving", stage="archived")
    asked: list[str | None] = []

    def usable(move: stages.Move) -> bool:
        asked.append(move.body.to_version)
        return move.body.to_version == "2"

    found = chain.read().previous(usable)
    assert found and found.body.to_version == "2"
    assert asked == ["3", "2"]  # newest first, and no further than it must
    assert chain.read().previous(lambda _: False) is None


def test_a_request_leads_to_one_promotion_whatever_repeats_its_digest(chain: Chain) -> None:
    first = chain.move("1")
    chain.move("2")
    chain.move("1", "rollback", request_digest="r1")
    found = chain.read().promotion_of("r1")
    assert found and found.event == first
    assert chain.read().promotion_of("r3") is None


def test_a_move_in_words(chain: Chain) -> None:
    chain.move("1", approvers=[{"role": "ml_engineer", "user": "ana"}, {"role": "risk_officer", "user": "omar"}])
    chain.move(None, "demotion", from_version="1")
    assert [move.line() for move in chain.read().moves] == [
        "promotion of version 1 to production by run p1 of m_promotion (ana, omar)",
        "demotion of version 1 from production by run p3 of m_promotion (ana)"]


def test_read_from_a_log(store: AuditStore, chain: Chain) -> None:
    chain.move("5", "archiving", stage="archived")
    chain.claim(to_version="1")
    store.append_many(chain.events)
    now = stages.read(store, MODEL)
    assert now.claim and now.claim.event_id == str(chain.events[-1].event_id)
    assert stages.read(store, MODEL).archived == {"5"}
    assert stages.read(store, "other").settled == ""
