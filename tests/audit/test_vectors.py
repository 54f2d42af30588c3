"""The worked examples of docs/audit-format.md: our code makes and reads them, and the page shows them as they are."""

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airgate.audit import merkle
from airgate.audit.canonical_json import dumps, loads
from airgate.audit.entry import columns_in
from airgate.audit.event import event_id_of
from airgate.audit.signing import signer_of
from airgate.audit.subjects import Subject, Subjects
from airgate.audit.verifier import Note

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests" / "golden" / "audit_vectors.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "audit-format.md").read_text("utf-8")
LEAVES = [merkle.leaf_hash(case["leaf"].encode()) for case in VECTORS["leaves"]]
SIGNERS = [signer_of(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["seed"])), "audit.example.org/airgate")
           for case in VECTORS["keys"]]


def test_leaves_roots_and_proofs():
    assert [leaf.hex() for leaf in LEAVES] == [case["hash"] for case in VECTORS["leaves"]]
    assert [merkle.root_of(LEAVES[:size]).hex() for size in range(6)] == VECTORS["roots"]
    case = VECTORS["inclusion"]
    assert [node.hex() for node in merkle.inclusion_proof(LEAVES, case["index"])] == case["proof"]
    case = VECTORS["consistency"]
    assert [node.hex() for node in merkle.consistency_proof(LEAVES, case["old"])] == case["proof"]


@pytest.mark.parametrize("case", VECTORS["leaves"], ids=lambda case: loads(case["leaf"].encode())["event"]["kind"])
def test_a_leaf_is_canonical(case):
    record = json.loads(case["leaf"])
    event = record["event"]
    plain, _ = Subjects().opened(event)
    assert columns_in(plain)["event_id"] == event["event_id"]
    assert b'"event":' in dumps({"event": {key: value for key, value in event.items() if key not in ("body", "actor")}})


def test_keys_and_notes():
    assert [signer.public.text() for signer in SIGNERS] == [case["vkey"] for case in VECTORS["keys"]]
    old, new = SIGNERS
    first, second = (Note.parse(case["note"].encode()) for case in VECTORS["notes"])
    assert first.raw == first.text + b"\n" + old.signature_line(first.text)
    assert second.raw == second.text + b"\n" + new.signature_line(second.text) + old.signature_line(second.text)
    assert second.previous == sha256(first.raw).digest()
    assert [first.root.hex(), second.root.hex()] == [VECTORS["roots"][2], VECTORS["roots"][5]]


@pytest.mark.parametrize("case", VECTORS["event_ids"], ids=lambda case: case["parts"][-1])
def test_event_ids(case):
    assert str(event_id_of(*case["parts"])) == case["event_id"]


def test_a_sealed_text():
    case = VECTORS["sealed"]
    subject = Subject(case["subject"], "ana", bytes.fromhex(case["key"]))
    assert subject.open(case["event_id"], case["path"], case["box"]) == case["text"]
    assert subject.seal(case["event_id"], case["path"], case["text"])["$sealed"]["box"] == case["box"]


def test_the_page_shows_them_as_they_are():
    shown = [VECTORS["leaves"][1]["leaf"], VECTORS["leaves"][0]["hash"], VECTORS["leaves"][1]["hash"], VECTORS["roots"][2],
             VECTORS["roots"][5], VECTORS["keys"][0]["vkey"], VECTORS["notes"][0]["note"], VECTORS["sealed"]["box"],
             VECTORS["sealed"]["seal_key"], *(case["event_id"] for case in VECTORS["event_ids"]),
             b64encode(sha256(VECTORS["notes"][0]["note"].encode()).digest()).decode()]
    assert [text for text in shown if text not in PAGE] == []
