import json
from uuid import UUID

import pytest

from airgate.audit.event import Actor, canonical
from airgate.audit.subjects import Subject, Subjects, ids_in, names_in
from airgate.errors import AuditError

ANA = Subject("0f8fad5b-d9cb-469f-a165-70867728950e", "ana", b"k" * 32)
OMAR = Subject("7c9e6679-7425-40de-944b-e07fc1f90ae7", "omar", b"o" * 32)
EVENT = UUID(int=7)
BY_NAME, BY_ID = {"ana": ANA, "omar": OMAR}, {ANA.id: ANA, OMAR.id: OMAR}


def test_a_sealed_text_opens_at_its_place_only():
    sealed = ANA.seal(EVENT, "body.reason", "Gute Güte 😀")["$sealed"]
    assert sealed["by"] == ANA.id
    assert ANA.open(EVENT, "body.reason", sealed["box"]) == "Gute Güte 😀"
    for event, path in ((UUID(int=8), "body.reason"), (EVENT, "body.other")):
        with pytest.raises(AuditError, match=r"cannot be decrypted: it was changed, or moved here"):
            ANA.open(event, path, sealed["box"])
    with pytest.raises(AuditError, match="cannot be decrypted"):
        OMAR.open(EVENT, "body.reason", sealed["box"])
    for box in ("", "AAAA", "no base64", sealed["box"][:-8]):
        with pytest.raises(AuditError, match="cannot be decrypted"):
            ANA.open(EVENT, "body.reason", box)


def test_the_same_text_at_the_same_place_has_the_same_bytes_and_no_other_has():
    first = ANA.seal(EVENT, "body.a", "x")
    assert ANA.seal(EVENT, "body.a", "x") == first
    others = [ANA.seal(EVENT, "body.b", "x"), ANA.seal(UUID(int=8), "body.a", "x"), ANA.seal(EVENT, "body.a", "y"),
              OMAR.seal(EVENT, "body.a", "x")]
    nonces = {one["$sealed"]["box"][:16] for one in [first, *others]}
    assert len(nonces) == 5


def test_an_erased_subject_opens_nothing_and_seals_nothing():
    gone = Subject(ANA.id, None, None)
    assert gone.open(EVENT, "body.a", "anything") == f"erased:{ANA.id}"
    with pytest.raises(AuditError, match=f"subject {ANA.id} was erased; nothing more can be recorded under its key"):
        gone.seal(EVENT, "body.a", "x")


def test_an_event_is_sealed_and_opened_field_by_field(make):
    body = {"approvers": [{"role": "r", "user": "ana"}, {"role": "s", "user": "omar"}], "stage": "production"}
    event = make(1, "stage.moved", body=body, actor=Actor(kind="user", name="ana"),
                 personal={"approvers.0.user": "ana", "approvers.1.user": "omar"})
    assert names_in([event]) == {"ana", "omar"}
    data = canonical(event, Subjects(by_name=BY_NAME).seal)
    assert b"omar" not in data
    assert b'"ana"' not in data
    assert b'"stage":"production"' in data
    assert ids_in(data) == {ANA.id, OMAR.id}
    record, personal = Subjects(by_id=BY_ID).opened(json.loads(data))
    assert record == json.loads(canonical(event))
    assert personal == event.personal
    record, personal = Subjects(by_id={OMAR.id: OMAR}).opened(json.loads(data))
    assert record["actor"]["name"] == f"erased:{ANA.id}"
    assert record["body"]["approvers"][1]["user"] == "omar"
    assert personal == {"approvers.0.user": f"erased:{ANA.id}", "approvers.1.user": "omar"}


def test_machines_are_nobody(make):
    event = make(1, actor=Actor(kind="schedule", name="nightly"))
    assert names_in([event]) == set()
    assert ids_in(canonical(event)) == set()


@pytest.mark.parametrize(("path", "message"), [
    ("reason", "personal path 'reason' leads nowhere in the event's body"),
    ("number", "personal path 'number' names int, not text"),
    ("list.3", "personal path 'list.3' leads nowhere"),
    ("number.x", "personal path 'number.x' leads nowhere"),
])
def test_a_wrong_path_is_refused(make, path, message):
    event = make(1, body={"number": 1, "list": ["a"]}, personal={path: "ana"})
    with pytest.raises(AuditError, match=message):
        canonical(event, Subjects(by_name=BY_NAME).seal)
