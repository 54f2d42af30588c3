"""Evaluation on the holdout, and the comparison of registered versions whose numbers the gates judge."""

import json
import shutil
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.steps import data_support
from tests.steps.model_support import GATES, LINEAGE, QUIET, changed, context, mlflow_uri, open_run, rows, spec_of
from tests.steps.signing_support import SIGNER, STRANGER, files_of, registration_of

from airgate.contracts.model_spec import METRICS
from airgate.errors import ConfigError, DataError
from airgate.signatures import statement
from airgate.steps import evaluate, register, train_xgboost
from airgate.steps.features import features_of
from airgate.steps.holdout import is_holdout

pytestmark = [*QUIET, *data_support.QUIET]
SPEC = changed(spec_of(), folds=2, parameters={"n_estimators": 40})
# The signed registration of each version in the module's MLflow.
ENVELOPES = {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of eight days and a weaker one of two trees."""
    data, folder = features_of(SPEC.name)(rows()), tmp_path_factory.mktemp("trained")
    weak = changed(SPEC, parameters={"n_estimators": 2, "max_depth": 1})
    return [train_xgboost.fit(data, context(folder, spec)) for spec in (SPEC, weak)]


@pytest.fixture(scope="module")
def registered(trained, tmp_path_factory):
    """A real MLflow with both models as versions 1 and 2; gives (uri, candidates)."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = mlflow_uri(folder)
    return uri, [registered_as(uri, folder, model, f"manual__{n}") for n, model in enumerate(trained)]


def registered_as(uri, folder, model, run):
    ctx = context(folder, SPEC, task="register", run=run, tracking_uri=uri, mlflow_run_id=open_run(uri), facts=LINEAGE)
    evaluation = evaluate.evaluate(model, rows(), context(folder, SPEC))
    candidate = register.register(model, features_of(SPEC.name)(rows()), evaluation, GATES, ctx)
    source = mlflow.MlflowClient(uri).get_model_version(SPEC.name, candidate["version"]).source
    ENVELOPES[candidate["version"]] = registration_of(candidate, files_of(model, ctx.workdir / "saved"), source=source)
    return candidate


def compared(candidate, production, ctx):
    """compare_on with the signatures of both."""
    signed = {"candidate": ENVELOPES.get(candidate["version"]), "production": production and ENVELOPES[production["version"]]}
    return evaluate.compare_on(rows(), candidate, production, ctx, signed)


def test_only_holdout_rows_are_measured(trained, tmp_path, capsys):
    ctx = context(tmp_path, SPEC)
    found = evaluate.evaluate(trained[0], rows(), ctx)
    held = rows()[is_holdout(rows()["sample_id"], 25)]
    scores = trained[0].predict_proba(features_of(SPEC.name)(held))
    assert found["rows"] == len(held) == 111 and found["positives"] == held["malignant"].sum() == 30
    assert found["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(held["malignant"], scores))
    assert set(found["metrics"]) == set(METRICS)
    assert all(one["low"] <= one["high"] for one in found["metrics"].values())
    assert (found["confidence"], found["resamples"], found["seed"]) == (0.95, 1000, 7)
    assert ctx.metrics["holdout_roc_auc_low"] == found["metrics"]["roc_auc"]["low"]
    assert json.loads(json.dumps(found)) == found
    assert ctx.attachments["evaluation.svg"].read_text().count("<polyline") == 4
    assert "holdout of 111 rows: roc_auc 0.9" in capsys.readouterr().out


def test_the_order_of_the_rows_does_not_matter(trained, tmp_path):
    mixed = evaluate.evaluate(trained[0], rows().sample(frac=1, random_state=2), context(tmp_path, SPEC))
    assert mixed == evaluate.evaluate(trained[0], rows(), context(tmp_path, SPEC))


@pytest.mark.parametrize(("change", "said"), [
    (lambda d: d[~is_holdout(d["sample_id"], 25)], "none of the 273 rows is held out"),
    (lambda d: d.assign(malignant=1), "all 111 evaluated rows have the same label"),
    (lambda d: d.drop(columns="malignant"), "the label column 'malignant'"),
])
def test_rows_that_cannot_be_measured_are_refused(trained, tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        evaluate.evaluate(trained[0], change(rows()), context(tmp_path, SPEC))


def test_the_first_candidate_has_nothing_to_be_compared_with(registered, tmp_path):
    uri, (candidate, _) = registered
    found = compared(candidate, None, context(tmp_path, SPEC, tracking_uri=uri))
    assert found["digest_verified"] is True and found["candidate_digest"] == candidate["digest"]
    assert found["production"] is None and found["difference"] is None and found["problems"] == []
    assert found["candidate"]["roc_auc"]["value"] > 0.95


def test_a_better_and_a_worse_candidate(registered, tmp_path):
    uri, (good, weak) = registered
    ctx = context(tmp_path, SPEC, tracking_uri=uri)
    worse = compared(weak, live(good), ctx)
    better = compared(good, live(weak), context(tmp_path, SPEC, tracking_uri=uri))
    assert worse["difference"]["roc_auc"]["high"] < 0 < better["difference"]["roc_auc"]["low"]
    assert worse["production"] == better["candidate"] and worse["production_version"] == good["version"]
    for name, one in worse["difference"].items():
        assert one["value"] == pytest.approx(worse["candidate"][name]["value"] - worse["production"][name]["value"])
    assert ctx.metrics["difference_roc_auc"] == worse["difference"]["roc_auc"]["value"]
    assert json.loads(json.dumps(worse)) == worse


def live(candidate):
    return {key: candidate[key] for key in ("model", "version", "digest")}


def tampered(registered, trained, tmp_path, run):
    """A version whose weights were exchanged in MLflow's store after it was registered."""
    uri, _ = registered
    candidate = registered_as(uri, tmp_path, trained[0], run)
    client = mlflow.MlflowClient(uri)
    model_id = client.get_model_version(SPEC.name, candidate["version"]).source.rsplit("/", 1)[-1]
    folder = Path(client.get_logged_model(model_id).artifact_location.removeprefix("file://")) / "artifacts" / "model"
    shutil.rmtree(folder)
    trained[1].save(folder)
    return candidate


def test_exchanged_weights_are_evidence_and_are_never_parsed(registered, trained, tmp_path, capsys):
    uri, (good, _) = registered
    candidate = tampered(registered, trained, tmp_path, "manual__x")
    found = compared(candidate, live(good), context(tmp_path, SPEC, tracking_uri=uri))
    assert found["digest_verified"] is False and found["candidate_digest"] != candidate["digest"]
    assert found["candidate"] is None and found["difference"] is None and found["production"]["roc_auc"]["value"] > 0.9
    assert "problem: diagnosis_classifier version" in capsys.readouterr().out


def test_a_production_that_does_not_verify_is_not_taken_for_none(registered, trained, tmp_path):
    uri, (good, _) = registered
    production = live(tampered(registered, trained, tmp_path, "manual__y"))
    found = compared(good, production, context(tmp_path, SPEC, tracking_uri=uri))
    assert found["production_digest_verified"] is False and found["production"] == {} and found["difference"] is None
    foreign = {**live(good), "digest": None}
    unsigned = compared(good, foreign, context(tmp_path, SPEC, tracking_uri=uri))
    assert unsigned["production"] == {} and unsigned["problems"]


def test_a_version_without_a_signature_that_counts_is_never_parsed(registered, trained, tmp_path):
    uri, (good, weak) = registered
    ctx = context(tmp_path, SPEC, tracking_uri=uri)
    found = evaluate.compare_on(rows(), good, None, ctx)
    assert found["candidate"] is None
    assert (found["digest_verified"], found["candidate_digest"]) == (False, "not fetched")
    assert list(ctx.workdir.glob(f"{SPEC.name}-*")) == []
    assert found["problems"] == [
        f"diagnosis_classifier version {good['version']} is not signed, so it is not read. If it is to be used, look at its "
        f"record and run `airgate model sign diagnosis_classifier@{good['version']}`."]
    forged = registration_of(good, files_of(trained[0], tmp_path / "forged"), STRANGER)
    found = evaluate.compare_on(rows(), good, live(weak), context(tmp_path, SPEC, tracking_uri=uri),
                                {"candidate": forged, "production": ENVELOPES[good["version"]]})
    assert found["candidate"] is None and found["production"] == {}
    assert "its signature does not count: signed by development+" in found["problems"][0]
    assert "its signature is of diagnosis_classifier version" in found["problems"][1]


STEPS = """
import os
from pathlib import Path

for version in os.environ["VERSIONS"].split():
    for path in Path(version).rglob("*"):  # had the comparison not read it yet, it would read this
        if path.is_file():
            path.write_bytes(b"mine")
    assert Path(version).is_dir(), version

def features(data):
    return data
"""


def test_the_authors_code_comes_after_both_versions_were_read(registered, tmp_path, monkeypatch):
    uri, (good, weak) = registered
    ctx = context(tmp_path, SPEC, tracking_uri=uri)
    (tmp_path / "models" / SPEC.name).mkdir(parents=True)
    (tmp_path / "models" / SPEC.name / "steps.py").write_text(STEPS)
    for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("AIRGATE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("VERSIONS", " ".join(str(ctx.workdir / f"{SPEC.name}-{one['version']}") for one in (good, weak)))
    found = compared(good, live(weak), ctx)
    assert found["digest_verified"] is True and found["production_digest_verified"] is True
    assert "cannot score the rows" in found["problems"][0]  # these features() are not the model's


def test_a_version_that_is_gone_is_evidence_too(registered, tmp_path):
    uri, (good, _) = registered
    gone = {**good, "version": "99"}
    signed = registration_of(gone, statement.verify(ENVELOPES[good["version"]], [SIGNER.public], environment="development").files)
    found = evaluate.compare_on(rows(), gone, None, context(tmp_path, SPEC, tracking_uri=uri), {"candidate": signed})
    assert found["candidate_digest"] == "missing" and found["digest_verified"] is False
    assert "models:/diagnosis_classifier/99 cannot be fetched" in found["problems"][0]


def test_compare_needs_mlflow(registered, tmp_path):
    with pytest.raises(ConfigError, match="no tracking_uri"):
        compared(registered[1][0], None, context(tmp_path, SPEC))


def test_compare_loads_the_candidates_own_rows(registered, tmp_path):
    uri, (good, _) = registered
    candidate = {**good, "data_revision": "HEAD"}
    ctx = context(tmp_path, SPEC, tracking_uri=uri, data_repository=str(data_support.demo_repository()))
    found = evaluate.compare(candidate, {}, ctx, {"candidate": ENVELOPES[good["version"]], "production": {}})
    expected = compared(candidate, None, context(tmp_path, SPEC, tracking_uri=uri))
    assert found == expected
    assert ctx.facts["rows"] == str(len(rows()))
    assert np.isfinite(found["candidate"]["log_loss"]["value"])
