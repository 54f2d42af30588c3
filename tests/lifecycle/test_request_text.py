"""What approvers read: enough to decide, and the digest that their answer is given for."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.payloads import Candidate, GateResult, Verdict
from airgate.contracts.promotion import PromotionRequest
from airgate.contracts.step import Window
from airgate.lifecycle.request_text import body_of, statements_of, subject_of

DIGEST = "sha256:" + "a" * 64
RULES = PromotionSpec(approvers={"ml_engineer": ["ana"], "risk_officer": ["omar"]},
                      statements={"risk_officer": "I reviewed the fairness report *carefully*."})
NOW = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)


@pytest.fixture
def request_():
    reports = {"gates": DIGEST, "evaluation": DIGEST, "data_check": DIGEST, "drift": "sha256:" + "d" * 64}
    return PromotionRequest(
        schema_version=2, model="tumour", version="2", environment="staging", from_stage="development", model_digest=DIGEST,
        gates_hash=DIGEST, reports=reports, verdict_event="e", expected_current="1",
        statements=statements_of(RULES, "tumour version 2", "production", "staging", reports),
        links={"the version in MLflow": "https://mlflow.example.com/#/models/tumour/versions/2"},
        requesters=["asset:tumour.validated", "user:mia"], requested_at=NOW,
        expires_at=NOW + timedelta(days=4), code_version="0123456789abcdef", nonce="n")


def verdict(*gates):
    candidate = Candidate(
        model="tumour", version="2", digest=DIGEST, gates_hash=DIGEST, data_revision="fedcba9876543210", data_hash="h",
        window=Window(start=date(2026, 1, 11), end=date(2026, 1, 12)), mlflow_run_id="m" * 32, training_run="r")
    return Verdict(candidate=candidate, passed=all(gate.passed for gate in gates), gates=list(gates), evaluation_digest=DIGEST)


def test_the_text_says_what_who_when_and_why(request_):
    gate = GateResult(name="metric.roc_auc", passed=True, evidence="roc_auc 0.98; at least 0.9")
    text = body_of(request_, verdict(gate), NOW + timedelta(days=3))
    assert subject_of(request_) == "put tumour version 2 into production?"
    for expected in (
        "**tumour version 2** would go from development to production and replace version 1. Environment: **staging**.",
        "**1 of 1 gates passed**",
        "- **metric.roc_auc** passed: roc_auc 0.98; at least 0.9",
        "Trained on the days up to 2026-01-11: data commit `fedcba987654`, code `0123456789ab`, MLflow run `mmmmmmmmmmmm`.",
        "| report | digest |\n|---|---|\n| gate verdict | `sha256:aaaaaaaaaaaaaaaa` |\n| evaluation | `sha256:aaaa",
        "| drift report | `sha256:dddddddddddddddd` |",
        "[the version in MLflow](https://mlflow.example.com/#/models/tumour/versions/2)",
        "Asked for by mia and the asset tumour.validated; whoever asked cannot approve, under no account.",
        '- ml engineer: "I reviewed the gate verdict, the evaluation, the data check and the drift report. I accept that tumour '
        'version 2 goes to production in staging."',
        '- risk officer: "I reviewed the fairness report \\*carefully\\*. I accept that tumour version 2 goes to production in '
        'staging."',
        "No answer by 2026-01-15 09:30 UTC is a refusal, and so is an answer without a reason.", f"`{request_.digest()}`",
    ):
        assert expected in text, expected


def test_the_first_version_replaces_nothing(request_):
    first = request_.model_copy(update={"expected_current": None})
    assert "and replace nothing: it is the first." in body_of(first, verdict(), NOW)


def test_evidence_cannot_pass_for_something_else(request_):
    gate = GateResult(name="x", passed=False, evidence="[ok](http://elsewhere)\n# **passed** <b>")
    text = body_of(request_, verdict(gate), NOW)
    assert "- **x** **FAILED**: \\[ok\\](http://elsewhere) \\# \\*\\*passed\\*\\* \\<b\\>" in text


def test_the_text_is_the_same_after_the_log_sorted_the_keys(request_):
    recorded = json.loads(json.dumps(request_.document(), sort_keys=True))
    again = PromotionRequest.model_validate(recorded)
    assert body_of(again, verdict(), NOW) == body_of(request_, verdict(), NOW)
    assert again.digest() == request_.digest()


def test_a_request_of_release_0_2_0_is_shown_without_what_it_does_not_have():
    old = PromotionRequest(
        model="tumour", version="2", model_digest=DIGEST, gates_hash=DIGEST, evaluation_digest=DIGEST, verdict_event="e",
        expected_current="1", requesters=["user:mia"], requested_at=NOW, expires_at=NOW, code_version="c", nonce="n")
    text = body_of(old, verdict(), NOW)
    assert "**tumour version 2** would replace version 1 in production." in text
    assert "report" not in text and "Approve says" not in text
