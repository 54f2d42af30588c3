from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts.model_spec import ComparisonSpec, GatesSpec, MetricBound
from airgate.contracts.payloads import Candidate, GateResult
from airgate.contracts.step import Window
from airgate.governance import gates

SPEC = GatesSpec(metrics={"roc_auc": MetricBound(min=0.9), "brier": MetricBound(max=0.1)},
                 production=ComparisonSpec(metric="roc_auc", max_drop=0.02))
DIGEST = "sha256:" + "a" * 64
REPORT = "sha256:" + "b" * 64


def candidate(**changes: str) -> Candidate:
    values = {"model": "m", "version": "3", "digest": DIGEST, "gates_hash": SPEC.fingerprint(), "data_revision": "c0ffee",
              "data_hash": "d", "window": Window(start=date(2026, 1, 1), end=date(2026, 1, 9)), "mlflow_run_id": "r",
              "training_run": "t", **changes}
    return Candidate.model_validate(values)


def interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def evidence(**changes: object) -> dict[str, object]:
    return {"candidate": {"roc_auc": interval(0.98, 0.95, 0.99), "brier": interval(0.04, 0.02, 0.06)},
            "production": None, "difference": None, "digest_verified": True, "candidate_digest": DIGEST, **changes}


def judge(evidence: dict[str, object], subject: Candidate | None = None, report: str | None = REPORT,
          recorded: str | None = SPEC.fingerprint(), spec: GatesSpec = SPEC) -> list[GateResult]:
    return gates.judge(subject or candidate(), evidence, spec, data_check=report, gates_at_training=recorded)


def failed(*args: object, **options: object) -> list[str]:
    return [result.name for result in judge(*args, **options) if not result.passed]  # type: ignore[arg-type]


def test_sound_evidence_passes_every_gate() -> None:
    results = judge(evidence())
    assert [result.name for result in results] == [
        "thresholds_fixed", "artifact_digest", "data_check", "metric.roc_auc", "metric.brier", "not_worse_than_production"]
    assert all(result.passed for result in results)
    assert results[3].evidence == ("roc_auc 0.9800 (95% interval 0.9500 to 0.9900); the whole interval must be at least 0.9")


def test_thresholds_changed_between_training_and_registration() -> None:
    assert failed(evidence(), recorded="sha256:" + "0" * 64) == ["thresholds_fixed"]
    assert failed(evidence(), recorded=None) == ["thresholds_fixed"]


def test_thresholds_changed_after_training() -> None:
    assert failed(evidence(), candidate(gates_hash="sha256:" + "0" * 64)) == ["thresholds_fixed"]


@pytest.mark.parametrize("changes", [{"digest_verified": False}, {"candidate_digest": REPORT}, {"digest_verified": "yes"}])
def test_other_bytes_than_training_made(changes: dict[str, object]) -> None:
    assert failed(evidence(**changes)) == ["artifact_digest"]


def test_no_record_of_a_data_check() -> None:
    assert failed(evidence(), report=None) == ["data_check"]


def test_the_whole_interval_must_meet_the_bound() -> None:
    wide = {"roc_auc": interval(0.95, 0.89, 0.99), "brier": interval(0.05, 0.02, 0.11)}
    assert failed(evidence(candidate=wide)) == ["metric.roc_auc", "metric.brier"]


@pytest.mark.parametrize("broken", [None, {}, {"roc_auc": 0.99}, {"roc_auc": interval(0.99, float("nan"), 1.0)},
                                    {"roc_auc": interval(0.99, 1.0, float("inf"))}, {"roc_auc": {"value": 0.99}},
                                    {"roc_auc": {"value": True, "low": True, "high": True}},
                                    {"roc_auc": interval(0.99, 0.99, 0.91)}])
def test_unusable_numbers_fail_the_gate(broken: object) -> None:
    assert "metric.roc_auc" in failed(evidence(candidate=broken))


@pytest.mark.parametrize(("low", "passes"), [(-0.019, True), (-0.021, False)])
def test_worse_than_production_by_more_than_allowed(low: float, passes: bool) -> None:
    compared = evidence(production={"roc_auc": interval(0.98, 0.9, 1)}, difference={"roc_auc": interval(0, low, 0.01)})
    assert ("not_worse_than_production" not in failed(compared)) is passes


def test_for_a_loss_worse_means_higher() -> None:
    rule = ComparisonSpec(metric="brier", max_drop=0.01)
    spec = SPEC.model_copy(update={"production": rule})
    subject = candidate(gates_hash=spec.fingerprint())
    for high, passes in ((0.009, True), (0.011, False)):
        compared = evidence(production={"brier": interval(0.05, 0, 1)}, difference={"brier": interval(0, -0.5, high)})
        assert judge(compared, subject, spec=spec)[-1].passed is passes


def test_production_exists_but_was_not_compared() -> None:
    assert failed({**evidence(), "production": {"roc_auc": interval(1, 1, 1)}}) == ["not_worse_than_production"]
    without = evidence()
    del without["production"]
    assert failed(without) == ["not_worse_than_production"]


anything = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                        lambda inner: st.dictionaries(st.sampled_from(["roc_auc", "brier", "value", "low", "high"]), inner),
                        max_leaves=8)
KEYS = ["candidate", "production", "difference", "digest_verified", "candidate_digest"]


@given(st.dictionaries(st.sampled_from(KEYS), anything))
def test_no_evidence_however_odd_passes_without_numbers(odd: dict[str, object]) -> None:
    results = {result.name: result for result in judge(odd)}
    for name in ("metric.roc_auc", "metric.brier"):
        assert not results[name].passed or set(results[name].measured) == {"value", "low", "high"}
    assert results["artifact_digest"].passed == (odd.get("digest_verified") is True and odd.get("candidate_digest") == DIGEST)
