"""What was live when, and when that was known: pure answers from the events of the log."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.governance.chain import MODEL, Chain, clock, digest_of

from airgate.audit.event import Actor, AuditEvent, event_id_of
from airgate.errors import PromotionError
from airgate.governance import history
from airgate.governance.history import History
from airgate.governance.stages import Move, of_events


def told(chain):
    return History(chain.model, tuple(chain.events))


def versions(whole, **asked):
    return [period.version for period in whole.periods(**asked)]


def test_one_time_follows_the_other_and_the_last_one_lasts():
    chain = Chain()
    chain.promote("1", 10)
    chain.promote("2", 60)
    first, second = told(chain).periods()
    assert (first.version, first.digest, first.start, first.end) == ("1", digest_of("1"), clock(10), clock(60))
    assert (second.version, second.start, second.end, second.ended) == ("2", clock(60), None, None)
    assert first.ended == second.began


@pytest.mark.parametrize(("minute", "version"), [(9, None), (10, "1"), (59, "1"), (60, "2"), (600, "2")])
def test_what_was_live_at_a_moment(minute, version):
    chain = Chain()
    chain.promote("1", 10)
    chain.promote("2", 60)
    answer = told(chain).at(clock(minute))
    assert answer.version == version
    assert len(answer.seqs) == {None: 0, "1": 2, "2": 1}[version]


def test_a_record_that_came_late_changes_what_is_known_not_what_was_known():
    chain = Chain()
    chain.promote("1", 10)
    chain.promote("2", 60, known=90)  # it moved at 60 and the log got it at 90
    whole = told(chain)
    assert whole.at(clock(70)).version == "2"
    assert whole.at(clock(70), known_at=clock(70)).version == "1"
    assert whole.at(clock(70), known_at=clock(90)).version == "2"
    assert versions(whole.known(clock(89))) == ["1"]


def test_a_demotion_leaves_nothing_live_and_archiving_is_another_stage():
    chain = Chain()
    chain.promote("1", 10)
    chain.move(None, 20, cause="demotion", from_version="1", reason="wrong")
    chain.move("1", 30, cause="archiving", stage="archived", reason="old")
    whole = told(chain)
    assert versions(whole) == ["1", None]
    assert whole.periods()[1].digest is None
    assert versions(whole, stage="archived") == ["1"]
    assert whole.at(clock(25)).version is None
    assert whole.at(clock(25)).period is not None


def test_a_move_that_had_begun_is_told():
    chain = Chain()
    chain.promote("1", 10)
    chain.move("2", 20, settles=False)
    whole = told(chain)
    answer = whole.at(clock(25))
    assert (answer.version, answer.under_way.body.to_version) == ("1", "2")
    assert whole.at(clock(19)).under_way is None
    assert whole.at(clock(9.7)).under_way.body.to_version == "1"
    assert whole.at(clock(10)).under_way is None


def test_a_promotion_stands_on_its_request_approvals_and_signature_whoever_finished_it():
    chain = Chain()
    chain.promote("1", 10, finished_by="another run")
    chain.promote("2", 60)
    whole = told(chain)
    grounds = whole.grounds(whole.periods()[0].began)
    assert grounds.request.event.task.run_id == "p1"
    assert [item.event.body["user"] for item in grounds.approvals] == ["mia", "raj"]
    assert grounds.signed.event.version == "1"
    assert grounds.claim.event.kind == "stage.moving"
    assert grounds.reviewed is None
    assert len(grounds.seqs) == 5


def test_a_rollback_stands_on_the_promotion_that_put_its_version_there():
    chain = Chain()
    first = chain.promote("1", 10)
    chain.promote("2", 60)
    chain.move("1", 80, cause="rollback", reason="worse", approved_by=str(first.event_id), run="rb",
               request_digest=first.body["request_digest"])
    chain.add("stage.reviewed", 90, {"agreed": True}, run="rb", task_id="close")
    whole = told(chain)
    rolled = whole.periods()[2].began
    grounds = whole.grounds(rolled)
    assert grounds.request.event.task.run_id == "p1"
    assert len(grounds.approvals) == 2
    assert grounds.signed.event.version == "1"
    assert (grounds.claim.event.task.run_id, grounds.reviewed.event.kind) == ("rb", "stage.reviewed")
    assert rolled.who == ("ana",)


def test_moves_of_release_0_2_0_are_read_as_they_are():
    chain = Chain()
    body = {"from_version": None, "to_version": "1", "stage": "production", "model_digest": digest_of("1"),
            "request_digest": "sha256:" + "e" * 64, "approvers": [{"role": "owner", "user": "mia"}]}
    chain.add("promotion.requested", 5, {}, run="old", task_id="request")
    chain.add("stage.moving", 9, body, run="old")
    chain.settled = str(chain.add("stage.moved", 10, body, run="old").event_id)
    chain.promote("2", 60)
    whole = told(chain)
    assert versions(whole) == ["1", "2"]
    grounds = whole.grounds(whole.periods()[0].began)
    assert (grounds.request.seq, grounds.claim.seq) == (0, 1)
    assert whole.at(clock(9.5)).under_way is None
    assert whole.doubts() == []


def test_a_chain_raises_no_doubt_and_neither_does_one_whose_beginning_expired():
    chain = Chain()
    for number in range(4):
        chain.promote(str(number), 10 * number + 10)
    assert told(chain).doubts() == []
    late = chain.events[8:]
    assert late[0].event.kind != "stage.moved"
    assert History(MODEL, tuple(late)).doubts() == []


@pytest.mark.parametrize(("previous", "text"), [
    (None, "names no move before it, though the one before does"),
    ("", "does not follow the move before it: Airgate did not write it"),
    ("settled", "does not follow the move before it: Airgate did not write it"),
])
def test_a_move_that_somebody_wrote_by_hand_is_in_doubt(previous, text):
    chain = Chain()
    chain.promote("1", 10)
    body = {"cause": "promotion", "to_version": "9", "previous": chain.settled if previous == "settled" else previous}
    chain.add("stage.moved", 20, body, event_id=event_id_of("forged"))
    assert told(chain).doubts() == [f"event {len(chain.events) - 1} (stage.moved) {text}"]


def test_a_move_that_claims_an_earlier_time_does_not_come_before_the_one_it_follows():
    chain = Chain()
    chain.promote("1", 60)
    chain.promote("2", 10, known=61)
    first, second = told(chain).periods()
    assert (first.start, first.end, second.start) == (clock(60), clock(60), clock(60))
    assert second.backdated and not first.backdated
    assert told(chain).at(clock(60)).version == "2"


def test_what_the_guard_found_is_a_disturbance_and_no_move():
    chain = Chain()
    chain.promote("1", 10)
    chain.add("registry.changed", 20, {"what": "alias production", "before": "1", "after": "2"})
    whole = told(chain)
    assert [item.event.kind for item in whole.disturbances] == ["registry.changed"]
    assert versions(whole) == ["1"]
    chain.add("registry.changed", 21, {"what": "alias production", "restored": True})
    assert len(told(chain).disturbances) == 1


minutes = st.integers(0, 500)


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), minutes, minutes), max_size=12), minutes, minutes)
def test_at_every_moment_there_is_one_answer_and_the_past_of_the_log_never_changes(moves, when, known):
    chain = Chain()
    stored = 0
    for version, at, wait in moves:
        stored = max(stored, wait)  # the log's clock does not run backwards
        chain.move(version, at, known=stored, cause="promotion" if version else "demotion")
    whole = told(chain)
    periods = whole.periods()
    assert [period.version for period in periods] == [version for version, _, _ in moves]
    for period, after in pairwise(periods):
        assert period.start <= period.end == after.start
    assert sum(period.covers(clock(when)) for period in periods) == int(bool(periods) and periods[0].start <= clock(when))
    # What is known later begins with what was known before: moves are added, none is put in between.
    then = [period.began.event_id for period in whole.known(clock(known)).periods()]
    assert then == [period.began.event_id for period in periods][: len(then)]
    assert whole.at(clock(when), known_at=clock(stored)).version == whole.at(clock(when)).version
    assert whole.doubts() == []


def test_the_log_is_read_and_an_unknown_model_named_with_the_nearest(store):
    event = AuditEvent(event_id=event_id_of("x"), kind="gate.verdict", occurred_at=clock(0), actor=Actor(kind="system", name="x"),
                       model=MODEL, source="operator")
    store.append(event)
    assert history.read(store, MODEL).periods() == []
    chain = Chain()
    chain.promote("1", 10)
    for item in chain.events:
        store.append(item.event)
    whole = history.read(store, MODEL)
    assert versions(whole) == ["1"]
    assert whole.periods()[0].began.who == ("mia", "raj")
    assert of_events(MODEL, whole.events).state().moved.event_id == whole.periods()[0].began.event_id
    with pytest.raises(PromotionError) as caught:
        history.refuse_unknown(store, "tumor")
    assert str(caught.value) == "the audit log has nothing about a model 'tumor'; did you mean 'tumour'? Allowed: tumour"


def test_a_move_is_told_in_one_line():
    chain = Chain()
    chain.promote("1", 10)
    move = told(chain).periods()[0].began
    assert isinstance(move, Move)
    assert move.line() == "promotion of version 1 to production by run p1 of tumour_promotion (mia, raj)"
    assert move.stored_at - move.event.occurred_at == timedelta(0)
