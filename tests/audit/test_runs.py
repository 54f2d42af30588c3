"""DAG runs: each end of each run has its event."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.audit.accounts import NOW, Airflow, ended

from airgate.audit.event import Actor, AuditEvent, CodeRef, event_id_of
from airgate.audit.runs import actor_of, run_ended
from airgate.audit.store import AuditStore
from airgate.audit.sweep import compare, sweep


@pytest.fixture
def log(tmp_path):
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


def by_hand(log, **body):
    log.append(AuditEvent(event_id=event_id_of("by hand", str(body)), kind="manual.change", occurred_at=NOW, source="api",
                          actor=Actor(kind="user", name="mia"), body={"change": "run.changed", **body}))


def test_a_run_that_left_nothing_is_named(log):
    found = compare(Airflow(ended()), log)
    assert list(found.verdict()) == ["completeness: MISSING 1", "  d r: Airflow says the run ended as success, no run.ended"]


def test_a_run_that_has_not_ended_is_not_missing(log):
    assert compare(Airflow(ended(state="running", end=None), ended("q", "queued", end=None)), log).added == []


def test_the_callbacks_event_answers_for_that_end_alone(log):
    log.append(run_ended(ended(), "callback", CodeRef(), reason="success"))
    assert compare(Airflow(ended()), log).added == []
    again = ended(end=NOW + timedelta(hours=1))  # it was cleared, and ended once more
    other = ended("q")
    assert [found.run for found in compare(Airflow(again, other), log).added] == [again, other]


def test_what_is_recovered_says_all_that_airflow_tells(log):
    run = ended(state="failed", run_type="asset_triggered", user=None, logical_date=NOW, dag_version="v7")
    alone = ended(run_type="asset_triggered", user=None, bundle_version="c0ffee", assets=("rows", "labels", "rows"))
    sweep(Airflow(run, single=alone), log)
    [event] = [stored.event for stored in log.events()]
    assert (event.kind, event.source, event.recovered, event.occurred_at, event.task) == ("run.ended", "sweep", True, NOW, None)
    assert event.actor == Actor(kind="asset", name="labels, rows")
    assert (event.code.commit, event.code.image) == ("c0ffee", "unknown")
    assert event.body == {
        "dag_id": "d", "run_id": "r", "state": "failed", "run_type": "asset_triggered",
        "logical_date": "2025-01-01T12:00:00.000000Z", "start": "2025-01-01T11:58:00.000000Z", "dag_version": "v7",
        "account": "airflow rest api"}


def test_an_end_that_changed_its_state_needs_a_person(log):
    log.append(run_ended(ended(state="failed"), "callback", CodeRef()))
    by_hand(log, dag_id="d", run_id="other", state="success")
    report = compare(Airflow(ended()), log)
    assert [finding.line for finding in report.unexplained] == [
        "d r: Airflow says the run ended as success; the log says that this end had another state, and nobody is on record who "
        "marked it"]
    by_hand(log, dag_id="d", run_id="r", state="success")
    report = sweep(Airflow(ended()), log)
    assert report.unexplained == []
    assert len(report.added) == 1


def test_a_run_without_an_end_time_has_an_event_all_the_same(log):
    assert len(sweep(Airflow(ended(end=None)), log).added) == 1
    assert sweep(Airflow(ended(end=None)), log).added == []


@pytest.mark.parametrize(("run_type", "user", "assets", "kind", "name"), [
    ("manual", "ana", (), "user", "ana"),
    ("manual", None, (), "system", "manual"),
    ("asset_materialization", "ana", (), "user", "ana"),
    ("operator_triggered", "ana", (), "user", "ana"),
    ("operator_triggered", None, (), "system", "operator_triggered"),
    ("scheduled", None, (), "schedule", "d"),
    ("backfill", "ana", (), "backfill", "ana"),
    ("backfill", None, (), "backfill", "d"),
    ("asset_triggered", None, ("b", "a"), "asset", "a, b"),
    ("asset_triggered", None, (), "asset", "d"),
])
def test_who_or_what_started_a_run(run_type, user, assets, kind, name):
    assert actor_of("d", run_type, user, assets) == Actor(kind=kind, name=name)


@pytest.mark.parametrize(("dag_id", "run_type", "run_id", "name"), [
    ("tumour_training", "operator_triggered", "retrain__1", "tumour_retraining"),
    ("tumour_training", "operator_triggered", "other", "operator_triggered"),
    ("tumour_training", "manual", "retrain__1", "manual"),  # whoever names a run by hand like this is not believed
    ("tumour_promotion", "operator_triggered", "retrain__1", "operator_triggered"),
    ("training", "operator_triggered", "retrain__1", "operator_triggered"),
])
def test_a_training_that_the_governor_started_names_the_retraining(dag_id, run_type, run_id, name):
    assert actor_of(dag_id, run_type, None, run_id=run_id) == Actor(kind="system", name=name)
    assert replace(ended(run_id, run_type=run_type, user=None), dag_id=dag_id).actor.name == name


def test_a_name_fits_an_event():
    assert actor_of("d", "manual", "a\x00" * 300).name == "a" * 250
