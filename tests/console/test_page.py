"""What an event is about, in the words of the page."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from airgate.audit.event import KINDS, Actor, AuditEvent
from airgate.console import page


def event(kind, body):
    return AuditEvent(event_id=uuid4(), kind=kind, occurred_at=datetime.now(UTC), model="tumour", version="2",
                      actor=Actor(kind="user", name="ana"), source="operator", body=body)


def about(kind, body):
    return page.about(event(kind, body))


@pytest.mark.parametrize(("kind", "body", "text"), [
    ("gate.verdict", {"passed": True, "gates": [{"name": "a", "passed": True}]}, "passed all 1 gates"),
    ("gate.verdict", {"passed": False, "gates": [{"name": "a", "passed": True}, {"name": "metric.recall", "passed": False}]},
     "failed 1 of 2 gates: metric.recall"),
    ("promotion.requested", {"to_stage": "production", "expected_current": None}, "into production, in place of nothing"),
    ("promotion.approved", {"role": "risk_officer", "reason": "read it"}, "as risk_officer; reason: read it"),
    ("promotion.refused", {"reasons": ["too late", "no second person"]},
     "stays out of production; reasons: too late; no second person"),
    ("stage.moved", {"stage": "production", "from_version": "1", "to_version": "2"}, "production: version 1 -> version 2"),
    ("stage.moved", {"cause": "rollback", "stage": "production", "from_version": "2", "to_version": "1", "reason": "worse"},
     "rollback; production: version 2 -> version 1; reason: worse"),
    ("stage.moved", {"cause": "demotion", "stage": "production", "from_version": "2", "to_version": None},
     "demotion; production: version 2 -> nothing"),
    ("stage.reverted", {"stage": "production", "from_version": "1", "to_version": "2", "reason": "version 2 is gone"},
     "given up: production: version 1 -> version 2; reason: version 2 is gone"),
    ("registry.changed", {"what": "alias.changed", "subject": "production", "before": "1", "after": "2", "restored": True},
     "alias.changed production: 1 -> 2; put back"),
    ("registry.changed", {"what": "version.deleted", "subject": "2", "before": {"a": 1}, "after": None, "remedy": "blocked"},
     "version.deleted 2: {'a': 1} -> nothing; blocked"),
    ("stage.reviewed", {"cause": "rollback", "answer": "disagreed", "reason": "no"},
     "review of the rollback: disagreed; reason: no"),
    ("model.signed", {"statement": "promotion"}, "at its promotion"),
    ("drift.verdict", {"drifted": True, "share": 0.8, "window": {"start": "2026-01-10"}},
     "2026-01-10: drift, 80% of columns differ"),
    ("retraining.decided", {"retrain": False, "reason": "too soon"}, "do not retrain; reason: too soon"),
    ("manual.change", {"change": "other", "method": "POST", "path": "/api/v2/pools"}, "other; POST /api/v2/pools"),
])
def test_a_decision_says_what_was_decided(kind, body, text):
    assert about(kind, body) == f"tumour v2; {text}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_lacks_everything_is_still_told(kind):
    assert about(kind, {}).startswith("tumour v2")


def test_a_long_text_is_cut():
    assert len(about("task.failed", {"error": "x" * 900})) == 500


@pytest.mark.parametrize(("kind", "body", "tone"), [
    ("gate.verdict", {"passed": True}, "good"), ("gate.verdict", {}, "bad"), ("drift.verdict", {"drifted": True}, "bad"),
    ("drift.verdict", {"drifted": False}, "good"), ("audit.alarm", {}, "bad"), ("manual.change", {}, "wait"),
    ("task.started", {}, ""), ("stage.moved", {}, "good"), ("stage.moved", {"cause": "rollback"}, "wait"),
    ("registry.changed", {"restored": False}, "bad"), ("registry.changed", {"restored": True}, "wait"),
])
def test_what_needs_a_look_has_a_colour(kind, body, tone):
    assert page.tone(event(kind, body)) == tone
