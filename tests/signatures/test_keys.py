import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from airgate import settings
from airgate.audit.verifier import VerifierKey
from airgate.errors import ConfigError
from airgate.signatures import keys, private_key


@given(st.binary(min_size=32, max_size=32), st.text(min_size=1, max_size=20))
def test_a_public_key_has_the_form_of_the_logs_keys(raw, name):
    try:
        key = keys.signer_of(Ed25519PrivateKey.from_private_bytes(raw), name).public
    except ConfigError:
        return
    vkey = key.text()
    assert keys.PublicKey.parse(vkey) == key
    assert VerifierKey.parse(vkey).public == key.raw
    assert VerifierKey.parse(vkey).text() == vkey


@pytest.mark.parametrize(("text", "message"), [
    ("production", "'production' is no public key; one reads NAME+HASH+BASE64, as `airgate model key` prints it"),
    ("a+00000000+AQ==", "the public key of 'a' is damaged or not Ed25519"),
    ("a+00000000+not base64", "is damaged or not Ed25519"),
])
def test_what_is_no_public_key(text, message):
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        keys.PublicKey.parse(text)


def test_a_key_cannot_be_given_another_name(staging):
    renamed = staging.public.text().replace("staging", "production", 1)
    with pytest.raises(ConfigError, match="'production' says that its hash is .*A key speaks for one environment only"):
        keys.PublicKey.parse(renamed)


def test_signing_and_verifying(signer, staging):
    signature = signer.sign(b"text")
    assert signer.public.verifies(signature, b"text")
    assert not signer.public.verifies(signature, b"texT")
    assert not signer.public.verifies(b"", b"text")
    assert not staging.public.verifies(signature, b"text")
    assert "PRIVATE" not in repr(signer)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a,b", "a\nb"])
def test_an_environment_that_no_key_can_carry(name):
    with pytest.raises(ConfigError, match=r"it names the key that signs models: some text without spaces, ',' and '\+'"):
        keys.signer_of(Ed25519PrivateKey.generate(), name)


def test_without_a_key_nothing_is_signed():
    with pytest.raises(ConfigError, match="no key signs models: set AIRGATE_MODEL_KEY to file:PATH or env:VARIABLE"):
        keys.signer(None, "production")


def test_trust_is_a_list_or_a_file(tmp_path, signer, staging):
    one, other = signer.public, staging.public
    (tmp_path / "trust").write_text(f"# ours\n{one.text()}  # since May\n\n{other.text()}\n")
    for text in (f"{one.text()} {other.text()}", f"{one.text()},\n{other.text()}", f"file:{tmp_path}/trust",
                 keys.inline((one, other)), f"{one.text()} {one.text()} {other.text()}"):
        assert keys.parse_trust(text) == (one, other)
    assert keys.parse_trust("") == ()
    with pytest.raises(ConfigError, match="AIRGATE_MODEL_TRUST names the file .*nowhere, which cannot be read"):
        keys.parse_trust(f"file:{tmp_path}/nowhere")
    with pytest.raises(ConfigError, match="AIRGATE_MODEL_TRUST: 'noise' is no public key"):
        keys.parse_trust("noise")


def test_an_installation_trusts_its_own_key_and_those_it_names(tmp_path, monkeypatch, staging):
    private_key.write_new(tmp_path / "key.pem")
    monkeypatch.setenv("AIRGATE_ENVIRONMENT", "production")
    monkeypatch.delenv("AIRGATE_MODEL_TRUST", raising=False)
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{tmp_path}/key.pem")
    own = keys.signer(f"file:{tmp_path}/key.pem", "production").public
    assert keys.trusted(settings.load()) == (own,)
    assert keys.for_steps(settings.load()) == {"AIRGATE_MODEL_TRUST": own.text(), "AIRGATE_ENVIRONMENT": "production"}
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", staging.public.text())
    assert keys.trusted(settings.load()) == (own, staging.public)
    monkeypatch.delenv("AIRGATE_MODEL_KEY")
    assert keys.trusted(settings.load()) == (staging.public,)
    monkeypatch.delenv("AIRGATE_MODEL_TRUST")
    assert keys.for_steps(settings.load()) == {}
    with pytest.raises(ConfigError, match="no key is trusted, so no model can be verified: set AIRGATE_MODEL_TRUST"):
        keys.trusted(settings.load())
