"""Where keys come from, and what is said when they are missing, wrong or no keys."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.encryption.conftest import NEW, OLD, ring

from airgate.contracts.fork_protocol import step_environment
from airgate.encryption import keys
from airgate.encryption.keys import KeyRing, KeyService, KeySources, WrongKeyError
from airgate.errors import ConfigError

ID = "ab" * 32


class Vault:
    """A key management service as somebody might write one: it keeps its key to itself."""

    current = "vault/airgate"

    def __init__(self, argument: str) -> None:
        self._ring = KeyRing({self.current: argument.encode().ljust(32, b".")})

    def holds(self, name: str) -> bool:
        return name == self.current

    def wrap(self, data_key: bytes, data_key_id: str) -> bytes:
        return self._ring.wrap(data_key, data_key_id)

    def unwrap(self, name: str, wrapped: bytes, data_key_id: str) -> bytes:
        return self._ring.unwrap(name, wrapped, data_key_id)


class NoVault:
    def __init__(self, argument: str) -> None:
        pass


@given(st.binary(min_size=32, max_size=32), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_what_was_wrapped_is_unwrapped(data_key: bytes, data_key_id: str) -> None:
    held = ring(OLD)
    wrapped = held.wrap(data_key, data_key_id)
    assert held.unwrap("2026-01", wrapped, data_key_id) == data_key
    assert data_key not in wrapped and held.wrap(data_key, data_key_id) != wrapped


def test_a_wrapped_key_stands_for_no_other_and_for_no_other_bytes() -> None:
    held = ring(OLD)
    wrapped = held.wrap(bytes(32), ID)
    for given_bytes, name in ((wrapped, "cd" * 32), (wrapped[:-1] + b"x", ID), (wrapped[:20], ID), (b"", ID)):
        with pytest.raises(WrongKeyError, match="the key '2026-01' of AIRGATE_STORE_KEYS does not open it: here it is another"):
            held.unwrap("2026-01", given_bytes, name)


def test_the_first_key_wraps_and_all_unwrap() -> None:
    both = ring(NEW, OLD)
    assert both.current == "2026-02"
    assert both.unwrap("2026-01", ring(OLD).wrap(b"k" * 32, ID), ID) == b"k" * 32


def test_a_key_that_is_not_here_is_named_with_the_nearest() -> None:
    with pytest.raises(WrongKeyError, match=r"needs the key '2026-01', .* did you mean '2026-02'\? Allowed: 2026-02"):
        ring(NEW).unwrap("2026-01", b"", ID)


def test_from_a_file_a_variable_and_a_service_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the current key first\n\n{NEW}\n")
    monkeypatch.setenv("AIRGATE_STORE_KEY_RING", OLD)
    monkeypatch.setenv("AIRGATE_STORE_KEYS", f"file:{file}, env:AIRGATE_STORE_KEY_RING,kms:{__name__}:Vault?s3cr3t")
    held = keys.from_settings()
    assert held is not None and held.current == "2026-02" and held.names() == ["2026-02", "2026-01"]
    assert all(map(held.holds, ("2026-01", "2026-02", "vault/airgate"))) and not held.holds("2025")
    assert held.unwrap("vault/airgate", Vault("s3cr3t").wrap(b"k" * 32, ID), ID) == b"k" * 32


def test_nothing_is_encrypted_where_nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRGATE_STORE_KEYS", raising=False)
    assert keys.from_settings() is None and keys.load(" , ") is None


def test_a_step_sees_the_reference_and_the_variable_it_names() -> None:
    variables = {"AIRGATE_STORE_KEYS": "env:AIRGATE_STORE_KEY_RING", "AIRGATE_STORE_KEY_RING": OLD, "AIRGATE_AUDIT_KEY": "file:k"}
    assert set(step_environment(variables)) == {"AIRGATE_STORE_KEYS", "AIRGATE_STORE_KEY_RING"}


SECRET = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(("source", "said"), [
    (SECRET, "never the key itself; Allowed: env, file, kms"),
    (f"2026-01:{SECRET}", "never the key itself"),
    ("flie:/etc/keys", r"did you mean 'file'\? Allowed: env, file, kms"),
    ("file:/nowhere/keys", "names the file /nowhere/keys, which cannot be read: No such file"),
    ("env:AIRGATE_STORE_KEY_NONE", "names the variable AIRGATE_STORE_KEY_NONE, which is not set. In a pod it comes from"),
    ("env:OTHER", "must begin with AIRGATE_STORE_KEY, such as AIRGATE_STORE_KEY_RING"),
    ("env:AIRGATE_STORE_KEYS", "must begin with AIRGATE_STORE_KEY, such as"),
    (f"env:AIRGATE_STORE_KEY {SECRET}", "must begin with AIRGATE_STORE_KEY, such as"),
    ("kms:nowhere.at.all:Vault", "kms:nowhere.at.all:Vault cannot be loaded: No module named 'nowhere'. Allowed: kms:"),
    ("kms:os", "cannot be loaded: no factory is named"),
    ("kms:os:nothing", "cannot be loaded: module 'os' has no attribute 'nothing'"),
    (f"kms:{__name__}:NoVault", "gave a NoVault, which does not wrap keys. It must offer what airgate.encryption.keys"),
    ("kms:airgate.encryption.aws_kms:AwsKms", "which key of AWS KMS"),
])
def test_a_wrong_reference_is_explained_and_no_key_repeated(source: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        keys.load(source)
    assert SECRET not in str(caught.value) and "AIRGATE_STORE_KEYS" in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [
    ("", "keys holds no key; `airgate store keygen FILE NAME` makes one"),
    (SECRET, "line 1: not a key. Allowed: a name of"),
    (f"\n\u0430 {SECRET}", "line 2: not a key"),
    ("2026-01 " + base64.b64encode(bytes(16)).decode(), "32 random bytes in base64"),
    ("2026-01 nonsense!", "line 1: not a key"),
    (f"{OLD}\n{OLD}", "line 2: a second key named '2026-01'; name each key once"),
])
def test_a_line_that_is_no_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        keys.parse(text, "keys")
    assert SECRET not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(os.urandom(8) + b"\xff")
    with pytest.raises(ConfigError, match="is no text of key lines"):
        keys.load(f"file:{tmp_path}/keys")


def test_two_sources_cannot_hold_one_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two sources hold a key named '2026-01'"):
        KeySources([keys.parse(OLD, "a"), keys.parse(OLD, "b")])


def test_a_ring_shows_names_only() -> None:
    assert repr(keys.parse(OLD, "a")) == "KeyRing(2026-01)"
    assert isinstance(keys.parse(OLD, "a"), KeyService)


def test_a_new_line_is_a_key() -> None:
    assert keys.parse(keys.new_line("a.b"), "new").names() == ["a.b"]
    with pytest.raises(ConfigError, match="'a b' names no key. Allowed: 1 to 64 letters"):
        keys.new_line("a b")
