import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airgate.authoring import catalog
from airgate.authoring.scaffold import create
from airgate.errors import ConfigError, SpecError

GOOD = ("import pandas as pd\nfrom airgate.steps.context import StepContext\nfrom airgate.steps.model import Model\n"
        "def features(data: pd.DataFrame) -> pd.DataFrame: ...\n"
        "def train(data: pd.DataFrame, ctx: StepContext) -> Model: ...\n")


def fault(name: str = "heart") -> str:
    assert [spec.name for spec in catalog.sound_models()] == []
    return str(catalog.broken_models()[name])


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_sound_models_come_by_name_and_what_is_no_model_is_left_out(models: Path) -> None:
    for name in ("zeta", "alpha"):
        create(name, owner="mia")
    (models / ".hidden").mkdir()
    (models / "__pycache__").mkdir()
    (models / "deleted" / "__pycache__").mkdir(parents=True)
    (models / "_shared").mkdir()
    (models / "_shared" / "helpers.py").touch()
    (models / "README.md").touch()
    assert [spec.name for spec in catalog.sound_models()] == ["alpha", "zeta"]
    assert catalog.broken_models() == {}


def test_one_broken_model_leaves_the_others(heart: Path) -> None:
    given = {"only_yaml": "model.yaml", "only_steps": "steps.py", "neither": "notes.txt", "_odd": "model.yaml"}
    (heart / "notes.txt").touch()
    for name, file in given.items():
        (heart.parent / name).mkdir()
        (heart.parent / name / file).write_bytes((heart / file).read_bytes().replace(b"heart", name.encode()))
    assert [spec.name for spec in catalog.sound_models()] == ["heart"]
    broken = {name: str(error) for name, error in catalog.broken_models().items()}
    assert set(broken) == set(given)
    missing = "only_yaml/steps.py: file is missing. A model is a folder with model.yaml and steps.py."
    assert broken["only_yaml"].endswith(missing)
    assert "only_steps/model.yaml: file is missing" in broken["only_steps"]
    assert "neither/model.yaml: file is missing" in broken["neither"]
    assert "name:" in broken["_odd"]


def test_model_gives_one_and_does_not_mind_the_others(heart: Path) -> None:
    (heart.parent / "broken").mkdir()
    (heart.parent / "broken" / "model.yaml").write_text("a: [")
    assert catalog.model("heart").name == "heart"
    with pytest.raises(SpecError, match="not readable as YAML"):
        catalog.model("broken")
    with pytest.raises(SpecError, match=r"there is no model 'haert' in .*; did you mean 'heart'\? Allowed: broken, "
                                        "heart. A new one: make new-model NAME=haert"):
        catalog.model("haert")
    with pytest.raises(SpecError, match=r"there is no model '\.\./heart'.*NAME=my_model"):
        catalog.model("../heart")


def test_no_models_folder_is_a_clear_error(models: Path) -> None:
    models.rmdir()
    for look in (catalog.sound_models, catalog.broken_models, lambda: catalog.model("x")):
        with pytest.raises(ConfigError, match=r"does not exist\. Set AIRGATE_MODELS to the folder that holds one"):
            look()


@pytest.mark.parametrize(("old", "new", "message"), [
    ("risk: limited", "risk: limited\nriks: high",
     "model.yaml: unknown key 'riks'; did you mean 'risk'? Allowed: data, drift"),
    ("roc_auc: {min: 0.9}", "roc_auc: {min: 1.9}", "1.9 can never be met or missed; allowed: 0 to 1"),
    ("start: 2026-01-01", "start: 2026-02-31",
     "model.yaml: not readable as YAML: day is out of range for month"),
    ("start: 2026-01-01", "start: 2026-01-01\n  training: '61 * * * *'",
     "schedule.training is '61 * * * *', which is no cron expression; "),
    ("start: 2026-01-01", "start: 2026-01-01\n  drift_check: '@dayly'", "did you mean '@daily'?"),
    ("  train: {cpu: 2", "  trian: {cpu: 2", "model.yaml: steps.trian names no step; did you mean 'train'? Allowed: "),
])
def test_a_broken_model_yaml(heart: Path, old: str, new: str, message: str) -> None:
    change(heart / "model.yaml", old, new)
    assert message in fault()


