"""An alias moved behind the promotion's back stops inference, and the guard puts it back."""

import pytest
from tests.flight.place import Place, wait_until

from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.runs import dag_id
from airgate.errors import StepError
from airgate.platform.story import GUARD, LAST_DAY, MODEL, Story

UNEXPLAINED = f"{MODEL} {PRODUCTION} is version 1 in MLflow, the last move on record put version 2 there"

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500),
              pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")]


def test_inference_refuses_a_version_that_no_promotion_put_there_and_the_guard_undoes_it(place: Place, story: Story) -> None:
    from mlflow.tracking import MlflowClient

    _pause_guard(place)
    mlflow = MlflowClient(place.settings()["AIRGATE_MLFLOW_URI"])
    mlflow.set_registered_model_alias(MODEL, PRODUCTION, "1")
    run = place.start("mia", dag_id(MODEL, "batch_inference"), day=LAST_DAY)
    with pytest.raises(StepError, match="Someone moved the alias"):
        place.finish(run)
    failed = place.events(run, "task.failed", "live_model")[-1]
    assert str(failed.body["message"]).startswith(
        f"MLflow calls version 1 of {MODEL} production, but the last promotion put version 2 there.")
    assert place.task(run, "predict")["state"] == "upstream_failed"
    assert place.events(run, task="predict") == []
    code, said = place.airgate("audit", "sweep", "--settle", "60")
    assert code == 3, said
    assert f"completeness: UNEXPLAINED 1\n  {UNEXPLAINED}\n" in said
    [alarm] = place.audit.events(kind="audit.alarm")
    assert (alarm.event.model, alarm.event.body["what"]) == (MODEL, UNEXPLAINED)
    place.ready(GUARD)
    place.finish(place.start("omar", GUARD))
    assert place.live(MODEL) == "2"
    changes = [item.event.body for item in place.audit.events(kind="registry.changed")]
    assert [(one["what"], one["before"], one["after"], one["restored"]) for one in changes] == [
        ("alias.changed", "2", "1", False), ("alias.changed", "2", "1", True)]
    place.clear("mia", run, "live_model")
    place.finish(run)
    assert place.events(run, "task.succeeded", "predict")[0].version == "2"


def _pause_guard(place: Place) -> None:
    """It would be faster than the inference that is to meet the alias."""
    place.admin.patch(f"dags/{GUARD}", {"is_paused": True})
    wait_until(lambda: not place.admin.get(f"dags/{GUARD}/dagRuns", state="running")["total_entries"], "the guard's last run")
