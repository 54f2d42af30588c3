"""Every model of the repository: its spec loads, its features keep their promises, and a sound training meets its gates."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.steps.model_support import context, rows

from airgate.contracts.model_spec import load_spec
from airgate.steps import evaluate
from airgate.steps.demo_data import partitions

MODELS = Path(__file__).parents[2] / "include" / "models"


@pytest.fixture(params=["diagnosis_classifier", "diagnosis_network"])
def spec(request):
    return load_spec(MODELS / request.param)


@pytest.fixture
def steps(spec):
    return importlib.import_module(f"models.{spec.name}.steps")


def test_every_row_of_the_demo_is_within_the_columns_ranges(spec):
    data = pd.concat(partitions().values())
    assert set(spec.data.columns) == set(data.columns) - {spec.data.id, spec.data.label}
    for name, column in spec.data.columns.items():
        assert data[name].between(column.min, column.max).all(), name


def test_features_keep_id_and_label_and_change_no_input(steps, spec):
    data = rows(2)
    before = data.copy()
    made = steps.features(data)
    pd.testing.assert_frame_equal(data, before)
    pd.testing.assert_frame_equal(made[[spec.data.id, spec.data.label]], data[[spec.data.id, spec.data.label]])
    assert np.isfinite(made.drop(columns=[spec.data.id]).to_numpy(dtype=float)).all()


def test_features_of_a_row_depend_on_that_row_alone_and_need_no_label(steps, spec):
    data = rows(2)
    alone = steps.features(data.iloc[[5]].drop(columns=spec.data.label))
    together = steps.features(data).drop(columns=spec.data.label).iloc[[5]]
    pd.testing.assert_frame_equal(alone, together)


@pytest.mark.parametrize("days", [8, 10])
def test_a_sound_training_meets_its_gates(steps, spec, tmp_path, days):
    """The whole interval within every bound, with the parameters of model.yaml, as the demo's two flights do it."""
    model = steps.train(steps.features(rows(days)), context(tmp_path, spec))
    found = evaluate.evaluate(model, rows(days), context(tmp_path, spec))["metrics"]
    for name, bound in spec.gates.metrics.items():
        assert bound.min is None or found[name]["low"] >= bound.min, (name, found[name])
        assert bound.max is None or found[name]["high"] <= bound.max, (name, found[name])
