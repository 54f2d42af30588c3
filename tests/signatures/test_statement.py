import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.signatures.conftest import DIGEST_A, FILES

from airgate.errors import SignatureError
from airgate.signatures import dsse, statement
from airgate.signatures.statement import PAYLOAD_TYPE, Promotion, Statement, check_files

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: "sha256:" + raw.hex())


def test_it_is_an_in_toto_statement_with_one_subject_a_file(registration):
    record = json.loads(registration.payload())
    assert record["_type"] == "https://in-toto.io/Statement/v1"
    assert record["predicateType"] == "https://airgate.io/predicates/registration/v1"
    assert record["subject"] == [{"name": "airgate_model.json", "digest": {"sha256": "a" * 64}},
                                 {"name": "model.ubj", "digest": {"sha256": "b" * 64}}]
    assert record["predicate"]["model_digest"] == registration.model_digest


@given(st.dictionaries(names, digests, min_size=1, max_size=4), st.lists(names, min_size=1, max_size=3))
def test_a_statement_comes_back_as_it_was_signed(signer, files, approvals):
    said = Promotion(model="cats", version="1", model_digest=statement.manifest_digest(files), stage="production",
                     request="{}", approvals=approvals, environment="production")
    whole = Statement(files=files, predicate=said)
    assert statement.verify(statement.sign(whole, signer).to_json(), (signer.public,)) == whole


def test_a_key_speaks_for_its_own_environment_alone(registration, signer, staging):
    with pytest.raises(SignatureError, match="a key of 'staging' cannot speak for 'production'"):
        statement.sign(registration, staging)
    forged = dsse.sign(registration.payload(), PAYLOAD_TYPE, staging)
    with pytest.raises(SignatureError, match="the statement speaks for 'production', and its key is trusted for 'staging' alone"):
        statement.verify(forged, (signer.public, staging.public))


@pytest.mark.parametrize(("payload", "message"), [
    (b"", "is no statement about a model"), (b"[]", "is no statement about a model"), (b"\xff", "is no statement about a model"),
    (b"[" * 100_000, "is no statement about a model"),
    (b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[]}',
     "with predicate 'https://slsa.dev/provenance/v1'. Allowed: in-toto Statement v1 with predicate https://airgate.io/"),
])
def test_another_document_is_refused_though_it_is_signed(payload, message, signer):
    with pytest.raises(SignatureError, match=message):
        statement.verify(dsse.sign(payload, PAYLOAD_TYPE, signer), (signer.public,))


def test_another_spelling_is_refused(registration, signer):
    record = json.loads(registration.payload())
    twice = record | {"subject": [*record["subject"], record["subject"][0]]}
    for payload in (json.dumps(record).encode(), json.dumps(twice, separators=(",", ":"), sort_keys=True).encode()):
        with pytest.raises(SignatureError, match="in another spelling than RFC 8785's, or names a file twice"):
            statement.verify(dsse.sign(payload, PAYLOAD_TYPE, signer), (signer.public,))


def test_subject_and_predicate_must_agree(registration, signer):
    other = registration.model_copy(update={"files": {"model.ubj": DIGEST_A}})
    with pytest.raises(SignatureError, match="its predicate speaks of sha256:.*contradicts itself"):
        statement.verify(dsse.sign(other.payload(), PAYLOAD_TYPE, signer), (signer.public,))


def test_files_that_differ_are_named(registration):
    check_files(registration, dict(reversed(FILES.items())))
    with pytest.raises(SignatureError, match="cats version 3: the files are not those that were signed; changed: model.ubj; "
                                             "missing: airgate_model.json; not signed: extra.txt. Do not use them"):
        check_files(registration, {"model.ubj": DIGEST_A, "extra.txt": DIGEST_A})
