"""Finding a model's features function."""

import importlib

import pandas as pd
import pytest

from airgate.errors import SpecError
from airgate.steps.features import features_of


@pytest.fixture
def make_model(tmp_path, monkeypatch):
    """Put a models/<name>/steps.py into a models folder of the test's own."""
    monkeypatch.setenv("AIRGATE_MODELS", str(tmp_path / "models"))

    def make(name, text):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "steps.py").write_text(text)
        importlib.invalidate_caches()

    return make


def test_a_models_own_function_is_found(make_model):
    make_model("made_good", "def features(data):\n    return data.assign(b=1)\n")
    assert list(features_of("made_good")(pd.DataFrame({"a": [0]}))) == ["a", "b"]


def test_what_is_missing_is_said(make_model):
    with pytest.raises(SpecError, match=r"models/made_none/steps.py is missing"):
        features_of("made_none")
    make_model("made_empty", "feature = 1\n")
    with pytest.raises(SpecError, match=r"defines no function features\(data\)"):
        features_of("made_empty")


def test_a_missing_package_inside_steps_is_not_hidden(make_model):
    make_model("made_needs", "import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        features_of("made_needs")
