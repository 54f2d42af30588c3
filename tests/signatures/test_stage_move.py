"""The statement that a stage is moved: for one claim, in one environment, and without people's names."""

import json
from base64 import b64encode
from typing import Any

import pytest

from airgate.errors import SignatureError
from airgate.signatures import dsse, stage_move, statement
from airgate.signatures.stage_move import SignedMove, facts

BODY: dict[str, Any] = {
    "cause": "rollback", "stage": "production", "from_version": "3", "to_version": "2", "model_digest": "sha256:" + "a" * 64,
    "previous": "b", "reason": "ana saw odd scores", "approvers": [{"role": "owner", "user": "omar"}], "claim": "c"}


@pytest.fixture
def said() -> SignedMove:
    return SignedMove(model="cats", claim="c", move=facts(BODY), environment="production")


def test_a_move_is_verified_as_it_was_signed(said, signer):
    envelope = stage_move.sign(said, signer).to_json()
    assert stage_move.verify(envelope, (signer.public,), environment="production") == said
    assert said.payload() == stage_move.verify(envelope, (signer.public,)).payload()


def test_neither_names_nor_words_of_people_are_signed(said):
    assert b"ana" not in said.payload() and b"omar" not in said.payload()


def test_what_a_later_release_knows_of_a_move_and_left_open_changes_nothing():
    assert facts(BODY) == facts({**BODY, "window": None, "something new": 1})
    assert facts({**BODY, "to_version": "1"}) != facts(BODY)
    with pytest.raises(SignatureError, match="is no move of a stage"):
        facts({"cause": "hm"})


def test_a_key_speaks_for_its_own_environment_alone(said, signer, staging):
    with pytest.raises(SignatureError, match="a key of 'staging' cannot speak for 'production'"):
        stage_move.sign(said, staging)
    envelope = stage_move.sign(said, signer).to_json()
    with pytest.raises(SignatureError, match=r"is not trusted here"):
        stage_move.verify(envelope, (staging.public,))
    with pytest.raises(SignatureError, match="signed for 'production', and this is 'staging'"):
        stage_move.verify(envelope, (signer.public,), environment="staging")


def test_a_promotion_is_no_move_and_a_move_no_promotion(said, signer, registration):
    with pytest.raises(SignatureError, match="is no statement about a stage's move: predicate 'https://airgate.io/predicates/reg"):
        stage_move.verify(statement.sign(registration, signer).to_json(), (signer.public,))
    with pytest.raises(SignatureError, match="what was signed is no statement about a model"):
        statement.verify(stage_move.sign(said, signer), (signer.public,))


@pytest.mark.parametrize("change", [
    lambda text: text.replace('"rollback"', '"demotion"'), lambda text: text.replace(":", ": ", 1),
    lambda text: text.replace('"name":"c"', '"name":"d"')])
def test_another_subject_or_spelling_is_refused_whoever_signed_it(said, signer, change):
    payload = change(said.payload().decode()).encode()
    assert payload != said.payload()
    with pytest.raises(SignatureError, match="another spelling than RFC 8785's, or of another subject"):
        stage_move.verify(dsse.sign(payload, statement.PAYLOAD_TYPE, signer).to_json(), (signer.public,))


@pytest.mark.parametrize("payload", [
    b"", b"[]", b"7", json.dumps({"predicateType": stage_move.MOVE_TYPE}).encode(), b"[" * 100_000])
def test_what_is_no_statement(signer, payload):
    with pytest.raises(SignatureError, match="is no statement about a stage's move"):
        stage_move.verify(dsse.sign(payload, statement.PAYLOAD_TYPE, signer).to_json(), (signer.public,))


def test_a_changed_envelope(said, signer):
    envelope = stage_move.sign(said, signer).to_json() | {"payload": b64encode(b"{}").decode()}
    with pytest.raises(SignatureError, match="one of them was changed"):
        stage_move.verify(envelope, (signer.public,))
