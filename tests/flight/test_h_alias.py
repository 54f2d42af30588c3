"""An alias moved behind the promotion's back stops inference until it is restored."""

import pytest
from tests.flight.place import Place

from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.runs import dag_id
from airgate.errors import StepError
from airgate.platform.story import LAST_DAY, MODEL, Story

UNEXPLAINED = f"{MODEL} {PRODUCTION} is version 1 in MLflow, the last move on record put version 2 there"

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500),
              pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")]


def test_inference_refuses_a_version_that_no_promotion_put_there(place: Place, story: Story) -> None:
    from mlflow.tracking import MlflowClient

    mlflow = MlflowClient(place.settings()["AIRGATE_MLFLOW_URI"])
    mlflow.set_registered_model_alias(MODEL, PRODUCTION, "1")
    try:
        run = place.start("mia", dag_id(MODEL, "batch_inference"), day=LAST_DAY)
        with pytest.raises(StepError, match="Someone moved the alias"):
            place.finish(run)
        [failed] = place.events(run, "task.failed", "live_model")
        assert str(failed.body["message"]).startswith(
            f"MLflow calls version 1 of {MODEL} production, but the last promotion put version 2 there.")
        assert place.task(run, "predict")["state"] == "upstream_failed"
        assert place.events(run, task="predict") == []
        code, said = place.airgate("audit", "sweep", "--settle", "60")
        assert code == 3, said
        assert f"completeness: UNEXPLAINED 1\n  {UNEXPLAINED}\n" in said
        [alarm] = place.audit.events(kind="audit.alarm")
        assert (alarm.event.model, alarm.event.body["what"]) == (MODEL, UNEXPLAINED)
    finally:
        mlflow.set_registered_model_alias(MODEL, PRODUCTION, "2")
    place.clear("mia", run, "live_model")
    place.finish(run)
    assert place.events(run, "task.succeeded", "predict")[0].version == "2"
