"""Finding a model's features function."""

import sys

import pandas as pd
import pytest

from airgate.errors import SpecError
from airgate.steps.features import features_of


@pytest.fixture
def make_model(tmp_path, monkeypatch):
    """Put a models/<name>/steps.py on the import path beside the real ones."""
    import models

    def make(name, text):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "steps.py").write_text(text)
        monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path / "models")])

    yield make
    for name in [name for name in sys.modules if name.startswith("models.made_")]:
        del sys.modules[name]


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
