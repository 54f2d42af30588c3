import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.errors import SignatureError
from airgate.signatures import dsse

TYPE = "http://example.com/HelloWorld"


def test_the_encoding_is_that_of_the_specification():
    # https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md, test vectors
    assert dsse.pae(TYPE, b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_a_signed_payload_comes_back(signer, staging):
    envelope = dsse.sign(b"hello world", TYPE, signer)
    assert dsse.verify(dsse.read(envelope.to_json()), TYPE, (staging.public, signer.public)) == (b"hello world", signer.public)
    assert dsse.sign(b"hello world", TYPE, signer).digest() == envelope.digest()
    assert set(envelope.to_json()) == {"payload", "payloadType", "signatures"}


def test_the_hint_is_not_believed(signer, staging):
    envelope = dsse.sign(b"x", TYPE, signer)
    hint = envelope.signatures[0].model_copy(update={"keyid": staging.public.keyid})
    lying = envelope.model_copy(update={"signatures": [hint]})
    assert dsse.verify(lying, TYPE, (staging.public, signer.public))[1] == signer.public


def test_one_of_several_signatures_is_enough(signer, staging):
    mine, other = dsse.sign(b"x", TYPE, signer), dsse.sign(b"x", TYPE, staging)
    both = mine.model_copy(update={"signatures": [*other.signatures, *mine.signatures]})
    assert dsse.verify(both, TYPE, (signer.public,))[1] == signer.public


def test_what_does_not_verify_is_explained(signer, staging):
    envelope = dsse.sign(b"hello", TYPE, signer)
    with pytest.raises(SignatureError, match=r"signed by production\+[0-9a-f]{8}, which is not trusted here; trusted: staging\+"):
        dsse.verify(envelope, TYPE, (staging.public,))
    with pytest.raises(SignatureError, match="which is not trusted here; trusted: none. If that key is to count here, add its"):
        dsse.verify(envelope, TYPE, ())
    changed = envelope.model_copy(update={"payload": base64.b64encode(b"hellO").decode()})
    with pytest.raises(SignatureError, match="does not fit the signed text: one of them was changed"):
        dsse.verify(changed, TYPE, (signer.public,))
    with pytest.raises(SignatureError, match="the envelope holds 'http://example.com/HelloWorld'; expected 'text/plain'"):
        dsse.verify(envelope, "text/plain", (signer.public,))
    retyped = envelope.model_copy(update={"payloadType": "text/plain"})
    with pytest.raises(SignatureError, match="does not fit the signed text"):
        dsse.verify(retyped, "text/plain", (signer.public,))


@pytest.mark.parametrize(("change", "message"), [
    ({"payload": "a"}, "payload is not base64"), ({"payload": "YR=="}, "payload is base64 with stray bits"),
    ({"signatures": []}, "this is no DSSE envelope: signatures"), ({"more": 1}, "this is no DSSE envelope: more"),
    ({"signatures": [{"sig": "?"}]}, "signature is not base64"),
    ({"signatures": [{"sig": "YWE="}] * 9}, "no DSSE envelope: signatures"),
])
def test_what_is_no_envelope(change, message, signer):
    with pytest.raises(SignatureError, match=message):
        dsse.verify(dsse.read(dsse.sign(b"x", TYPE, signer).to_json() | change), TYPE, (signer.public,))


keys_of_it = st.sampled_from(["payload", "payloadType", "signatures", "sig"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys_of_it, inner), max_leaves=8)


@given(json_values)
def test_noise_is_refused_and_crashes_nothing(signer, value):
    with pytest.raises(SignatureError):
        dsse.verify(dsse.read(value), TYPE, (signer.public,))


@given(st.data())
def test_no_bit_of_an_envelope_is_free(signer, data):
    envelope = dsse.sign(b"some payload of a model", TYPE, signer)
    place = data.draw(st.sampled_from(["payload", "sig", "payloadType"]))
    text = envelope.signatures[0].sig if place == "sig" else getattr(envelope, place)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda char: char != text[at]))
    value = text[:at] + other + text[at + 1:]
    change = {"signatures": [{"keyid": "", "sig": value}]} if place == "sig" else {place: value}
    with pytest.raises(SignatureError):
        dsse.verify(dsse.read(envelope.to_json() | change), TYPE, (signer.public,))
