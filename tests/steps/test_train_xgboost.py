"""Training on trees: what it may see, what it leaves behind, the same bytes again, and what it refuses."""

import json

import numpy as np
import pytest
import xgboost as xgb
from tests.steps.model_support import changed, context, rows, spec_of

from airgate.contracts.model_spec import METRICS
from airgate.errors import DataError, SpecError, StepError
from airgate.steps import train_xgboost
from airgate.steps.holdout import is_holdout
from airgate.steps.store import manifest, manifest_digest
from models.diagnosis_classifier.steps import features

QUICK = {"n_estimators": 20, "max_depth": 3, "subsample": 0.8}


@pytest.fixture(scope="module")
def data():
    return features(rows())


def quick(**parameters):
    return changed(spec_of(), folds=3, parameters={**QUICK, **parameters})


def digest(model, folder):
    model.save(folder)
    return manifest_digest(manifest(folder))


def test_a_model_learns_and_leaves_its_folds_metrics(data, tmp_path, capsys):
    ctx = context(tmp_path, quick())
    model = train_xgboost.fit(data, ctx)
    assert model.features == [name for name in data.columns if name not in ("sample_id", "malignant")]
    assert model.label == "malignant"
    assert set(ctx.metrics) == {f"cv_{m}_{s}" for m in METRICS for s in ("mean", "std")} | {"trees"}
    assert ctx.metrics["cv_roc_auc_mean"] > 0.95 and ctx.metrics["cv_roc_auc_std"] < 0.1
    assert ctx.facts["device"] == "cpu"
    gains = json.loads(ctx.attachments["feature_importance.json"].read_text())
    assert set(gains) <= set(model.features) and list(gains.values()) == sorted(gains.values(), reverse=True)
    said = capsys.readouterr().out
    assert "training on 273 rows" in said and "111 held out" in said and "fold 3/3: roc_auc" in said


def test_the_same_seed_gives_the_same_bytes_in_any_row_order(data, tmp_path):
    first = digest(train_xgboost.fit(data, context(tmp_path, quick())), tmp_path / "a")
    assert digest(train_xgboost.fit(data.sample(frac=1, random_state=1), context(tmp_path, quick())), tmp_path / "b") == first
    other = changed(quick(), seed=8)
    assert digest(train_xgboost.fit(data, context(tmp_path, other)), tmp_path / "c") != first


def test_rows_of_the_holdout_have_no_influence(data, tmp_path):
    held = is_holdout(data["sample_id"], 25)
    spoiled = data.assign(malignant=np.where(held, 1 - data["malignant"], data["malignant"]))
    first = digest(train_xgboost.fit(data, context(tmp_path, quick())), tmp_path / "a")
    assert digest(train_xgboost.fit(spoiled, context(tmp_path, quick())), tmp_path / "b") == first


def test_early_stopping_chooses_the_number_of_trees(data, tmp_path):
    ctx = context(tmp_path, quick(n_estimators=400, learning_rate=0.3, early_stopping_rounds=5))
    model = train_xgboost.fit(data, ctx)
    assert 1 <= model.booster.num_boosted_rounds() < 150
    assert ctx.metrics["trees"] == model.booster.num_boosted_rounds()


@pytest.mark.parametrize(("parameters", "said"), [
    ({"max_dept": 3}, r"diagnosis_classifier: training.parameters: unknown parameter 'max_dept'; did you mean 'max_depth'"),
    ({"nthread": 8}, "unknown parameter 'nthread'"),
    ({"subsample": 2}, r"subsample: Input should be less than or equal to 1 \(got 2\)"),
    ({"max_depth": "deep"}, "max_depth: Input should be a valid integer"),
])
def test_wrong_parameters_are_refused(data, tmp_path, parameters, said):
    with pytest.raises(SpecError, match=said):
        train_xgboost.fit(data, context(tmp_path, quick(**parameters)))


@pytest.mark.parametrize(("change", "said"), [
    (lambda d: d.assign(malignant=0), "273 rows with malignant=0 and 0 with malignant=1: only one class"),
    (lambda d: d.head(6), "3 folds need at least 3 rows of each class"),
    (lambda d: d.assign(malignant=d["malignant"] * 2), "must be 0 or 1"),
    (lambda d: d.assign(malignant=d["malignant"].where(d.index > 40)), "missing in some rows"),
    (lambda d: d.drop(columns="sample_id"), "the id column 'sample_id'"),
    (lambda d: d.rename(columns={"malignant": "malign"}), "the label column 'malignant'; did you mean 'malign'"),
    (lambda d: d.assign(clinic="north"), r"not numeric: clinic \(str\)"),
])
def test_unusable_rows_are_refused(data, tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        train_xgboost.fit(change(data), context(tmp_path, quick()))


def on_gpus(count):
    return quick().model_copy(update={"steps": {"train": spec_of().resources("train").model_copy(update={"gpu": count})}})


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_a_gpu_that_is_not_there_is_said_and_not_needed(data, tmp_path, capsys, no_gpu):
    ctx = context(tmp_path, on_gpus(1), task="group.train")
    train_xgboost.fit(data, ctx)
    assert ctx.facts["device"] == "cpu"
    assert "asks for 1 GPU for step 'train' but none is visible here: training on CPU" in capsys.readouterr().out


def test_more_gpus_than_one_process_uses_are_refused(data, tmp_path):
    with pytest.raises(SpecError, match=r"train asks for 4 GPUs, but train_xgboost.fit uses one .* Write gpu: 1"):
        train_xgboost.fit(data, context(tmp_path, on_gpus(4)))


def test_a_gpu_that_is_granted_is_asked_for(tmp_path):
    options = train_xgboost.options_for(train_xgboost.XGBoostParameters(), context(tmp_path, on_gpus(1)), gpus=1)
    assert (options["device"], options["tree_method"]) == ("cuda", "hist")


def test_xgboost_that_leaves_the_gpu_is_found_out(data, tmp_path, no_gpu):
    """Asked for CUDA where there is none, XGBoost warns and trains on the CPU."""
    options = train_xgboost.options_for(train_xgboost.XGBoostParameters(), context(tmp_path, on_gpus(1)), gpus=1)
    table = xgb.DMatrix(data[["mean_area", "mean_texture"]], label=data["malignant"])
    with pytest.warns(UserWarning, match="found, setting device to CPU|find any available GPU"):
        booster = xgb.train(options, table, num_boost_round=2)
    with pytest.raises(StepError, match="was told to train on 'cuda' but trained on 'cpu': it could not use the GPU"):
        train_xgboost.device_used(booster, "cuda")
    assert train_xgboost.device_used(booster, "cpu") == "cpu"
