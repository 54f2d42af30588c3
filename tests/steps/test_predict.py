import hashlib
import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from tests.steps.data_support import QUIET, add_partition, context, copy_of_demo, day, rows, spec
from tests.steps.signing_support import SIGNER, STAGING, STRANGER, promotion_of, registration_of

from airgate.contracts.provenance import FILE, Provenance, claim_in
from airgate.errors import ArtifactError, ConfigError, ContractError, DataError, SignatureError, SpecError, StepError
from airgate.steps import scoring, versions
from airgate.steps.features import features_of
from airgate.steps.manifest import manifest, manifest_digest
from airgate.steps.model_xgboost import XGBoostModel
from airgate.steps.predict import predict

pytestmark = QUIET
NAME = "diagnosis_classifier"


@pytest.fixture(scope="module")
def model():
    inputs = features_of(NAME)(rows(1, 8)).drop(columns=["sample_id", "malignant"])
    matrix = xgb.DMatrix(inputs.to_numpy(), label=rows(1, 8)["malignant"])
    booster = xgb.train({"objective": "binary:logistic", "seed": 1, "nthread": 1}, matrix, 10)
    return XGBoostModel(booster, list(inputs), "malignant")


@pytest.fixture(scope="module")
def registered(model, tmp_path_factory):
    """The model as a version in a real MLflow: (tracking URI, the `live` value for it, the version's folder)."""
    from mlflow.tracking import MlflowClient

    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.create_run(client.create_experiment("tests", artifact_location=f"file://{root}/artifacts"))
    model.save(root / "model")
    client.log_artifacts(run.info.run_id, str(root / "model"), f"kept/{versions.FOLDER}")
    client.create_registered_model(NAME)
    source = f"{run.info.artifact_uri}/kept"
    version = client.create_model_version(NAME, source=source, run_id=run.info.run_id).version
    files = manifest(root / "model")
    live = {"model": NAME, "version": str(version), "digest": manifest_digest(files)}
    live["signature"] = promotion_of(live, files)
    return uri, live, Path(source.removeprefix("file://")) / versions.FOLDER


@pytest.fixture
def call(registered, tmp_path):
    """Run predict for a window into tmp_path/out; changes are fields of the StepCall."""
    uri, live, _ = registered

    def run(window, repository=None, **changes):
        ctx = context(tmp_path, window, repository, **{"tracking_uri": uri, **changes})
        return predict(live, f"file://{tmp_path}/out", ctx), ctx

    return run


def published(folder):
    return sorted(str(one.relative_to(folder / "out")) for one in (folder / "out").rglob("*") if one.is_file())


