import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airgate.audit import signing
from airgate.errors import ConfigError

NAME = "audit.example.org/airgate"


@pytest.fixture
def key(tmp_path):
    signing.write_new(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def test_a_new_key_signs(key):
    assert key.stat().st_mode & 0o777 == 0o600
    signer = signing.load(f"file:{key}", NAME)
    line = signer.signature_line(b"text\n").decode()
    assert line.startswith(f"\u2014 {NAME} ")
    assert line.endswith("\n")
    assert signer.public.name == NAME
    assert "PRIVATE" not in repr(signer)


def test_from_a_variable(key, monkeypatch):
    monkeypatch.setenv("A_SECRET", key.read_text())
    assert signing.load("env:A_SECRET", NAME).public == signing.load(f"file:{key}", NAME).public


def test_a_key_is_never_overwritten(key):
    before = key.read_bytes()
    with pytest.raises(ConfigError, match="is there already; a key is never overwritten. Name another file"):
        signing.write_new(key)
    assert key.read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        signing.write_new(key.parent / "no folder" / "key.pem")


@pytest.mark.parametrize(("source", "message"), [
    (None, "no key signs the audit log's checkpoints: set AIRGATE_AUDIT_KEY to file:PATH or env:VARIABLE"),
    ("", "no key signs"),
    ("MC4CAQAwBQYDK2VwBCIEIHNlY3JldHNlY3JldHNlY3JldA==", "must be file:PATH or env:VARIABLE; Allowed: env, file"),
    ("flie:/x", "must be file:PATH or env:VARIABLE; did you mean 'file'?"),
    ("env:NOT_SET_ANYWHERE", "names the variable NOT_SET_ANYWHERE, which is not set"),
    ("file:/nowhere/key", "names the file /nowhere/key, which cannot be read: No such file"),
])
def test_a_wrong_source_is_explained_and_never_shown_where_it_may_be_the_key(source, message):
    with pytest.raises(ConfigError, match=message) as caught:
        signing.load(source, NAME)
    assert "MC4CAQ" not in str(caught.value)


def pem(key, password=None):
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(("text", "message"), [
    (b"", "holds no private key in PEM without a password"),
    (os.urandom(100), "holds no private key in PEM"),
    (pem(Ed25519PrivateKey.generate(), b"word"), "holds no private key in PEM without a password"),
    (pem(ec.generate_private_key(ec.SECP256R1())), "holds a key that is not Ed25519"),
], ids=["empty", "noise", "encrypted", "another kind"])
def test_a_file_without_a_fitting_key(tmp_path, text, message):
    (tmp_path / "k").write_bytes(text)
    with pytest.raises(ConfigError, match=message + ".*`airgate audit keygen FILE` makes one"):
        signing.load(f"file:{tmp_path}/k", NAME)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_a_name_that_no_note_can_carry(key, name):
    with pytest.raises(ConfigError, match="it names the log in every checkpoint: some text without spaces and '\\+'"):
        signing.load(f"file:{key}", name)
