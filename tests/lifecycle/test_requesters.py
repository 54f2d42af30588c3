"""Who counts as one who asked: nobody gets a version judged, or a request made, and then approves it."""

from typing import Any

import pytest
from tests.lifecycle.conftest import MODEL, Context, House
from tests.lifecycle.test_promotion import judged, live, requested, tasks

from airgate.audit.event import Actor
from airgate.contracts.model_spec import ModelSpec
from airgate.errors import PromotionError
from airgate.governance import manual

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
TRAINING, VALIDATION = f"/api/v2/dags/{MODEL}_training", f"/api/v2/dags/{MODEL}_validation"
NOW = {"dry_run": False}


def by_hand(house: House, method: str, path: str, body: Any, user: str = "ana") -> None:
    """Put a change on record as the middleware does when Airflow has made it."""
    request = manual.classify(method, path)
    assert request is not None
    house.log.append_many(manual.events(request, Actor(kind="user", name=user), "1", body))


def decided(house: House, spec: ModelSpec, context: Context, event_id: str, **trigger: Any) -> dict[str, Any]:
    """Ask, let ana and omar approve, apply."""
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": event_id}], **trigger))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    return apply.execute(context("promotion", "apply"))


@pytest.mark.attack("an approval: by whoever cleared or changed a run behind the version")
@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", f"{TRAINING}/clearTaskInstances", {**NOW, "dag_run_id": "t1", "task_ids": ["train"]}),
    ("POST", f"{TRAINING}/clearTaskInstances", {**NOW, "start_date": "2026-01-01T00:00:00Z", "only_failed": False}),
    ("POST", f"{TRAINING}/clearTaskInstances", {**NOW, "dag_run_id": "t0", "include_future": True}),
    ("POST", f"{TRAINING}/dagRuns/t1/clear", NOW),
    ("POST", "/api/v2/dags/~/clearDagRuns", {**NOW, "dag_runs": [{"dag_id": f"{MODEL}_training", "dag_run_id": "t1"}]}),
    ("PATCH", f"{TRAINING}/dagRuns/t1", {"state": "queued"}),
    ("POST", f"{VALIDATION}/dagRuns/v-t1/clear", NOW),
])
def test_whoever_clears_a_run_asked_too(house: House, spec: ModelSpec, context: Context, method: str, path: str,
                                      body: Any) -> None:
    event_id = judged(house, spec)
    by_hand(house, method, path, body)
    assert decided(house, spec, context, event_id)["reasons"] == [
        "ml_engineer: ana asked for this promotion and cannot approve it"]
    assert live(house) is None and requested(house).requesters == ["asset:diagnosis_classifier_promotion", "user:ana", "user:mia"]


def test_what_touched_other_runs_or_was_before_asks_for_nothing(house: House, spec: ModelSpec, context: Context) -> None:
    by_hand(house, "POST", f"{TRAINING}/clearTaskInstances", {**NOW, "start_date": "2026-01-01T00:00:00Z"})
    event_id = judged(house, spec)
    by_hand(house, "POST", f"{TRAINING}/dagRuns/t0/clear", NOW)
    by_hand(house, "POST", "/api/v2/dags/weather/clearTaskInstances", NOW)
    assert decided(house, spec, context, event_id)["outcome"] == "applied"


POST = ("POST", "/api/v2/assets/events", {"asset_id": 1, "extra": {}})


@pytest.mark.attack("an approval: by whoever posted the asset event that asks")
def test_whoever_posts_the_verdicts_asset_event_asked(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    by_hand(house, *POST)
    by_hand(house, *POST, user="svc-data")
    assert decided(house, spec, context, event_id, emitted_by=None)["reasons"] == [
        "ml_engineer: ana asked for this promotion and cannot approve it"]
    assert requested(house).requesters == ["asset:diagnosis_classifier_promotion", "user:ana", "user:mia"]


@pytest.mark.attack("an approval: by whoever posted the asset event that has a version judged")
def test_whoever_posts_the_candidates_asset_event_asked(house: House, spec: ModelSpec, context: Context) -> None:
    candidate = house.trained(spec)
    by_hand(house, *POST)
    event_id = judged(house, spec, candidate=candidate)
    assert decided(house, spec, context, event_id)["reasons"] == [
        "ml_engineer: ana asked for this promotion and cannot approve it"]


@pytest.mark.attack("a request is made in nobody's name")
@pytest.mark.parametrize("users", [[], ["svc-data"]])
def test_a_request_has_a_persons_name(house: House, spec: ModelSpec, context: Context, users: list[str]) -> None:
    event_id = judged(house, spec)
    for user in users:
        by_hand(house, *POST, user=user)
    with pytest.raises(PromotionError, match=r"posted by hand started this run, and the audit log has no person who posted one "
                                             r"since\. .*: start this DAG by hand\."):
        decided(house, spec, context, event_id, emitted_by=None)
    assert house.kinds()[0] == "gate.verdict" and "promotion.requested" not in house.kinds()


@pytest.mark.attack("an approval: by whoever marked another validation, so that it asks")
def test_whoever_changed_the_run_that_led_here_asked(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    house.succeeded(f"{MODEL}_validation", "v-old", "verdict", {"state": "success"}, "ana", "manual.change", "listener")
    led = (f"{MODEL}_validation", "v-old", "verdict")
    assert decided(house, spec, context, event_id, emitted_by=led)["reasons"] == [
        "ml_engineer: ana asked for this promotion and cannot approve it"]


def test_what_is_posted_while_tasks_lead_here_asks_for_nothing(house: House, spec: ModelSpec, context: Context) -> None:
    by_hand(house, *POST)
    event_id = judged(house, spec)
    by_hand(house, *POST)
    assert decided(house, spec, context, event_id)["outcome"] == "applied"
