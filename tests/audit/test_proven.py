"""What an answer stands on: proofs that whoever gets them can check, and no answer from a log that was changed."""

import json
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit.under_attack import InDatabase

from airgate.audit import checkpoints, proven, signing, verifier
from airgate.audit.proven import Evidence
from airgate.errors import AuditError

ORIGIN = "audit.example.org/airgate"


@pytest.fixture
def signed(store, make):
    """Five events under a checkpoint (the first is the key's), two after it."""
    key = Ed25519PrivateKey.generate()
    store.append_many([make(number) for number in range(4)])
    signer = signing.signer_of(key, ORIGIN)
    note = checkpoints.checkpoint(store, signer)
    store.append_many([make(number) for number in range(4, 6)])
    return store, note, signer


def test_events_are_proven_under_the_newest_checkpoint_and_later_ones_say_so(signed):
    store, note, signer = signed
    found = proven.evidence(store, [6, 1, 0, 1])
    assert [proof["index"] for proof in found.signed] == [0, 1]
    assert [proof["index"] for proof in found.unsigned] == [6]
    assert found.line() == (f"proof: events 0, 1 are in the tree of 5 that {ORIGIN} signed at "
                            f"{note.time[:16].replace('T', ' ')}; event 6 is not signed yet (`airgate audit checkpoint` signs)")
    told = json.loads(json.dumps(found.as_json()))
    note_again, key = verifier.Note.parse(told["checkpoint"].encode()), verifier.VerifierKey.parse(told["key"])
    assert note_again.signed_by(key) and key == signer.public
    for proof in told["events"][:2]:
        leaf = verifier.leaf_hash(proof["entry"].encode())
        hashes = [bytes.fromhex(node) for node in proof["proof"]]
        assert verifier.verify_inclusion(leaf, proof["index"], note_again.size, hashes, note_again.root)
    assert [proof["signed"] for proof in told["events"]] == [True, True, False]


def test_without_a_checkpoint_nothing_is_signed(store, make):
    store.append(make(0))
    found = proven.evidence(store, [0])
    assert (found.note, found.signed, len(found.unsigned)) == (None, (), 1)
    assert found.as_json()["checkpoint"] is None
    assert proven.evidence(store, []).line() == "proof: nothing is on record, so there is nothing to prove"


def test_many_events_are_named_and_counted(store, make):
    store.append_many([make(number) for number in range(12)])
    assert "events 0, 1, 2, 3, 4, 5, 6, 7 and 4 more are not signed yet" in proven.evidence(store, range(12)).line()


def test_an_event_that_is_not_there_cannot_be_proven(signed):
    with pytest.raises(AuditError, match="there is no event 7 among the first 7; allowed: 0 to 6"):
        proven.evidence(signed[0], [7])


@pytest.mark.parametrize("whole_tree", [False, True])
def test_a_changed_leaf_gives_no_answer(signed, url, whole_tree):
    store = signed[0]
    with closing(InDatabase(url)) as owner:
        owner.put(1, owner.leaves()[1].replace(b'"t1"', b'"t9"'), hash_too=whole_tree)
        if whole_tree:  # and every hash above it; only the signature is what the owner cannot make
            owner.agree()
    for asked in ([1], [0, 1]):
        with pytest.raises(AuditError, match="is not the one that was recorded: its bytes do not lead to the root over 5 events"):
            proven.evidence(store, asked)
    assert proven.evidence(store, []).note is not None


def test_a_checkpoint_by_another_key_gives_no_answer(signed):
    store, note, _ = signed
    other = signing.signer_of(Ed25519PrivateKey.generate(), ORIGIN)
    found = proven.evidence(store, [0])
    forged = verifier.Note.parse(note.text + b"\n" + other.signature_line(note.text))
    for key in (found.key, None):
        with pytest.raises(AuditError, match="the checkpoint over 5 events is not signed by the key that was in force"):
            Evidence(forged, key, found.signed, ()).check()


def test_the_configured_key_must_be_the_one_in_force(signed, tmp_path, monkeypatch):
    signing.write_new(tmp_path / "other.pem")
    monkeypatch.setenv("AIRGATE_AUDIT_KEY", f"file:{tmp_path}/other.pem")
    with pytest.raises(AuditError, match="the key in force is not the configured one"):
        proven.evidence(signed[0], [0])