def test_a_model_yaml_that_is_a_folder_or_not_text(heart: Path) -> None:
    path = heart / "model.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert str(path) in fault()
    path.unlink()
    path.mkdir()
    assert "cannot be read" in fault()


@pytest.mark.parametrize(("old", "new", "message"), [
    ("def train", "def trian", "has no function 'train'; did you mean 'trian'? Allowed: features, trian"),
    ("-> Model", "-> dict", "line 5: train gives a JSON value, not a model. Write def train(data: pd.DataFrame, ctx: "),
    ("features(data: pd.DataFrame)", "features(dat: pd.DataFrame)",
     "features takes no argument 'data' (did you mean 'dat'? Allowed: dat), but a table of this name is what it is "),
    ("features(data: pd.DataFrame)", "features(data: dict)",
     "features takes 'data' as a JSON value of type dict, but a table"),
    ("(data: pd.DataFrame) -> pd.DataFrame", "(data: pd.DataFrame) -> None", "features gives nothing, not a table"),
    (", ctx: StepContext", "", "train takes no StepContext, which holds the seed"),
    (", ctx: StepContext", ", ctx: StepContext, depth: int",
     "train has a further argument 'depth' without a default; give it one"),
    ("(data: pd.DataFrame) ->", "(data: pd.DataFrame, ctx: StepContext) ->",
     "features has a further argument 'ctx' without"),
    ("def train", "def train(:\ndef _", "steps.py, line 5: not valid Python"),
])
def test_a_broken_steps_py(heart: Path, old: str, new: str, message: str) -> None:
    (heart / "steps.py").write_text(GOOD)
    assert len(catalog.sound_models()) == 1
    change(heart / "steps.py", old, new)
    assert message in fault()


def test_every_fault_is_listed(heart: Path) -> None:
    (heart / "steps.py").write_text("")
    change(heart / "model.yaml", "  default:", "  defaul:")
    text = fault()
    assert "no function 'features'" in text and "no function 'train'" in text and "did you mean 'default'?" in text


@pytest.mark.parametrize("steps", [
    GOOD.replace("(data: pd.DataFrame, ctx: StepContext)", "(ctx: StepContext, data: pd.DataFrame, depth: int = 3)"),
    GOOD.partition("def train")[0] + "from airgate.steps.train_xgboost import fit as train\n",
])
def test_order_defaults_and_re_exports_are_free(heart: Path, steps: str) -> None:
    (heart / "steps.py").write_text(steps)
    assert catalog.broken_models() == {}
    assert len(catalog.sound_models()) == 1


def test_standard_steps_may_have_resources(heart: Path) -> None:
    names = catalog.standard_steps()
    assert {"load_window", "load_day"} <= names
    assert not {"main", "matrix"} & names
    change(heart / "model.yaml", "  train: {cpu: 2", f"  {sorted(names)[0]}: {{cpu: 2")
    assert catalog.broken_models() == {}


@pytest.mark.parametrize("name", ["airgate", "models"])
def test_names_that_references_use_are_no_models(heart: Path, name: str) -> None:
    heart.rename(heart.with_name(name))
    change(heart.with_name(name) / "model.yaml", "name: heart", f"name: {name}")
    assert f"no model can be named '{name}'" in fault(name)


def test_a_change_is_seen_and_an_unchanged_file_is_not_read_again(
        heart: Path, monkeypatch: pytest.MonkeyPatch, write_steps: Callable[[str], Path]) -> None:
    first = catalog.model("heart")
    assert catalog.model("heart") is first
    stat = (heart / "model.yaml").stat()
    change(heart / "model.yaml", "folds: 5", "folds: 4")
    os.utime(heart / "model.yaml", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert catalog.model("heart").training.folds == 4
    write_steps("")
    assert "no function 'train'" in fault()
