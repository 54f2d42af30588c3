"""Parts that several tasks score, and the step that makes them visible. Model, registry, data and files are real."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from tests.steps.data_support import QUIET, context, day, rows
from tests.steps.signing_support import promotion_of
from tests.steps.test_partitions import in_parts

from airgate.contracts.provenance import claim_in
from airgate.errors import ArtifactError, ContractError, DataError, SignatureError
from airgate.steps import versions
from airgate.steps.features import features_of
from airgate.steps.manifest import manifest, manifest_digest
from airgate.steps.model_xgboost import XGBoostModel
from airgate.steps.partitions import partition
from airgate.steps.predict import predict
from airgate.steps.publish import publish

pytestmark = QUIET
NAME = "diagnosis_classifier"


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A signed version in a real MLflow: (tracking URI, the `live` value for it)."""
    from mlflow.tracking import MlflowClient

    inputs = features_of(NAME)(rows(1, 4)).drop(columns=["sample_id", "malignant"])
    booster = xgb.train({"objective": "binary:logistic", "seed": 1, "nthread": 1},
                        xgb.DMatrix(inputs.to_numpy(), label=rows(1, 4)["malignant"]), 5)
    root = tmp_path_factory.mktemp("mlflow")
    XGBoostModel(booster, list(inputs), "malignant").save(root / "model")
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.create_run(client.create_experiment("tests", artifact_location=f"file://{root}/artifacts"))
    client.log_artifacts(run.info.run_id, str(root / "model"), f"kept/{versions.FOLDER}")
    client.create_registered_model(NAME)
    version = client.create_model_version(NAME, source=f"{run.info.artifact_uri}/kept", run_id=run.info.run_id).version
    files = manifest(root / "model")
    live = {"model": NAME, "version": str(version), "digest": manifest_digest(files)}
    return uri, {**live, "signature": promotion_of(live, files)}


@pytest.fixture
def run(registered, tmp_path):
    """A DAG run over days 6 to 10, in parts of two days."""
    return Run(*registered, tmp_path)


class Run:
    def __init__(self, uri, live, folder):
        self.uri, self.live, self.folder = uri, live, folder
        self.output = f"file://{folder}/out"
        self.parts = partition(self.context("partition"))

    def context(self, task, map_index=-1, try_number=1):
        ctx = in_parts(context(self.folder, day(6, days=5), tracking_uri=self.uri), 2)
        run = ctx.call.run.model_copy(update={"task_id": task, "map_index": map_index, "try_number": try_number})
        ctx.call = ctx.call.model_copy(update={"run": run})
        return ctx

    def score(self, index, try_number=1, live=None):
        return predict(live or self.live, self.output, self.context("predict", index, try_number), part=self.parts[index])

    def publish(self, predicted, live=None, parts=None):
        return publish(live or self.live, self.output, parts or self.parts, predicted, self.context("publish"))

    def visible(self):
        return sorted(path.parent.name for path in (self.folder / "out").rglob("*.parquet") if not path.name.startswith("."))

    def hidden(self):
        return sorted(path.name for path in (self.folder / "out").rglob(".*") if path.is_file())


def test_parts_become_visible_together_and_are_what_one_task_would_have_scored(run, tmp_path):
    predicted = [run.score(index) for index in (2, 0, 1)]  # in whatever order they end
    assert run.visible() == [] and len(run.hidden()) == 5
    assert [one["files"] for one in predicted] == [[], [], []]
    result = run.publish(predicted)
    assert run.visible() == [f"date=2026-01-{number:02}" for number in range(6, 11)] and run.hidden() == []
    whole = predict(run.live, f"file://{tmp_path}/alone", run.context("predict"))
    assert set(result) == set(whole) and result["rows"] == whole["rows"] == len(rows(6, 10))
    for mine, other in zip(result["files"], whole["files"], strict=True):
        assert mine.removeprefix(f"{run.output}/") == other.removeprefix(f"file://{tmp_path}/alone/")
        frames = [pd.read_parquet(url.removeprefix("file://")).drop(columns="scored_at") for url in (mine, other)]
        pd.testing.assert_frame_equal(*frames)


