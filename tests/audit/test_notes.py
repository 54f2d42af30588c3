"""Signed notes and verifier keys as C2SP has them."""

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.audit.under_attack import note_by

from airgate.audit import merkle, signing
from airgate.audit.verifier import Note, VerifierKey, verify_consistency, verify_inclusion

NAME = "audit.example.org/airgate"
KEY = signing.signer_of(Ed25519PrivateKey.from_private_bytes(b"k" * 32), NAME)
OTHER = signing.signer_of(Ed25519PrivateKey.from_private_bytes(b"o" * 32), NAME)
RAW = note_by(KEY, [b"a", b"b"], b"the one before")
LINES = RAW.decode().split("\n")


@pytest.mark.parametrize("text", [  # as published for sum.golang.org, and in golang.org/x/mod/sumdb/note
    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
])
def test_keys_of_others_are_read(text):
    assert VerifierKey.parse(text).text() == text


def test_a_note_of_another_implementation_verifies():
    """The signature of golang.org/x/mod/sumdb/note's documentation."""
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = ("\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=")
    name, key_hash, signature = _signature(line)
    note = Note("", 0, b"", None, "", text, [(name, key_hash, signature)], b"")
    assert note.signed_by(key)
    assert not Note("", 0, b"", None, "", text + b"!", [(name, key_hash, signature)], b"").signed_by(key)


def _signature(line):
    raw = f"{NAME}\n2\n{'A' * 43}=\ntime 2026-01-01T00:00:00.000000Z\n\n{line}\n".encode()
    return Note.parse(raw).signatures[0]


def test_a_note_is_read():
    note = Note.parse(RAW)
    assert (note.origin, note.size, note.root) == (NAME, 2, merkle.root_of([merkle.leaf_hash(b"a"), merkle.leaf_hash(b"b")]))
    assert (note.time, note.raw) == ("2026-01-01T00:00:00.000000Z", RAW)
    assert note.signed_by(KEY.public)
    assert not note.signed_by(OTHER.public)


def test_more_signatures_by_others_change_nothing():
    text = Note.parse(RAW).text
    note = Note.parse(RAW + OTHER.signature_line(text) + "\u2014 witness AAAAAAA=\n".encode())
    assert note.signed_by(KEY.public)
    assert note.signed_by(OTHER.public)
    assert [name for name, _, _ in note.signatures] == [NAME, NAME, "witness"]


def test_of_several_signatures_by_one_key_all_must_be_right():
    text = Note.parse(RAW).text
    assert Note.parse(RAW + KEY.signature_line(text)).signed_by(KEY.public)
    assert not Note.parse(RAW + KEY.signature_line(b"something else")).signed_by(KEY.public)


@pytest.mark.parametrize(("raw", "reason"), [
    (b"x" * 70_000, "it has 70000 bytes; a checkpoint has 65536 at most"),
    (b"\xff", "it is not UTF-8"),
    (RAW.replace(b"\n", b"\r\n"), "it holds control characters"),
    (RAW[:-1], "it has no signature lines after an empty line, or ends within a line"),
    (Note.parse(RAW).text, "it has no signature lines"),
    (RAW + b"\n", "a signature line does not read"),
    (RAW.replace(b"previous", b"Previous"), "its fourth line does not begin with 'previous '"),
    (RAW.replace(b"\ntime", b"\nmore\ntime"), "its text has not the lines origin, size, root, previous"),
    (RAW.replace(NAME.encode(), b"", 1), "its first line, the origin, is empty"),
    (RAW.replace(b"\n2\n", b"\n02\n"), "its second line, the size, is '02'; allowed: a whole number below 10^19"),
    (RAW.replace(b"\n2\n", b"\n-2\n"), "its second line, the size, is '-2'"),
    (RAW.replace(b"\n2\n", "\n\u0662\n".encode()), "its second line, the size, is"),
    (RAW.replace(LINES[2].encode(), b"AAAA"), "its third line, the root, has 3 bytes; a SHA-256 has 32"),
    (RAW.replace(LINES[2].encode(), b"!"), "its third line, the root, is not base64"),
    (RAW.replace(LINES[2].encode(), b"A" * 42 + b"B="), "its third line, the root, is base64 with stray bits"),
    (RAW.replace(b"time 2026", b"time 26"), "its last line of text is not 'time YYYY"),
    (RAW.replace("\u2014".encode(), b"-"), "a signature line does not read '\u2014 KEY_NAME BASE64'"),
    (RAW + "\u2014 a+b AAAAAAA=\n".encode(), "a signature line does not read"),
    (RAW + "\u2014 a AAAA\n".encode(), "a signature is too short"),
    (RAW + "\u2014 a AAAAAAA=\n".encode() * 100, "it has more than 100 signatures"),
])
def test_what_is_no_checkpoint(raw, reason):
    with pytest.raises(ValueError, match="^" + re.escape(reason)):
        Note.parse(raw)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "'' is no verifier key; one reads NAME+HASH+BASE64"),
    ("a+b", "'a+b' is no verifier key"),
    ("a+00000000+!", "the verifier key is not base64"),
    ("a+00000000+AgAA", "the verifier key 'a' is not of kind 1, which is Ed25519"),
    ("a+00000000+AQAA", "an Ed25519 public key has 32 bytes, not 2"),
    (KEY.public.text().replace(KEY.public.hash.hex(), "00000000"), f"the verifier key '{NAME}' says that its hash is '00000000'"),
    ("a b+00000000+AQ" + "A" * 42, "a key's name is 'a b'; allowed: text without spaces and '+'"),
])
def test_what_is_no_key(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        VerifierKey.parse(text)


@given(st.binary(max_size=400))
def test_whatever_the_bytes_there_is_a_note_or_a_reason(data):
    with pytest.raises(ValueError, match="."):
        Note.parse(data)


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_any_byte_that_is_changed_breaks_the_note(at, bits):
    raw = RAW[:at] + bytes([RAW[at] ^ bits]) + RAW[at + 1 :]
    try:
        note = Note.parse(raw)
    except ValueError:
        return
    assert not note.signed_by(KEY.public)


@given(st.data())
def test_proofs_verify_here_as_there(data):
    """Two implementations of RFC 9162's verification, which share no code."""
    new = data.draw(st.integers(1, 70))
    old, index = data.draw(st.integers(1, new)), data.draw(st.integers(0, new - 1))
    leaves = [merkle.leaf_hash(b"%d" % number) for number in range(new)]
    roots = merkle.root_of(leaves[:old]), merkle.root_of(leaves)
    proof, inclusion = merkle.consistency_proof(leaves, old), merkle.inclusion_proof(leaves, index)
    assert verify_consistency(old, new, *roots, proof)
    assert verify_inclusion(leaves[index], index, new, inclusion, roots[1])
    for wrong in ([*proof, b"x" * 32], proof[1:], proof[::-1]):
        assert verify_consistency(old, new, *roots, wrong) == merkle.verify_consistency(old, new, *roots, wrong)
    for wrong in ([*inclusion, b"x" * 32], inclusion[1:], inclusion[::-1]):
        assert verify_inclusion(leaves[index], index, new, wrong, roots[1]) == merkle.verify_inclusion(
            leaves[index], index, new, wrong, roots[1])


def test_the_empty_tree_is_the_beginning_of_every_tree():
    assert verify_consistency(0, 3, b"", b"", [])
    assert not verify_consistency(0, 3, b"", b"", [b"x" * 32])
