import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.dags.conftest import ROOT, Load

from airgate.contracts.runs import FLOWS, dag_id
from airgate.errors import SpecError

MODELS = ["diagnosis_classifier", "diagnosis_network"]
CHAINS = {
    "training": ["load_window", "check", "features", "train", "evaluate", "register", "sign"],
    "validation": ["candidate", "compare", "verdict"],
    "promotion": ["request", "approve_ml_engineer", "approve_risk_officer", "apply"],
    "batch_inference": ["live_model", "predict"],
    "drift_check": ["live_model", "load_day", "load_reference", "check", "verdict"],
    "retraining": ["decide", "start_training"],
    "bundle_import": ["take", "unpack", "register", "sign", "verdict"],
    "rollback": ["change", "review", "close"],
}


@pytest.mark.parametrize("flow", FLOWS)
def test_each_file_makes_one_dag_a_model(load: Load, flow: Any) -> None:
    dags = load(ROOT / "dags" / f"{flow}.py")
    assert sorted(dags) == sorted(dag_id(model, flow) for model in MODELS)
    for dag in dags.values():
        assert sorted(dag.task_ids) == sorted(CHAINS[flow])
        assert not dag.catchup


@pytest.mark.parametrize("path", sorted([*(ROOT / "dags").glob("*.py"), *(ROOT / "docs" / "examples").glob("*.py")]),
                         ids=lambda path: path.stem)
def test_no_file_breaks_a_policy_and_each_reads_in_under_60_lines(load: Load, path: Path) -> None:
    from airgate.governance.dag_rules import violations

    for dag in load(path).values():
        assert violations(dag) == []
    assert len(path.read_text().splitlines()) < 60
    # Airflow skips files without its name in them, unless [core] dag_discovery_safe_mode is off.
    assert "airflow" in path.read_text().lower()


def test_the_dags_hang_together_by_assets(load: Load) -> None:
    scheduled = {flow: load(ROOT / "dags" / f"{flow}.py")[dag_id(MODELS[0], flow)].schedule
                 for flow in ("validation", "promotion", "retraining")}
    assert {flow: asset.name for flow, asset in scheduled.items()} == {
        "validation": "diagnosis_classifier.candidate", "promotion": "diagnosis_classifier.validated",
        "retraining": "diagnosis_classifier.drift"}
    emits = {task: load(ROOT / "dags" / f"{flow}.py")[dag_id(MODELS[0], flow)].get_task(task).outlets
             for flow, task in (("training", "sign"), ("validation", "verdict"))}
    assert [outlets[0].name for outlets in emits.values()] == ["diagnosis_classifier.candidate", "diagnosis_classifier.validated"]


def test_inference_in_parts_scores_each_apart_and_publishes_at_the_end(
        load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airgate.authoring.mapping import plan_of
    from airgate.governance.dag_rules import violations

    models = tmp_path / "models"
    shutil.copytree(ROOT / "include" / "models", models, ignore=shutil.ignore_patterns("__pycache__"))
    spec = models / "diagnosis_classifier" / "model.yaml"
    spec.write_text(spec.read_text() + "\ninference: {part_days: 7, max_parts: 3}\n")
    monkeypatch.setenv("AIRGATE_MODELS", str(models))
    dags = load(ROOT / "dags" / "batch_inference.py")
    assert sorted(dags["diagnosis_network_batch_inference"].task_ids) == ["live_model", "predict"]
    dag = dags["diagnosis_classifier_batch_inference"]
    before = {task.task_id: task.upstream_task_ids for task in dag.tasks}
    assert before == {"live_model": set(), "partition": {"live_model"}, "predict": {"live_model", "partition"},
                      "publish": {"live_model", "partition", "predict"}}
    scored, published = plan_of(dag.get_task("predict")), plan_of(dag.get_task("publish"))
    assert scored and published
    assert dag.get_task("predict").max_active_tis_per_dag == 3 and scored.each == "part"
    assert set(scored.json_inputs) == set(published.json_inputs) == {"live"}  # held against the log by every task
    assert published.gathers == {"predicted": "predict"}
    assert violations(dag) == []


def test_nobody_answers_means_no_default(load: Load) -> None:
    dag = load(ROOT / "dags" / "promotion.py")["diagnosis_classifier_promotion"]
    for role, people in (("ml_engineer", ["ana"]), ("risk_officer", ["omar"])):
        task = dag.get_task(f"approve_{role}")
        assert task.defaults is None
        assert [user["id"] for user in task.assigned_users] == people
        assert task.response_timeout is not None
    assert dag.get_task("apply").trigger_rule.value == "all_done"


def test_a_rollback_waits_for_no_review_and_its_review_has_no_default(load: Load) -> None:
    dag = load(ROOT / "dags" / "rollback.py")["diagnosis_classifier_rollback"]
    assert dag.max_active_runs > 4 and dag.schedule is None
    assert dag.get_task("review").defaults is None
    assert [user["id"] for user in dag.get_task("review").assigned_users] == ["ana", "omar"]
    assert dag.get_task("close").trigger_rule.value == "all_done"
    assert [asset.name for asset in dag.get_task("change").outlets] == ["airgate.promotions"]
    assert dag.params.get_param("reason").schema["minLength"] == 3


def test_a_broken_model_is_one_import_error_and_the_others_keep_their_dags(
        load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "include" / "models", models, ignore=shutil.ignore_patterns("__pycache__"))
    spec = models / "diagnosis_network" / "model.yaml"
    spec.write_text(spec.read_text().replace("owner:", "ownr:"))
    monkeypatch.setenv("AIRGATE_MODELS", str(models))
    assert list(load(ROOT / "dags" / "training.py")) == ["diagnosis_classifier_training"]
    with pytest.raises(SpecError) as caught:
        load(ROOT / "dags" / "broken_models.py")
    assert "diagnosis_network/model.yaml: " in str(caught.value)
    assert "unknown key 'ownr'; did you mean 'owner'?" in str(caught.value)
    assert "diagnosis_classifier" not in str(caught.value)


def test_a_schedule_ends_with_its_feed() -> None:
    from datetime import UTC, date, datetime

    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction

    from airgate.authoring.timetable import FeedTimetable

    table = FeedTimetable.deserialize(FeedTimetable("0 0 * * *", last_day=date(2026, 1, 12)).serialize())
    everything = TimeRestriction(earliest=pendulum.datetime(2026, 1, 1), latest=None, catchup=True)
    days, last = [], None
    while info := table.next_dagrun_info(last_automated_data_interval=last, restriction=everything):
        last = info.data_interval
        days.append(last.start.date())
    assert days == [date(2026, 1, day) for day in range(1, 13)]
    now = TimeRestriction(earliest=pendulum.datetime(2026, 1, 1), latest=None, catchup=False)
    assert table.next_dagrun_info(last_automated_data_interval=None, restriction=now) is None
    manual = table.infer_manual_data_interval(run_after=pendulum.instance(datetime(2026, 3, 5, 9, tzinfo=UTC)))
    assert manual == DataInterval(pendulum.datetime(2026, 3, 4), pendulum.datetime(2026, 3, 5))
    assert table.summary == "0 0 * * * until 2026-01-12"
