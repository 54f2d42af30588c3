"""The retraining governor: drift asks, this rule answers, so that a noisy monitor cannot retrain a model without end."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from airgate.contracts.model_spec import RetrainingSpec
from airgate.contracts.payloads import DriftVerdict, RetrainingDecision


def decide(verdict: DriftVerdict, earlier: Sequence[tuple[datetime, RetrainingDecision]], rules: RetrainingSpec,
           now: datetime) -> RetrainingDecision:
    """Say whether a drift verdict retrains the model. `earlier` holds past decisions for the model with their times."""
    retrain, reason = _answer(verdict, earlier, rules, now)
    return RetrainingDecision(model=verdict.model, retrain=retrain, reason=reason,
                              day=verdict.window.end - timedelta(days=1), drift_event_id=verdict.event_id)


def _answer(verdict: DriftVerdict, earlier: Sequence[tuple[datetime, RetrainingDecision]], rules: RetrainingSpec,
            now: datetime) -> tuple[bool, str]:
    if not verdict.drifted:
        return False, f"no drift: {verdict.share:.0%} of the columns differ"
    trained = [(at, decision) for at, decision in earlier if decision.retrain]
    if any(decision.drift_event_id == verdict.event_id for _, decision in trained):
        return False, "this verdict has already led to a retraining"
    week = [at for at, _ in trained if now - at < timedelta(days=7)]
    if len(week) >= rules.max_per_week:
        return False, f"{len(week)} retrainings in the last 7 days; max_per_week is {rules.max_per_week}"
    newest = max((at for at, _ in trained), default=None)
    if newest is not None and now - newest < timedelta(hours=rules.cooldown_hours):
        return False, (f"the last retraining was decided at {newest:%Y-%m-%d %H:%M} UTC; "
                       f"cooldown_hours is {rules.cooldown_hours:g}")
    return True, f"drift in {verdict.share:.0%} of the columns"
