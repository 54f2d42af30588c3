"""Validation gates: named checks against thresholds that were fixed before training. A gate passes or fails; it never warns."""

import math
from typing import Any

from airgate.contracts.model_spec import ComparisonSpec, GatesSpec, MetricBound
from airgate.contracts.payloads import Candidate, GateResult

# A smaller value of these is the better one.
LOWER_IS_BETTER = frozenset({"brier", "log_loss"})
Interval = dict[str, float]


def judge(candidate: Candidate, evidence: dict[str, Any], gates: GatesSpec, *, data_check: str | None,
          gates_at_training: str | None) -> list[GateResult]:
    """Apply every gate to the evidence of `airgate.steps.evaluate:compare`.

    From the audit log, None where it has nothing: `data_check` is the digest of the training run's data check report,
    `gates_at_training` the hash of the thresholds when the train step began.
    Missing or non-finite evidence fails its gate: what cannot be shown has not been met.
    """
    return [
        _thresholds_fixed(candidate, gates, gates_at_training),
        digest_verified(evidence, candidate.digest, "training recorded"),
        _data_checked(data_check),
        *measured(evidence, gates),
    ]


def measured(evidence: dict[str, Any], gates: GatesSpec) -> list[GateResult]:
    """Apply the gates that are about numbers: the bounds of the metrics, and the comparison with production."""
    return [*(_bound(name, bound, evidence, gates.confidence) for name, bound in gates.metrics.items()),
            _not_worse(gates.production, evidence, gates.confidence)]


def _thresholds_fixed(candidate: Candidate, gates: GatesSpec, at_training: str | None) -> GateResult:
    now = gates.fingerprint()
    same = now == candidate.gates_hash == at_training
    if same:
        said = "thresholds are those recorded when training began"
    elif at_training is None:
        said = "no record of the thresholds from when training began"
    else:
        said = (f"thresholds changed after training began: then {at_training[:19]}, at registration "
                f"{candidate.gates_hash[:19]}, now {now[:19]}. Train again.")
    return GateResult(name="thresholds_fixed", passed=same, evidence=said)


def digest_verified(evidence: dict[str, Any], expected: str, recorded: str) -> GateResult:
    """Hold that the files which were evaluated are those of the digest `expected`; `recorded` says whose word that is."""
    found = str(evidence.get("candidate_digest", "nothing"))
    passed = evidence.get("digest_verified") is True and found == expected
    said = f"the evaluated files have digest {found[:19]}"
    return GateResult(name="artifact_digest", passed=passed,
                      evidence=said if passed else f"{said}, {recorded} {expected[:19]}")


def _data_checked(digest: str | None) -> GateResult:
    said = f"data check passed, report {digest[:19]}" if digest else "no record that the training data passed its check"
    return GateResult(name="data_check", passed=digest is not None, evidence=said)


def _bound(metric: str, bound: MetricBound, evidence: dict[str, Any], confidence: float) -> GateResult:
    name = f"metric.{metric}"
    interval = _interval(evidence.get("candidate"), metric)
    if interval is None:
        return GateResult(name=name, passed=False, evidence=f"no usable {metric} in the evidence: not shown is not met")
    passed = ((bound.min is None or interval["low"] >= bound.min) and (bound.max is None or interval["high"] <= bound.max))
    wanted = " and ".join(
        text for text, value in ((f"at least {bound.min}", bound.min), (f"at most {bound.max}", bound.max)) if value is not None)
    return GateResult(name=name, passed=passed, measured=interval,
                      evidence=f"{_written(metric, interval, confidence)}; the whole interval must be {wanted}")


def _not_worse(rule: ComparisonSpec, evidence: dict[str, Any], confidence: float) -> GateResult:
    name = "not_worse_than_production"
    if "production" in evidence and evidence["production"] is None:
        return GateResult(name=name, passed=True, evidence="no version is in production yet: nothing to compare with")
    interval = _interval(evidence.get("difference"), rule.metric)
    if interval is None:
        return GateResult(name=name, passed=False, evidence=f"no usable difference in {rule.metric}: not shown is not met")
    # difference = candidate - production on the same rows
    worst = -interval["high"] if rule.metric in LOWER_IS_BETTER else interval["low"]
    return GateResult(name=name, passed=worst >= -rule.max_drop, measured=interval,
                      evidence=f"{_written('difference in ' + rule.metric, interval, confidence)}; "
                               f"it may be worse by at most {rule.max_drop}")


def _interval(metrics: Any, name: str) -> Interval | None:
    """The three finite numbers of a metric, in order low <= value <= high is not demanded of a bootstrap; None if unusable."""
    entry = metrics.get(name) if isinstance(metrics, dict) else None
    if not isinstance(entry, dict):
        return None
    numbers = {key: entry.get(key) for key in ("value", "low", "high")}
    if any(isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in numbers.values()):
        return None
    interval = {key: float(n) for key, n in numbers.items() if n is not None}
    return interval if interval["low"] <= interval["high"] else None


def _written(what: str, interval: Interval, confidence: float) -> str:
    return f"{what} {interval['value']:.4f} ({confidence:.0%} interval {interval['low']:.4f} to {interval['high']:.4f})"
