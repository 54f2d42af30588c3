"""Model versions and the alias: MLflow's word held against the log's."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.audit.accounts import NOW, Airflow, Mlflow

from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of
from airgate.audit.registry_changes import Change, found_event, records, restored_event
from airgate.audit.store import AuditStore
from airgate.audit.sweep import compare, sweep
from airgate.audit.versions import RegisteredVersion, models_known
from airgate.contracts.standard_steps import REGISTER
from airgate.contracts.version_tags import DAG, DIGEST, RUN


def version(number, digest="d1", run_id="train1"):
    tags = {DIGEST: digest, DAG: "m_training", RUN: run_id}
    return RegisteredVersion(number, {tag: text for tag, text in tags.items() if text})


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRGATE_MODELS", str(tmp_path / "models"))
    in_catalog(tmp_path, "m")
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


def in_catalog(folder, *names):
    for name in names:
        (folder / "models" / name).mkdir(parents=True)
        (folder / "models" / name / "model.yaml").touch()


def record(log, kind, number=None, at=NOW, run_id="train1", **body):
    task = TaskRef(dag_id="m_training", run_id=run_id, task_id="register", try_number=1)
    log.append(AuditEvent(event_id=event_id_of(kind, run_id, str(body), at.isoformat()), kind=kind, occurred_at=at, task=task,
                          model="m", version=number, actor=Actor(kind="user", name="mia"), source="operator", body=body))


def began(log, digest="d1", run_id="train1"):
    record(log, "task.started", run_id=run_id, function=REGISTER, inputs={"model": digest, "data": "x"})


def registered(log, number, digest="d1", run_id="train1"):
    facts = {"model_version": number, "model_digest": digest}
    record(log, "task.succeeded", number, run_id=run_id, function=REGISTER, facts=facts)


def moved(log, number, kind="stage.moved", at=NOW):
    record(log, kind, number, at=at, to_version=number, model_digest="d1", stage="production")


def lines(log, *versions, alias=None):
    return [finding.line for finding in compare(Airflow(), log, Mlflow({"m": list(versions)}, {"m": alias})).unexplained]


def test_what_training_registered_and_a_promotion_moved_is_explained(log):
    registered(log, "1")
    registered(log, "2", "d2", "train2")
    moved(log, "1")
    moved(log, "2", at=NOW + timedelta(days=1))
    report = sweep(Airflow(), log, Mlflow({"m": [version("1"), version("2", "d2", "train2")]}, {"m": "2"}))
    assert (report.versions, report.unexplained) == (2, [])
    assert log.events(kind="audit.alarm") == []


def test_a_version_that_nothing_on_record_registered(log):
    registered(log, "1")
    for strange in (version("7", "d7", "train7"), RegisteredVersion("7")):
        assert lines(log, version("1"), strange) == ["m version 7 is in MLflow, but no training on record registered it"]


def test_a_step_that_scores_names_a_version_and_registers_none(log):
    record(log, "task.succeeded", "1", function="airgate.steps.predict:predict", facts={"model_version": "1"})
    assert lines(log, version("1")) == ["m version 1 is in MLflow, but no training on record registered it"]


def test_a_register_step_that_is_under_way_or_was_killed_explains_its_version(log):
    began(log)
    assert lines(log, version("1")) == []
    assert len(lines(log, version("1", "forged"))) == 1
    assert len(lines(log, version("1", run_id="other"))) == 1


def test_a_version_that_mlflow_lost(log):
    registered(log, "1")
    assert lines(log) == ["m version 1 was registered by the log's word, but MLflow no longer has it"]


def test_a_version_with_another_digest_than_its_training_recorded(log):
    registered(log, "1")
    assert lines(log, version("1", "other")) == ["m version 1: airgate.digest is other in MLflow, d1 on record"]
    assert lines(log, version("1", None)) == ["m version 1: airgate.digest is not set in MLflow, d1 on record"]


def test_an_alias_that_no_promotion_put_there(log):
    registered(log, "1")
    assert lines(log, version("1"), alias="1") == [
        "m production is version 1 in MLflow, the last move on record put none there"]
    moved(log, "1")
    assert lines(log, version("1"), alias="1") == []
    assert lines(log, version("1"), alias="2") == [
        "m production is version 2 in MLflow, the last move on record put version 1 there"]
    assert lines(log, version("1"), alias=None) == [
        "m production is no version in MLflow, the last move on record put version 1 there"]


def test_a_move_under_way_explains_the_alias_but_not_for_ever(log):
    registered(log, "1")
    moved(log, "1", "stage.moving", at=datetime.now(UTC))
    assert lines(log, version("1"), alias="1") == []
    assert lines(log, version("1"), alias=None) == []


def test_a_move_that_was_begun_long_ago_and_never_completed_is_told(log):
    registered(log, "1")
    moved(log, "1", "stage.moving")
    assert len(lines(log, version("1"), alias="1")) == 1


def test_each_finding_is_an_alarm_once_and_is_found_while_it_stands(log):
    registered(log, "1")
    mlflow = Mlflow({"m": [version("1")]}, {"m": "1"})
    for _ in range(2):
        assert len(sweep(Airflow(), log, mlflow).unexplained) == 1
    [alarm] = [stored.event for stored in log.events(kind="audit.alarm")]
    assert (alarm.model, alarm.version, alarm.source) == ("m", "1", "sweep")
    assert alarm.body["what"] == "m production is version 1 in MLflow, the last move on record put none there"
    mlflow.aliases.clear()
    assert sweep(Airflow(), log, mlflow).unexplained == []


def test_what_is_registered_while_we_look_explains_itself(log):
    class Slow(Mlflow):
        """A training that ends between our reading of MLflow and of the log; and a version that comes with the next look."""

        def state(self, model):
            found = super().state(model)
            if not found.versions:
                registered(log, "1")
                self.list["m"] = [version("1")]
            return found

    began(log)
    assert compare(Airflow(), log, Slow()).unexplained == []


def test_models_are_those_of_the_log_and_of_the_catalog(log, tmp_path):
    (tmp_path / "models" / "m" / "model.yaml").unlink()
    assert models_known(log, tmp_path / "models") == []
    registered(log, "1")
    moved(log, "1")
    in_catalog(tmp_path, "new")
    (tmp_path / "models" / "empty").mkdir()
    assert models_known(log, tmp_path / "models") == ["m", "new"]
    strange = [RegisteredVersion("1")]
    mlflow = Mlflow({"m": [version("1")], "new": strange, "of another team": strange}, {"m": "1"})
    assert [finding.line for finding in compare(Airflow(), log, mlflow).unexplained] == [
        "new version 1 is in MLflow, but no training on record registered it"]


def test_a_version_whose_record_expired_is_not_judged(log):
    from sqlalchemy import text

    registered(log, "1")
    with log.database.engine.begin() as owner:
        owner.execute(text("DROP TRIGGER airgate_events_no_update"))
        owner.execute(text("UPDATE airgate_events SET entry = NULL"))
    assert lines(log, version("1")) == []
    assert lines(log) == []


def found_by_the_guard(log, change):
    log.append(found_event(change, "left in place", records(log, "m").get(change.key), occurred_at=NOW, source="operator"))


def test_what_the_guard_has_on_record_is_not_told_again(log):
    registered(log, "1")
    moved(log, "1")
    strange = Change("version.created", "m", "7", after={"source": None, "mlflow_run": None})
    found_by_the_guard(log, strange)
    found_by_the_guard(log, Change("alias.changed", "m", "production", "1", "7"))
    assert lines(log, version("1"), RegisteredVersion("7"), alias="7") == []
    assert lines(log, version("1"), RegisteredVersion("7", {DIGEST: "d"}), alias="1") == [
        "m version 7 is in MLflow, but no training on record registered it"]


def test_what_was_put_back_and_comes_again_is_told(log):
    registered(log, "1")
    moved(log, "1")
    change = Change("alias.changed", "m", "production", "1", "2")
    found_by_the_guard(log, change)
    log.append(restored_event(change, "set back", records(log, "m")[change.key].event_id, occurred_at=NOW, source="operator"))
    assert len(lines(log, version("1"), alias="2")) == 1


def test_every_stage_has_its_alias_and_a_demotion_leaves_none(log):
    registered(log, "1")
    registered(log, "2", "d2", "train2")
    record(log, "stage.moved", "1", to_version="1", stage="staging")
    moved(log, "2")
    there = version("1"), version("2", "d2", "train2")
    assert lines(log, *there, alias={"staging": "1", "production": "2"}) == []
    assert lines(log, *there, alias={"production": "2"}) == [
        "m staging is no version in MLflow, the last move on record put version 1 there"]
    record(log, "stage.moved", "2", to_version=None, stage="production", cause="demotion")
    assert lines(log, *there, alias={"staging": "1"}) == []


def test_the_alias_of_a_version_that_was_lost_is_not_told_as_well(log):
    registered(log, "1")
    moved(log, "1")
    assert lines(log, version("2", "d2", "train2")) == [
        "m version 1 was registered by the log's word, but MLflow no longer has it",
        "m version 2 is in MLflow, but no training on record registered it"]
