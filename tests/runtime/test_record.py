"""Small rules of the record: actors in words, long parts by digest, which tasks put themselves on record."""

from types import SimpleNamespace
from typing import Any

import pytest

from airgate.audit.event import Actor
from airgate.contracts.step import StepResult
from airgate.errors import ConfigError
from airgate.runtime import StepPlan, make_operator, record


def run(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"dag_id": "heart_training", "triggering_user_name": None, "consumed_asset_events": [], **fields})


def test_an_actor_in_a_run_context() -> None:
    assert record.actor_text(Actor(kind="user", name="ana")) == "user:ana"
    assert record.actor_text(Actor(kind="schedule", name="heart_training")) == "schedule"


def test_a_run_by_hand_without_a_user_is_the_systems() -> None:
    assert record.actor_of(run(run_type="manual")) == Actor(kind="system", name="manual")


def test_a_backfill_names_who_asked_for_it_if_anyone() -> None:
    assert record.actor_of(run(run_type="backfill", triggering_user_name="ana")).name == "ana"
    assert record.actor_of(run(run_type="backfill")).name == "heart_training"


def test_a_name_that_no_event_can_hold_is_cut() -> None:
    assert record.actor_of(run(run_type="manual", triggering_user_name="a\x00" * 300)).name == "a" * 250


def test_long_values_are_recorded_by_digest_and_size() -> None:
    assert record.bounded({"a": 1}) == {"a": 1}
    long = record.bounded({"a": "x" * record.PART_LIMIT})
    assert long["digest"].startswith("sha256:") and long["bytes"] == record.PART_LIMIT + len('{"a": ""}')


@pytest.mark.parametrize(("value", "version"), [
    ({"model": "heart", "version": "3"}, "3"), ({"version": "3"}, None), ({"model": "heart", "version": 3}, None), ([1], None),
])
def test_the_version_that_a_value_is_about(value: Any, version: str | None) -> None:
    assert record.version_of(StepResult(value=value, started_at="2026-01-09T06:00:00Z")) == version  # type: ignore[arg-type]


def test_a_steps_operator_puts_itself_on_record(home: Any) -> None:
    from airflow.sdk import DAG, BaseOperator

    dag = DAG("heart_training")
    assert record.is_step(make_operator(StepPlan("airgate.steps.load:load_day"), task_id="load", dag=dag))
    assert not record.is_step(BaseOperator(task_id="other", dag=dag))


def test_an_unknown_runtime_is_named(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_RUNTIME", "kubernets")
    with pytest.raises(ConfigError, match="did you mean 'kubernetes'"):
        make_operator(StepPlan("airgate.steps.load:load_day"), task_id="load")


def test_a_secret_that_airflow_knows_is_hidden_in_what_is_recorded() -> None:
    from airflow.sdk._shared.secrets_masker import mask_secret

    from airgate.runtime import record

    mask_secret("s3cr3t-canary")
    hidden = record.masked({"url": "https://x/?key=s3cr3t-canary", "password": "other", "rows": 3, "ok": None})
    assert hidden == {"url": "https://x/?key=***", "password": "***", "rows": 3, "ok": None}


def test_a_url_with_a_password_never_reaches_a_call() -> None:
    import pytest

    from airgate.errors import ConfigError
    from airgate.runtime.operator import without_password

    assert without_password("AIRGATE_MLFLOW_URI", "http://mlflow:5000") == "http://mlflow:5000"
    with pytest.raises(ConfigError, match="AIRGATE_MLFLOW_URI has a password in it") as caught:
        without_password("AIRGATE_MLFLOW_URI", "postgresql://mlflow:canary@db/mlflow")
    assert "canary" not in str(caught.value)