def test_a_file_names_the_task_of_its_part_and_the_records_hold_its_digest(run):
    predicted = [run.score(index) for index in range(3)]
    result = run.publish(predicted)
    claims = [claim_in(pq.read_metadata(url.removeprefix("file://")).metadata, url) for url in result["files"]]
    assert [(claim.task_id, claim.map_index, claim.try_number) for claim in claims] == [
        ("predict", index, 1) for index in (0, 0, 1, 1, 2)]
    path = run.folder / "out" / NAME
    on_disk = manifest(path)
    assert on_disk == result["digests"] == {k: v for one in predicted for k, v in one["digests"].items()}
    assert result["digest"] == manifest_digest(on_disk)
    assert all(one["digest"] == manifest_digest(one["digests"]) for one in predicted)


def test_a_part_that_is_missing_publishes_nothing(run):
    predicted = [run.score(0), run.score(2)]
    with pytest.raises(DataError) as caught:
        run.publish(predicted)
    assert "part 2026-01-08 to 2026-01-09 has no predictions on record" in str(caught.value)
    assert "Nothing was published; clear that task so that it runs again." in str(caught.value)
    assert run.visible() == []
    run.publish([*predicted, run.score(1)])
    assert len(run.visible()) == 5


def test_what_an_older_try_wrote_late_changes_nothing(run):
    predicted = [run.score(0), run.score(1, try_number=2), run.score(2)]
    late = run.score(1, try_number=1)  # given up by Airflow, and still running
    result = run.publish(predicted)
    assert late["digests"] != predicted[1]["digests"]
    assert manifest(run.folder / "out" / NAME) == result["digests"]
    assert run.hidden() == []


def test_publishing_again_finishes_what_was_begun_and_a_part_can_be_done_again(run):
    predicted = [run.score(index) for index in range(3)]
    first = next(iter(predicted[0]["staged"].items()))
    root = run.folder / "out" / NAME
    (root / first[1]).rename(root / first[0])  # killed after the first move
    result = run.publish(predicted)
    assert manifest(root) == result["digests"]
    assert run.publish(predicted)["digests"] == result["digests"]
    again = [predicted[0], run.score(1, try_number=2), predicted[2]]  # one part was cleared
    later = run.publish(again)
    assert manifest(root) == later["digests"] != result["digests"]


def test_files_that_are_gone_or_were_exchanged_publish_nothing(run):
    predicted = [run.score(index) for index in range(3)]
    root = run.folder / "out" / NAME
    name, hidden = next(iter(predicted[1]["staged"].items()))
    (root / hidden).unlink()
    (root / name).write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="what was scored for it is gone.*1 of 5 days.*Nothing was published"):
        run.publish(predicted)
    assert run.visible() == ["date=2026-01-08"] and (root / name).read_bytes() == b"something else"


def test_a_promotion_in_between_publishes_nothing(run):
    predicted = [run.score(index) for index in range(3)]
    with pytest.raises(DataError, match="was scored by version 1, and version 2 is in production now. Nothing was published"):
        run.publish(predicted, live={**run.live, "version": "2"})
    assert run.visible() == []


def test_parts_that_are_not_the_window_publish_nothing(run):
    predicted = [run.score(index) for index in range(3)]
    with pytest.raises(DataError, match=r"do not make up the run's window, 2026-01-06 to 2026-01-11 .*see date=2026-01-10"):
        run.publish(predicted, parts=run.parts[:2])
    with pytest.raises(DataError, match="see a day that is there twice"):
        run.publish(predicted, parts=[*run.parts, run.parts[0]])
    with pytest.raises(ContractError, match="`live` is a version of 'other'"):
        run.publish(predicted, live={**run.live, "model": "other"})
    assert run.visible() == []


@pytest.mark.attack("inference: no signed promotion")
def test_every_part_verifies_the_signature_for_itself(run):
    with pytest.raises(SignatureError, match="version 1 is not signed, so it is not read"):
        run.score(1, live={**run.live, "signature": {}})
    assert not (run.folder / "out").exists()
