"""Models on disk: the same bytes, the same scores, safe formats only; and what a model says to wrong data."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
import xgboost as xgb

from airgate.errors import ArtifactError, DataError
from airgate.steps.manifest import digest_of
from airgate.steps.model import HEADER, Model, checked
from airgate.steps.model_torch import Perceptron, TorchModel
from airgate.steps.model_xgboost import XGBoostModel

COLUMNS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return pd.DataFrame(random.normal(size=(60, 3)), columns=COLUMNS)


@pytest.fixture(scope="module")
def trees(data):
    label = (data["a"] + data["b"] > 0).to_numpy(dtype=float)
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 2, "seed": 1, "nthread": 1},
                        xgb.DMatrix(data.to_numpy(), label=label), 10)
    return XGBoostModel(booster, COLUMNS, "sick")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = Perceptron(3, [4])
    net.mean += 0.5
    return TorchModel(net, [4], COLUMNS, "sick")


@pytest.fixture(params=["trees", "network"])
def model(request):
    return request.getfixturevalue(request.param)


def test_a_model_comes_back_with_the_same_scores_and_the_same_bytes(model, data, tmp_path):
    model.save(tmp_path / "one")
    again = Model.load(tmp_path / "one")
    again.save(tmp_path / "two")
    assert type(again) is type(model)
    assert (again.features, again.label) == (COLUMNS, "sick")
    np.testing.assert_array_equal(again.predict_proba(data), model.predict_proba(data))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted([HEADER, model.weights_file])
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_columns_are_found_by_name(model, data):
    expected = model.predict_proba(data)
    assert expected.dtype == np.float64 and expected.shape == (60,) and ((expected >= 0) & (expected <= 1)).all()
    np.testing.assert_array_equal(model.predict_proba(data[["c", "a", "b"]].assign(more="text")), expected)
    assert model.predict_proba(data.head(0)).shape == (0,)


def test_missing_values_give_a_score(model, data):
    assert np.isfinite(model.predict_proba(data.assign(b=np.nan))).all()


def test_a_row_scores_the_same_alone(trees, data):
    np.testing.assert_array_equal(trees.predict_proba(data.iloc[[7]]), trees.predict_proba(data)[7:8])


@pytest.mark.parametrize(("change", "said"), [
    (lambda d: d.drop(columns="b").rename(columns={"c": "cc"}), r"lack 2 of the model's 3 columns: b, c; .*: a, cc"),
    (lambda d: d.assign(b="red"), r"not numeric: b \(str\).*features\(\)"),
    (lambda d: d.assign(c=np.inf), "infinite values in c"),
])
def test_wrong_data_are_refused(model, data, change, said):
    with pytest.raises(DataError, match=said):
        model.predict_proba(change(data))


@pytest.mark.parametrize("columns", [[], ["a", "a"]])
def test_a_model_needs_distinct_columns(columns):
    with pytest.raises(DataError, match="each only once"):
        TorchModel(Perceptron(1, [2]), [2], columns, "sick")


def edit(folder, **changes):
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps({**header, **changes}))


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda f: (f / HEADER).unlink(), "so this is no Airgate model"),
    (lambda f: (f / HEADER).write_text("{"), "Invalid JSON"),
    (lambda f: edit(f, schema_version=2), "schema_version: Input should be 1"),
    (lambda f: edit(f, code="import os"), "code: Extra inputs"),
    (lambda f: edit(f, kind="xgbost"), "kind 'xgbost' is unknown; did you mean 'xgboost'"),
    (lambda f: (f / "model.pkl").write_bytes(b"x"), "not allowed: model.pkl"),
    (lambda f: (f / "more").mkdir(), "not allowed: more"),
])
@pytest.mark.attack("a file is added to a model, or taken away")
def test_a_strange_folder_is_refused(model, tmp_path, spoil, said):
    model.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ArtifactError, match=said):
        Model.load(tmp_path)


def test_a_link_is_refused(model, tmp_path):
    model.save(tmp_path / "model")
    weights = tmp_path / "model" / model.weights_file
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="links and folders"):
        Model.load(tmp_path / "model")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\x80\x04" + b])
def test_damaged_weights_are_refused(model, tmp_path, damage):
    model.save(tmp_path)
    weights = tmp_path / model.weights_file
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(ArtifactError, match=model.weights_file):
        Model.load(tmp_path)


def test_header_and_weights_of_two_models_are_refused(model, tmp_path):
    model.save(tmp_path)
    edit(tmp_path, features=["a", "b"])  # the weights still have the digest that the header names
    with pytest.raises(ArtifactError, match=r"expect 3 columns|do not fit the header"):
        Model.load(tmp_path)


@pytest.mark.parametrize("hidden", ["wide", [0], [True], [10**9]])
def test_an_impossible_architecture_is_refused(network, tmp_path, hidden):
    network.save(tmp_path)
    edit(tmp_path, architecture={"hidden": hidden})
    with pytest.raises(ArtifactError, match="layer sizes from 1 to 65536"):
        Model.load(tmp_path)


def test_importance_names_columns(trees):
    assert set(trees.importance()) <= set(COLUMNS)
    assert next(iter(trees.importance())) in ("a", "b")


@pytest.mark.attack("a pickle in the place of the weights")
def test_a_pickle_in_the_place_of_the_weights_is_refused_before_anything_reads_it(model, tmp_path):
    model.save(tmp_path)
    weights = tmp_path / model.weights_file
    weights.write_bytes(pickle.dumps({"weights": [1.0]}))
    header = json.loads((tmp_path / HEADER).read_text())
    (tmp_path / HEADER).write_text(json.dumps({**header, "weights_digest": digest_of(weights)}))
    with pytest.raises(ArtifactError, match=f"{weights.name}: a pickle, .* Allowed: {model.weights_format}, which"):
        Model.load(tmp_path)


def test_the_weights_are_read_once_so_that_what_was_checked_is_what_is_loaded(trees, tmp_path):
    trees.save(tmp_path)
    kind, header, weights = checked(tmp_path)
    (tmp_path / kind.weights_file).write_bytes(b"something else by now")
    assert kind._read(tmp_path / kind.weights_file, weights, header).importance() == trees.importance()


def test_a_header_without_end_is_refused(trees, tmp_path):
    trees.save(tmp_path)
    with (tmp_path / HEADER).open("ab") as file:
        file.write(b" " * (16 << 20))
    with pytest.raises(ArtifactError, match="more than 16777216 bytes"):
        Model.load(tmp_path)
