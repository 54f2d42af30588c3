from datetime import UTC, date, datetime, timedelta

from airgate.contracts.model_spec import RetrainingSpec
from airgate.contracts.payloads import DriftVerdict, RetrainingDecision
from airgate.contracts.step import Window
from airgate.governance.retraining import decide

NOW = datetime(2026, 1, 11, tzinfo=UTC)
RULES = RetrainingSpec(cooldown_hours=24, max_per_week=2)


def verdict(drifted: bool = True, event_id: str = "e1") -> DriftVerdict:
    return DriftVerdict(model="m", version="1", window=Window(start=date(2026, 1, 10), end=date(2026, 1, 11)), drifted=drifted,
                        share=0.8 if drifted else 0.1, event_id=event_id)


def earlier(hours_ago: float, event_id: str, retrain: bool = True) -> tuple[datetime, RetrainingDecision]:
    return NOW - timedelta(hours=hours_ago), RetrainingDecision(model="m", retrain=retrain, reason="", day=date(2026, 1, 1),
                                                               drift_event_id=event_id)


def test_drift_retrains_on_the_drifted_day() -> None:
    decision = decide(verdict(), [], RULES, NOW)
    assert (decision.retrain, decision.day, decision.reason) == (True, date(2026, 1, 10), "drift in 80% of the columns")


def test_no_drift() -> None:
    assert decide(verdict(drifted=False), [], RULES, NOW).reason == "no drift: 10% of the columns differ"


def test_a_verdict_serves_once() -> None:
    assert decide(verdict(), [earlier(100, "e1")], RULES, NOW).reason == "this verdict has already led to a retraining"
    assert decide(verdict(), [earlier(100, "e1", retrain=False)], RULES, NOW).retrain


def test_cooldown() -> None:
    decision = decide(verdict(), [earlier(23, "e0")], RULES, NOW)
    assert (decision.retrain, decision.reason) == (
        False, "the last retraining was decided at 2026-01-10 01:00 UTC; cooldown_hours is 24")
    assert decide(verdict(), [earlier(25, "e0")], RULES, NOW).retrain


def test_budget_of_the_week() -> None:
    busy = [earlier(30, "a"), earlier(60, "b")]
    assert decide(verdict(), busy, RULES, NOW).reason == "2 retrainings in the last 7 days; max_per_week is 2"
    assert decide(verdict(), [earlier(30, "a"), earlier(24 * 7, "b")], RULES, NOW).retrain
    assert not decide(verdict(), [], RetrainingSpec(max_per_week=0), NOW).retrain
