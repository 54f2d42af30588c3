import asyncio
from datetime import date
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from tests.lifecycle.conftest import DIGEST, MODEL, Context, House
from tests.lifecycle.moved import moved

from airgate.contracts.model_spec import ModelSpec, RetrainingSpec
from airgate.contracts.payloads import DriftVerdict
from airgate.contracts.step import Window
from airgate.errors import AirgateError, GateError, PromotionError
from airgate.lifecycle.drift import DriftVerdictOperator
from airgate.lifecycle.drift_sensor import DriftSensor, DriftVerdictTrigger
from airgate.lifecycle.live import LiveModelOperator
from airgate.lifecycle.retraining import GovernorOperator
from airgate.registry.versions import Version
from airgate.runtime.live import live_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
MOVED = {"to_version": "1", "model_digest": DIGEST, "data_revision": "c0ffee",
         "window": {"start": "2026-01-08", "end": "2026-01-09"}}
DAY = Window(start=date(2026, 1, 8), end=date(2026, 1, 9))  # the day before the runs' run_after


def drift_run(house: House, spec: ModelSpec, context: Context, run: str = "d1", drifted: bool = True) -> dict[str, Any]:
    """A drift check whose step has spoken; gives what its verdict task emits."""
    from airgate.authoring import assets

    verdict = DriftVerdict(model=MODEL, version="1", window=DAY, drifted=drifted, share=0.8 if drifted else 0.1)
    house.succeeded(f"{MODEL}_drift_check", run, "check", {"output": house.artifact(verdict.model_dump(mode="json"))})
    with DAG(f"{MODEL}_drift_check"):
        task = DriftVerdictOperator(task_id="verdict", spec=spec, evidence=EmptyOperator(task_id="check"),
                                    outlets=[assets.drift(MODEL)])
    given = context("drift_check", "verdict", run=run)
    task.execute(given)
    return dict(given["outlet_events"][task.outlets[0]].extra)


def govern(spec: ModelSpec, given: dict[str, Any]) -> dict[str, Any]:
    return GovernorOperator(task_id="decide", spec=spec).execute(given)


def test_drift_is_recorded_and_leads_to_a_retraining(house: House, spec: ModelSpec, context: Context) -> None:
    payload = drift_run(house, spec, context)
    decision = govern(spec, context("retraining", "decide", payloads=[payload]))
    assert (decision["retrain"], decision["day"], decision["drift_event_id"]) == (True, "2026-01-08", payload["event_id"])
    assert house.kinds() == ["drift.verdict", "retraining.decided"]
    assert govern(spec, context("retraining", "decide", attempt=2, payloads=[payload])) == decision
    assert house.kinds() == ["drift.verdict", "retraining.decided"]


def test_no_drift_skips_and_emits_nothing_but_is_on_record(house: House, spec: ModelSpec, context: Context) -> None:
    with pytest.raises(AirflowSkipException, match="no drift: 10% of the columns drifted; the limit is 50%"):
        drift_run(house, spec, context, drifted=False)
    assert house.log.events(kind="drift.verdict")[0].event.body["drifted"] is False


def test_the_governor_says_no_and_why(house: House, spec: ModelSpec, context: Context) -> None:
    strict = spec.model_copy(update={"retraining": RetrainingSpec(cooldown_hours=24, max_per_week=3)})
    govern(strict, context("retraining", "decide", run="r1", payloads=[drift_run(house, spec, context, "d1")]))
    with pytest.raises(AirflowSkipException, match="cooldown_hours is 24"):
        govern(strict, context("retraining", "decide", run="r2", payloads=[drift_run(house, spec, context, "d2")]))
    assert [item.event.body["retrain"] for item in house.log.events(kind="retraining.decided")] == [True, False]


def test_an_outside_verdict_is_recorded_first(house: House, spec: ModelSpec, context: Context) -> None:
    outside = {"version": "1", "window": DAY.model_dump(mode="json"), "drifted": True, "share": 0.9}
    assert govern(spec, context("retraining", "decide", payloads=[outside]))["retrain"]
    event = house.log.events(kind="drift.verdict")[0].event
    assert event.body["source"] == "outside monitor"


def test_a_verdict_that_the_log_does_not_know(house: House, spec: ModelSpec, context: Context) -> None:
    with pytest.raises(GateError, match="which the audit log does not have"):
        govern(spec, context("retraining", "decide", payloads=[{"event_id": "00000000-0000-0000-0000-000000000000"}]))
    with pytest.raises(GateError, match="the audit log has no drift verdict"):
        govern(spec, context("retraining", "decide", user="mia"))


