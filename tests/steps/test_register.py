"""Registering in a real MLflow on SQLite: what a version holds, that a retry adds none, and that no pickle is in it."""

import json
from importlib.metadata import version as installed

import mlflow
import numpy as np
import pytest
from tests.steps.model_support import GATES, LINEAGE, QUIET, changed, context, mlflow_uri, open_run, rows, spec_of
from tests.steps.signing_support import files_of, registration_of

from airgate.contracts.payloads import Candidate
from airgate.contracts.step import ArtifactRef
from airgate.errors import ArtifactError, ConfigError, ContractError
from airgate.steps import evaluate, register, train_torch, train_xgboost, versions
from airgate.steps.features import features_of
from airgate.steps.store import manifest, manifest_digest

pytestmark = QUIET
KINDS = {"diagnosis_classifier": (train_xgboost.fit, {"n_estimators": 20}),
         "diagnosis_network": (train_torch.fit, {"epochs": 5, "hidden": [8, 4]})}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return mlflow_uri(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    """Spec, features of the demo's rows, a trained model and its evaluation."""
    fit, parameters = KINDS[request.param]
    spec, folder = changed(spec_of(request.param), folds=2, parameters=parameters), tmp_path_factory.mktemp("made")
    data = features_of(spec.name)(rows())
    model = fit(data, context(folder, spec))
    return spec, data, model, evaluate.evaluate(model, rows(), context(folder, spec))


def call(uri, tmp_path, spec, run="manual__1", **options):
    return context(tmp_path, spec, task="register", run=run, **{
        "tracking_uri": uri, "mlflow_run_id": open_run(uri), "facts": LINEAGE, **options})


def test_a_version_holds_what_the_record_needs(uri, made, tmp_path):
    spec, data, model, evaluation = made
    ctx = call(uri, tmp_path, spec, run="scheduled__it's \"quoted\"")
    candidate = Candidate.model_validate(register.register(model, data, evaluation, GATES, ctx))
    model.save(tmp_path / "same")
    assert candidate.digest == manifest_digest(manifest(tmp_path / "same"))
    assert (candidate.data_revision, candidate.data_hash) == tuple(LINEAGE.values())
    source = mlflow.MlflowClient(uri).get_model_version(candidate.model, candidate.version).source
    assert ctx.facts == {"model_version": candidate.version, "model_digest": candidate.digest, "model_source": source}
    client = mlflow.MlflowClient(uri)
    stored = client.get_model_version(spec.name, candidate.version)
    assert stored.tags == {
        "airgate.digest": candidate.digest, "airgate.gates_hash": GATES, "airgate.data_revision": LINEAGE["data_revision"],
        "airgate.data_hash": LINEAGE["data_hash"], "airgate.window_start": "2026-01-08", "airgate.window_end": "2026-01-09",
        "airgate.dag_id": "diagnosis_classifier_training", "airgate.training_run": ctx.run.run_id}
    assert stored.run_id == candidate.mlflow_run_id == ctx.run.mlflow_run_id
    assert stored.description.startswith("roc_auc 0.") and "111 holdout rows" in stored.description
    assert client.get_registered_model(spec.name).aliases == {}
    assert mlflow.active_run() is None


def test_mlflows_own_loader_gives_the_same_scores_without_pickle(uri, made, tmp_path):
    spec, data, model, evaluation = made
    found = register.register(model, data, evaluation, GATES, call(uri, tmp_path, spec, run="manual__2"))
    folder = mlflow.artifacts.download_artifacts(f"models:/{spec.name}/{found['version']}", dst_path=str(tmp_path / "all"))
    loaded = mlflow.pyfunc.load_model(folder)
    np.testing.assert_allclose(loaded.predict(data[model.features]), model.predict_proba(data), rtol=0, atol=1e-12)
    assert loaded.metadata.get_input_schema().input_names() == model.features
    files = {path.name for path in (tmp_path / "all").rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib", ".pt", ".pth"))]
    example = json.loads((tmp_path / "all" / "input_example.json").read_text())
    assert len(example["data"]) == 3
    needs = (tmp_path / "all" / "requirements.txt").read_text().split()
    assert f"mlflow=={installed('mlflow')}" in needs and not [line for line in needs if "==" not in line or "+" in line]


def test_a_retry_gives_the_version_that_is_there(uri, made, tmp_path):
    spec, data, model, evaluation = made
    first = register.register(model, data, evaluation, GATES, call(uri, tmp_path, spec, run="manual__3"))
    again = register.register(model, data, evaluation, GATES, call(uri, tmp_path, spec, run="manual__3"))
    assert again == first
    other = register.register(model, data, evaluation, GATES, call(uri, tmp_path, spec, run="manual__4"))
    assert other["version"] != first["version"] and other["digest"] == first["digest"]


def test_fetching_verifies_before_it_parses(uri, made, tmp_path):
    spec, data, model, evaluation = made
    found = register.register(model, data, evaluation, GATES, call(uri, tmp_path, spec, run="manual__5"))
    where = (uri, spec.name, found["version"])
    source = mlflow.MlflowClient(uri).get_model_version(*where[1:]).source
    signed = registration_of(found, files_of(model, tmp_path / "saved"), source=source)
    again = versions.fetch_version(*where, tmp_path / "a", found["digest"], envelope=signed)
    np.testing.assert_array_equal(again.predict_proba(data), model.predict_proba(data))
    with pytest.raises(ArtifactError, match="expected sha256:aaaa.*do not use this version; train again"):
        versions.fetch_version(*where, tmp_path / "b", GATES, envelope=signed)


@pytest.mark.parametrize(("options", "error", "said"), [
    ({"facts": {"data_hash": "1.dir"}}, ContractError, "the training data's data_revision: no step before it"),
    ({"tracking_uri": None}, ConfigError, "Set AIRGATE_MLFLOW_URI"),
    ({"inputs": {"model": ArtifactRef(uri="file:///x", digest=GATES, kind="model", size=1)}}, ArtifactError,
     f"the train step stored {GATES}"),
])
def test_what_cannot_be_registered_is_refused(uri, made, tmp_path, options, error, said):
    spec, data, model, evaluation = made
    before = len(mlflow.MlflowClient(uri).search_model_versions(f"name = '{spec.name}'"))
    with pytest.raises(error, match=said):
        register.register(model, data, evaluation, GATES, call(uri, tmp_path, spec, run="manual__6", **options))
    assert len(mlflow.MlflowClient(uri).search_model_versions(f"name = '{spec.name}'")) == before
