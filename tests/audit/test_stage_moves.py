"""The owner's own check of stage moves: what an outsider's verifier will find in an export is found here first."""

from hypothesis import given
from hypothesis import strategies as st
from tests.audit import second_verifier
from tests.audit.conftest import MOMENT, make_event

from airgate.audit import retention
from airgate.audit.completeness import Finding
from airgate.audit.stage_moves import unannounced
from airgate.audit.verifier import Moves, Step


def write(store, number, kind, request=None, **body):
    store.append(make_event(number, kind, model="tumour", version="3", body={"request_digest": request, **body}))


def test_a_move_that_was_approved_and_announced(store):
    for number, kind in enumerate(("promotion.approved", "promotion.approved", "stage.moving", "stage.moved")):
        write(store, number, kind, "a")
    assert list(unannounced(store)) == []


def test_a_move_without_its_approvals_is_named(store):
    write(store, 0, "stage.moving", "a")
    write(store, 1, "stage.moved", "a", to_version="3")
    assert list(unannounced(store)) == [
        Finding("number 1: stage.moved of tumour version 3 without promotion.approved before it", "tumour", "3")]


def test_a_demotion_needs_its_claim_only(store):
    claim = make_event(0, "stage.moving", model="tumour", body={"request_digest": None, "to_version": None})
    store.append(claim)
    write(store, 1, "stage.moved", to_version=None, claim=str(claim.event_id))
    write(store, 2, "stage.moved", to_version=None, claim="another")
    assert [finding.line for finding in unannounced(store)] == [
        "number 2: stage.moved of tumour version 3 without stage.moving before it"]


def test_an_approval_that_expired_may_have_been_there(store):
    for number, kind in enumerate(("promotion.approved", "stage.moving", "stage.moved")):
        write(store, number, kind, "a")
    retention._drop(store, 0, 0)
    [finding] = unannounced(store)
    assert finding.line.endswith("without promotion.approved before it (contents that expired may have held it)")


STEP = st.tuples(st.sampled_from(["promotion.approved", "stage.moving", "stage.moved"]), st.sampled_from([None, "a", "b"]),
                 st.sampled_from([{}, {"to_version": None}, {"to_version": "3"}, {"stage": "archived"}]), st.integers(0, 5))


@given(st.lists(STEP, max_size=7))
def test_both_verifiers_find_the_same(steps):
    moves, leaves, found = Moves(), [], set()
    for seq, (kind, request, more, claim) in enumerate(steps):
        event = {"event_id": str(seq), "kind": kind, "body": {"request_digest": request, "claim": str(claim), **more}}
        leaves.append(second_verifier.Leaf(seq, b"", event, MOMENT, MOMENT))
        if moves.take(Step.of(seq, kind, event)):
            found.add(seq)
    assert found == {int(gap.split()[1]) for gap in second_verifier.find_gaps([], leaves)}
