"""The evidence of a request: which reports it names, and what becomes of one that is not as it was."""

from datetime import date
from pathlib import Path

import pytest
from tests.lifecycle.conftest import MODEL, REPORT, Context, House
from tests.lifecycle.test_promotion import judged, live, requested, tasks

from airgate.audit.event import Actor, TaskRef, task_event
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import DriftVerdict
from airgate.contracts.step import Window
from airgate.errors import ArtifactError, PromotionError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def drifted(house: House, run: str, report: str | None) -> None:
    verdict = DriftVerdict(model=MODEL, version="1", window=Window(start=date(2026, 1, 8), end=date(2026, 1, 9)), drifted=False,
                           share=0.1, report_digest=report)
    house.log.append(task_event(
        "drift.verdict", TaskRef(dag_id=f"{MODEL}_drift_check", run_id=run, task_id="verdict", try_number=1), model=MODEL,
        actor=Actor(kind="schedule", name="s"), source="operator", body=verdict.model_dump(mode="json", exclude={"event_id"})))


def test_a_request_names_every_report_there_is(house: House, spec: ModelSpec, context: Context) -> None:
    fairness, older, newer = (house.stored(text) for text in (b"fair", b"older", b"newer"))
    event_id = judged(house, spec)
    house.succeeded(f"{MODEL}_validation", "v-t1", "fairness", {"attachments": {"fairness.json": fairness}})
    drifted(house, "d1", older)
    drifted(house, "d2", newer)
    text = tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))
    request = requested(house)
    assert {name: digest for name, digest in request.reports.items() if name != "gates"} == {
        "evaluation": REPORT, "data_check": REPORT, "fairness": fairness, "drift": newer}
    assert f"| fairness report | `{fairness[:23]}` |" in text["body"]
    assert "I reviewed the gate verdict, the evaluation, the data check, the fairness report and the drift" in text["body"]
    assert (request.environment, request.from_stage, request.to_stage) == ("development", "development", "production")


def test_a_training_without_a_data_check_cannot_be_asked_for(house: House, spec: ModelSpec, context: Context) -> None:
    event_id = judged(house, spec)
    again = TaskRef(dag_id=f"{MODEL}_training", run_id="t1", task_id="check", try_number=2)
    house.log.append(task_event("task.succeeded", again, actor=Actor(kind="user", name="mia"), source="operator", model=MODEL,
                                body={"attachments": {}}))
    with pytest.raises(PromotionError, match="the audit log has no data check of training run 't1'"):
        tasks(spec)[0].execute(context("promotion", "request", payloads=[{"event_id": event_id}]))


def test_a_store_that_cannot_be_read_is_no_answer(house: House, spec: ModelSpec, context: Context) -> None:
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    house.answer("ml_engineer", "ana", text)
    house.answer("risk_officer", "omar", text)
    path: Path = house.stored_at(REPORT)
    path.unlink()
    path.mkdir()  # reading it fails, and not because nothing is there
    with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
        apply.execute(context("promotion", "apply"))
    assert house.kinds() == ["gate.verdict", "promotion.requested"] and live(house) is None
    path.rmdir()
    house.stored(b'{"passed": true}')
    assert apply.execute(context("promotion", "apply", attempt=2))["outcome"] == "applied"
