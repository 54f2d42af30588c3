"""The documents of a promotion: what is old stays readable and keeps its digest."""

import json

import pytest
from pydantic import ValidationError

from airgate.contracts.promotion import Approval, PromotionRequest

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
# As release 0.2.0 put it on record, and the digest that its approvals were given for.
OLD = {
    "model": "tumour", "version": "2", "to_stage": "production", "model_digest": A, "gates_hash": B, "evaluation_digest": C,
    "verdict_event": "00000000-0000-0000-0000-000000000001", "expected_current": "1",
    "requesters": ["asset:tumour.validated", "user:mia"], "requested_at": "2026-01-12T09:30:00Z",
    "expires_at": "2026-01-16T09:30:00.500000Z", "code_version": "0123456789abcdef", "nonce": "00ff",
}
OLD_DIGEST = "sha256:a662d975918efd1f829414923868043657cc88721b56693583220ef260c04901"
NEW = {key: value for key, value in OLD.items() if key != "evaluation_digest"} | {
    "schema_version": 2, "environment": "staging", "from_stage": "development",
    "reports": {"gates": A, "evaluation": B, "data_check": C}, "statements": {"owner": "I accept."}, "links": {},
}


def test_a_request_of_release_0_2_0_keeps_its_document_and_digest() -> None:
    request = PromotionRequest.model_validate(OLD)
    assert request.schema_version == 1
    assert request.document() == OLD
    assert request.digest() == OLD_DIGEST


def test_an_approval_of_release_0_2_0_is_readable() -> None:
    old = {"role": "owner", "user": "ana", "at": "2026-01-12T10:00:00Z", "reason": "read it", "request_digest": OLD_DIGEST}
    approval = Approval.model_validate(old)
    assert (approval.meaning, approval.person) == ("", "")


def test_what_is_recorded_gives_the_same_request_again() -> None:
    request = PromotionRequest.model_validate(NEW)
    assert request.document() == NEW
    recorded = json.loads(json.dumps(request.document(), sort_keys=True))
    assert PromotionRequest.model_validate(recorded).digest() == request.digest()


@pytest.mark.parametrize("changed", [
    {"reports": {"gates": A, "evaluation": B, "data_check": B}}, {"statements": {"owner": "I looked away."}},
    {"environment": "production"}, {"from_stage": "staging"}, {"links": {"x": "https://elsewhere.example.com"}}, {"nonce": "01"},
    {"expires_at": "2027-01-16T09:30:00.500000Z"}, {"requesters": ["asset:tumour.validated"]}, {"version": "3"}])
def test_every_part_is_under_the_digest(changed: dict[str, object]) -> None:
    assert PromotionRequest.model_validate(NEW | changed).digest() != PromotionRequest.model_validate(NEW).digest()


@pytest.mark.parametrize(("changed", "expected"), [
    ({"reports": {"gates": A}}, "reports lacks evaluation, data_check: nobody can agree to what was not shown"),
    ({"environment": None}, "names its environment, its from_stage and a statement for each role"),
    ({"statements": {}}, "names its environment, its from_stage and a statement for each role"),
    ({"evaluation_digest": A}, "evaluation_digest belongs to version 1; version 2 has it in reports"),
    ({"schema_version": 1}, "a request of version 1 needs evaluation_digest; say schema_version: 2 to make a new one"),
    ({"schema_version": 3}, "Input should be 1 or 2"),
])
def test_a_request_that_is_none(changed: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        PromotionRequest.model_validate(NEW | changed)