def live(spec: ModelSpec, context: Context) -> dict[str, Any]:
    return LiveModelOperator(task_id="live_model", spec=spec).execute(context("batch_inference", "live_model"))


def test_nothing_in_production(house: House, spec: ModelSpec, context: Context) -> None:
    with pytest.raises(PromotionError, match="has no version in production: train, validate and promote one first"):
        live(spec, context)


def test_an_alias_set_by_hand_stops_inference(house: House, spec: ModelSpec, context: Context) -> None:
    house.registry.set_alias(MODEL, "production", "1")
    with pytest.raises(PromotionError, match="by the audit log nothing is: it was never promoted, or it was demoted"):
        live(spec, context)
    moved(house, f"{MODEL}_promotion", "p", {**MOVED, "to_version": "2"})
    with pytest.raises(PromotionError, match="the last promotion put version 2 there. Someone moved the alias"):
        live(spec, context)


def test_an_alias_that_is_gone_says_what_brings_it_back(house: House, spec: ModelSpec, context: Context) -> None:
    moved(house, f"{MODEL}_promotion", "p", MOVED)
    with pytest.raises(PromotionError) as caught:
        live(spec, context)
    assert str(caught.value) == (
        f"version 1 of {MODEL} is in production by the audit log, but MLflow has no such alias. Run the DAG registry_guard, "
        f"which puts it back; if the version was deleted or changed, start {MODEL}_rollback or promote another one.")


def test_after_a_demotion_nothing_is_scored_and_an_archiving_changes_nothing(
        house: House, spec: ModelSpec, context: Context) -> None:
    moved(house, f"{MODEL}_promotion", "p", MOVED)
    moved(house, f"{MODEL}_rollback", "a", {"stage": "archived", "to_version": "2"})
    found = live_of(MODEL)
    assert found and found["version"] == "1"
    moved(house, f"{MODEL}_rollback", "d", {"stage": "production", "to_version": None})
    assert live_of(MODEL) is None
    with pytest.raises(PromotionError, match="has no version in production: train, validate and promote one first"):
        live(spec, context)


def test_a_changed_digest_tag_is_another_version() -> None:
    from airgate.lifecycle.live import verified

    moved = {"version": "1", "digest": DIGEST}
    with pytest.raises(PromotionError, match="changed the version's tags"):
        verified("m", Version("m", "1", "sha256:" + "f" * 64, {}, None), moved)


def test_the_sensor_gives_a_verdict_that_is_there(house: House, spec: ModelSpec, context: Context) -> None:
    drift_run(house, spec, context)
    found = DriftSensor(task_id="drift", model=MODEL).execute(context("batch_inference", "drift"))
    assert (found["drifted"], found["window"]["start"]) == (True, "2026-01-08")


def test_the_sensor_defers_and_its_trigger_finds_the_verdict_of_that_window_only(
        house: House, spec: ModelSpec, context: Context) -> None:
    drift_run(house, spec, context)
    sensor = DriftSensor(task_id="drift", model=MODEL, poke_interval=0.01, timeout=60)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context("batch_inference", "drift", params={"day": "2026-01-07"}))
    trigger = deferred.value.trigger
    assert isinstance(trigger, DriftVerdictTrigger)
    path, arguments = trigger.serialize()
    assert path == "airgate.lifecycle.drift_sensor.DriftVerdictTrigger"
    assert arguments == {"model": MODEL, "start": "2026-01-07", "end": "2026-01-08", "interval": 0.01}

    async def first(trigger: DriftVerdictTrigger) -> Any:
        async for event in trigger.run():
            return event.payload

    found = asyncio.run(first(DriftVerdictTrigger(**{**arguments, "start": "2026-01-08", "end": "2026-01-09"})))
    assert sensor.resume({}, found)["share"] == 0.8


def test_a_log_that_cannot_be_read_fails_the_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_AUDIT_URL", "sqlite:////nowhere/audit.db")

    async def first() -> Any:
        async for event in DriftVerdictTrigger(MODEL, "2026-01-08", "2026-01-09", 0.01).run():
            return event.payload

    found = asyncio.run(first())
    with pytest.raises(AirgateError, match="the drift verdict could not be looked up"):
        DriftSensor(task_id="drift", model=MODEL).resume({}, found)
