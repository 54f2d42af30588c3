from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from tests.audit.accounts import Airflow, Mlflow

from airgate.audit.event import Actor, AuditEvent, event_id_of
from airgate.audit.store import AuditStore
from airgate.audit.tries import TaskTry
from airgate.audit.versions import RegisteredVersion
from airgate.platform import summary
from airgate.platform.airflow_client import Leg, Run


def recorded(kind, actor="airgate", **body):
    event = AuditEvent(event_id=event_id_of(kind, actor), kind=kind, occurred_at=datetime.now(UTC), model="churn", version="2",
                       actor=Actor(kind="user", name=actor), source="operator", body=body)
    return SimpleNamespace(event=event)


def test_versions_show_every_gate_with_its_evidence():
    event = recorded("gate.verdict", passed=False, gates=[
        {"name": "roc_auc", "passed": True, "evidence": "0.97, at least 0.9"},
        {"name": "recall", "passed": False, "evidence": "0.41, at least 0.6"}])
    assert list(summary.versions([event])) == [
        "churn version 2: gates NOT passed", "    ok  roc_auc: 0.97, at least 0.9", "    NO  recall: 0.41, at least 0.6"]


def test_promotions_name_the_people_and_the_move():
    events = [recorded("promotion.approved", "ana", role="ml_engineer", at="noon"),
              recorded("promotion.refused", "omar", reasons=["too old", "too slow"]),
              recorded("stage.moved", stage="production", from_version=None)]
    assert list(summary.approvals(events)) == [
        "churn version 2: ana approved as ml_engineer at noon", "churn version 2: REFUSED: too old; too slow",
        "churn version 2: in production, in place of nothing"]


def test_drift_shows_the_share_and_the_decision():
    events = [recorded("drift.verdict", drifted=True, share=0.8, window={"start": "2026-01-10"}),
              recorded("retraining.decided", retrain=False, reason="too soon")]
    assert list(summary.drift(events)) == [
        "2026-01-10: drift, 80% of the columns differ from version 2's", "governor: do not retrain, too soon"]


def test_runs_are_listed_with_their_times():
    leg = Leg(Run("churn_training", "manual__1"), "success", 12.34, {})
    assert next(summary.runs([leg])).split() == ["churn_training", "success", "12.3", "s", "manual__1"]


@pytest.mark.parametrize(("results", "there"), [
    ([], False), ([{}], False), ([{"rows": 0, "files": ["s3://b/x"]}], False), ([{"rows": 3, "files": ["s3://b/x"]}], True),
    ([{"rows": 3, "files": ["file:///nowhere/x.parquet"]}], False),
])
def test_predictions_must_be_there(results, there):
    assert summary.predictions_are_there(results) is there


def test_a_local_file_with_odd_characters_is_found(tmp_path):
    file = tmp_path / "a b%.parquet"
    file.touch()
    assert summary.predictions_are_there([{"rows": 1, "files": [file.as_uri()]}])


@pytest.fixture
def store(tmp_path):
    made = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    made.create()
    return made


def test_a_whole_log_is_ok(store):
    verdict = summary.audit_verdict(store, Airflow(), settle=0)
    assert verdict.ok
    assert [line.partition(" none")[0] for line in verdict.lines()][:3] == ["integrity: ok", "checkpoints:", "completeness: ok"]


def test_a_try_without_a_record_is_missing(store):
    lost = TaskTry("churn_training", "manual__1", "train", -1, 1, "success", datetime.now(UTC), datetime.now(UTC), "X")
    verdict = summary.audit_verdict(store, Airflow(lost), settle=0)
    assert not verdict.ok
    assert list(verdict.lines())[2:4] == [
        "completeness: MISSING 1", "  churn_training manual__1 train try 1: Airflow says success, no task.succeeded"]


def test_what_cannot_be_explained_is_no_good_verdict(store):
    store.append(recorded("gate.verdict").event)
    verdict = summary.audit_verdict(store, Airflow(), Mlflow({"churn": [RegisteredVersion("1")]}), settle=0)
    assert not verdict.ok
    assert list(verdict.lines())[2:4] == [
        "completeness: UNEXPLAINED 1", "  churn version 1 is in MLflow, but no training on record registered it"]