def test_a_day_is_scored_as_the_model_says(call, model, registered, tmp_path, capsys):
    before = datetime.now(UTC)
    result, ctx = call(day(9))
    assert published(tmp_path) == [f"{NAME}/date=2026-01-09/predictions.parquet"]
    path = tmp_path / "out" / NAME / "date=2026-01-09" / "predictions.parquet"
    table = pq.ParquetFile(path).read()
    assert table.schema.equals(scoring.SCHEMA)
    found = table.to_pandas()
    assert found["id"].tolist() == rows(9)["sample_id"].tolist()
    expected = model.predict_proba(features_of(NAME)(rows(9)))
    assert found["score"].tolist() == expected.tolist()
    assert found["predicted"].tolist() == (expected >= 0.5).astype(int).tolist()
    assert found["day"].unique().tolist() == [date(2026, 1, 9)]
    assert found["model_version"].unique().tolist() == [registered[1]["version"]]
    assert found["scored_at"].nunique() == 1
    assert before <= found["scored_at"][0] <= datetime.now(UTC)

    name = "date=2026-01-09/predictions.parquet"
    listing = json.dumps({name: "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()}, separators=(",", ":"))
    assert result == {
        "rows": len(found), "files": [f"file://{path}"], "output": f"file://{tmp_path}/out", "model": NAME,
        "digests": json.loads(listing),
        "digest": "sha256:" + hashlib.sha256(listing.encode()).hexdigest(), "version": registered[1]["version"],
        "model_digest": registered[1]["digest"]}
    assert ctx.facts["predictions_digest"] == result["digest"]
    assert ctx.facts["model_version"] == result["version"]
    assert ctx.facts["rows"] == str(len(found))
    assert ctx.metrics == {"rows_scored": len(found)}
    assert f"{len(found)} rows scored by version" in capsys.readouterr().out


def test_a_file_says_which_run_and_version_made_it(call, registered):
    result, _ = call(day(9, days=2))
    for url, number in zip(result["files"], (9, 10), strict=True):
        found = claim_in(pq.read_metadata(url.removeprefix("file://")).metadata, url)
        assert found == Provenance(
            model=NAME, version=registered[1]["version"], model_digest=registered[1]["digest"], day=date(2026, 1, number),
            dag_id="tests", run_id="manual__1", task_id="step", try_number=1)
    listing = json.dumps(result["digests"], sort_keys=True, separators=(",", ":"))
    assert "sha256:" + hashlib.sha256(listing.encode()).hexdigest() == result["digest"]


def test_running_a_past_day_again_replaces_it_with_the_same_scores(call, tmp_path):
    first, _ = call(day(9, days=3))
    assert len(first["files"]) == 3
    frames = {name: pd.read_parquet(name.removeprefix("file://")) for name in first["files"]}
    again, _ = call(day(9, days=3))
    assert again["files"] == first["files"]
    assert again["rows"] == first["rows"] == sum(map(len, frames.values()))
    for name, frame in frames.items():
        other = pd.read_parquet(name.removeprefix("file://"))
        pd.testing.assert_frame_equal(other.drop(columns="scored_at"), frame.drop(columns="scored_at"))
        assert other["scored_at"][0] > frame["scored_at"][0]
    assert len(published(tmp_path)) == 3


def scorer(model, features=None, batch_rows=scoring.BATCH_ROWS):
    when = datetime(2026, 1, 9, tzinfo=UTC)
    return scoring.Scorer(spec(), model, features or features_of(NAME), "1", when, batch_rows)


def test_scores_do_not_depend_on_the_batch(model, tmp_path):
    source = tmp_path / "rows.parquet"
    frame = rows(1, 12).assign(sample_id=[f"Ø{n}" for n in range(569)])
    pq.write_table(pa.Table.from_pandas(frame), source, row_group_size=200)
    scores, seen = {}, []

    def features(frame):
        seen.append(len(frame))
        return features_of(NAME)(frame)

    for batch in (13, 64, 250, 100_000):
        seen.clear()
        scored = scorer(model, features, batch).score([(source, "rows")], date(2026, 1, 9), tmp_path / "out.parquet")
        assert scored == len(frame)
        assert max(seen) <= batch
        found = pd.read_parquet(tmp_path / "out.parquet")
        assert found["id"].tolist() == frame["sample_id"].tolist()
        scores[batch] = found["score"].to_numpy()
    for batch, values in scores.items():
        assert np.array_equal(values, scores[100_000]), batch


@pytest.mark.parametrize(("change", "text"), [
    (lambda f: f.drop(columns="mean_area"), "part-0.parquet refused: 1 checks failed\n- mean_area: expected the column to be"),
    (lambda f: f.assign(mean_area="wide"), "- mean_area: expected numbers"),
    (lambda f: f.assign(mean_area=[*f["mean_area"][:-1], np.inf]), "- mean_area: expected finite numbers; 1 of 48 rows"),
    (lambda f: f.assign(mean_area=[*f["mean_area"][:-1], np.nan]), "- mean_area: expected no missing value; 1 of 48 rows"),
    (lambda f: f.assign(mean_area=[*f["mean_area"][:-1], -1.0]), "- mean_area: expected values from 0 to 6000; 1 of 48 rows"),
    (lambda f: f.assign(sample_id=[*f["sample_id"][:-1], f["sample_id"][0]]), "2026-01-13: 1 ids are there more than once"),
    (lambda f: f.assign(sample_id=[*f["sample_id"][:-1], None]), "- sample_id: expected an id in every row"),
    (lambda f: f.iloc[:0], "part-0.parquet has no rows"),
    (lambda f: b"PAR1", "part-0.parquet cannot be read as Parquet"),
])
def test_a_bad_day_publishes_nothing_and_leaves_what_was_there(call, tmp_path, change, text):
    repository = copy_of_demo(tmp_path)
    call(day(12), repository)
    path = tmp_path / "out" / NAME / "date=2026-01-12" / "predictions.parquet"
    before = path.read_bytes()
    add_partition(repository, change(rows(2)))
    with pytest.raises(DataError) as caught:
        call(day(12, days=2), repository)  # the first of the two days is sound, the second is not
    assert text in str(caught.value)
    assert published(tmp_path) == [f"{NAME}/date=2026-01-12/predictions.parquet"]
    assert path.read_bytes() == before


def test_unlabelled_rows_numbers_as_ids_and_other_columns(call, tmp_path):
    repository = copy_of_demo(tmp_path)
    frame = rows(2).drop(columns="malignant").assign(sample_id=range(48), note="free text")
    add_partition(repository, frame)
    result, _ = call(day(13), repository)
    assert pd.read_parquet(result["files"][0].removeprefix("file://"))["id"].tolist() == [str(n) for n in range(48)]


@pytest.mark.parametrize(("features", "text"), [
    (lambda f: f.assign(area_spread=f["mean_area"] / f["mean_area"].mean(), concavity_spread=0.0), "other rows stand beside"),
    (lambda f: features_of(NAME)(f).iloc[::-1], "or in another order. Keep each row."),
    (lambda f: features_of(NAME)(f).iloc[1:], "gave 47 rows for 48"),
])
def test_features_must_work_row_by_row(model, tmp_path, features, text):
    rows(2).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(SpecError, match=text) as caught:
        scorer(model, features).score([(tmp_path / "rows.parquet", "rows")], date(2026, 1, 2), tmp_path / "out.parquet")
    assert "models/diagnosis_classifier/steps.py: features()" in str(caught.value)


def test_what_a_model_gives_must_be_probabilities(tmp_path):
    class Odd:
        features = ["mean_area"]

        def predict_proba(self, data):
            return data["mean_area"].to_numpy()

    rows(2).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(StepError, match="gave scores of shape"):
        scorer(Odd()).score([(tmp_path / "rows.parquet", "rows")], date(2026, 1, 2), tmp_path / "out.parquet")


@pytest.mark.attack("inference: a bit of the model is flipped")
def test_changed_model_files_score_nothing(registered, call, tmp_path):
    weights = registered[2] / XGBoostModel.weights_file
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        with pytest.raises(ArtifactError, match="have digest"):
            call(day(9))
    finally:
        weights.write_bytes(sound)
    assert not (tmp_path / "out").exists()


@pytest.mark.attack("inference: files and digest are exchanged together")
def test_files_that_were_exchanged_together_with_their_digest_score_nothing(registered, tmp_path):
    uri, live, folder = registered
    weights = folder / XGBoostModel.weights_file
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        forged = {**live, "digest": manifest_digest(manifest(folder))}
        with pytest.raises(SignatureError, match=f"not those that were signed; changed: {weights.name}. Do not use them"):
            predict(forged, f"file://{tmp_path}/out", context(tmp_path, day(9), tracking_uri=uri))
    finally:
        weights.write_bytes(sound)
    extra = folder / "extra.txt"
    extra.write_text("x")
    try:
        forged = {**live, "digest": manifest_digest(manifest(folder))}
        with pytest.raises(SignatureError, match="not signed: extra.txt"):
            predict(forged, f"file://{tmp_path}/out", context(tmp_path, day(9), tracking_uri=uri))
    finally:
        extra.unlink()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("signature", "message"), [
    (lambda _, __: {}, "version 1 is not signed, so it is not read.*run `airgate model sign diagnosis_classifier@1`"),
    (lambda live, files: promotion_of(live, files, STRANGER), r"does not count: signed by development\+.*not trusted"),
    (lambda live, files: promotion_of(live, files, STAGING), r"does not count: signed by staging\+.*not trusted"),
    (registration_of, "what was signed is no promotion to production"),
    (lambda live, files: promotion_of(live, files, stage="staging"), "what was signed is no promotion to production"),
    (lambda live, files: promotion_of(live, files, version="2"), "its signature is of diagnosis_classifier version 2"),
    (lambda live, files: live["signature"] | {"payload": "YQ=="}, "does not fit the signed text: one of them was changed"),
], ids=["none", "another key", "another environment", "registered only", "another stage", "another version", "changed"])
@pytest.mark.attack("inference: no signed promotion")
def test_without_a_signed_promotion_nothing_is_scored(registered, tmp_path, signature, message):
    uri, live, folder = registered
    with pytest.raises(SignatureError, match=message):
        predict({**live, "signature": signature(live, manifest(folder))}, f"file://{tmp_path}/out",
                context(tmp_path, day(9), tracking_uri=uri))
    assert not (tmp_path / "out").exists()


@pytest.mark.attack("inference: approved in another environment")
def test_what_another_environment_approved_is_not_approved_here(registered, tmp_path, monkeypatch):
    uri, live, folder = registered
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", f"{SIGNER.public.text()} {STAGING.public.text()}")
    with pytest.raises(SignatureError, match=r"it was signed for 'staging', and this is 'development' \(AIRGATE_ENVIRONMENT\)"):
        predict({**live, "signature": promotion_of(live, manifest(folder), STAGING)}, f"file://{tmp_path}/out",
                context(tmp_path, day(9), tracking_uri=uri))


def test_without_trusted_keys_nothing_is_scored(registered, tmp_path, monkeypatch):
    uri, live, _ = registered
    monkeypatch.delenv("AIRGATE_MODEL_TRUST")
    with pytest.raises(ConfigError, match="no key is trusted, so no model can be verified: set AIRGATE_MODEL_TRUST"):
        predict(live, f"file://{tmp_path}/out", context(tmp_path, day(9), tracking_uri=uri))


def test_what_is_missing_in_the_call_is_named(registered, tmp_path):
    uri, live, _ = registered
    ctx = context(tmp_path, day(9), tracking_uri=uri)
    with pytest.raises(ContractError, match="`live` lacks version, digest; it needs model, version and digest"):
        predict({"model": NAME}, "file:///x", ctx)
    with pytest.raises(ContractError, match="`live` is a version of 'other', this run is about 'diagnosis_classifier'"):
        predict({**live, "model": "other"}, "file:///x", ctx)
    with pytest.raises(ConfigError, match="Set AIRGATE_MLFLOW_URI"):
        predict(live, "file:///x", context(tmp_path, day(9)))
    with pytest.raises(DataError, match="no partition in 2026-01-20"):
        predict(live, f"file://{tmp_path}/out", context(tmp_path, day(20), tracking_uri=uri))


def test_a_failure_while_publishing_leaves_no_half_file(call, tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    real = LocalFileSystem.put_file

    def fails_late(self, source, target, **rest):
        real(self, source, target, **rest)
        raise OSError("disk full")

    monkeypatch.setattr(LocalFileSystem, "put_file", fails_late)
    with pytest.raises(OSError, match="disk full"):
        call(day(9))
    assert published(tmp_path) == []


def test_any_fsspec_url_will_do(registered, tmp_path):
    import fsspec

    uri, live, _ = registered
    result = predict(live, "memory://predictions/", context(tmp_path, day(9), tracking_uri=uri))
    assert result["files"] == [f"memory:///predictions/{NAME}/date=2026-01-09/{FILE}"]
    memory = fsspec.filesystem("memory")
    assert len(memory.find("/predictions")) == 1
    with memory.open(result["files"][0].removeprefix("memory://")) as file:
        assert pq.read_table(file).num_rows == result["rows"]
