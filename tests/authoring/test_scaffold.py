import argparse
import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgate.authoring import catalog, scaffold
from airgate.errors import AirgateError, ConfigError, SpecError


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    scaffold.add_arguments(parser)
    return scaffold.run(parser.parse_args(arguments))


def test_makes_a_sound_model_and_says_what_next(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("readmission_risk", "--title", 'Risk: "who" # comes back?', "--owner", "mia") == 0
    spec = catalog.model("readmission_risk")
    assert (spec.title, spec.owner) == ('Risk: "who" # comes back?', "mia")
    assert sorted(path.name for path in models.iterdir()) == ["readmission_risk"]
    assert sorted(path.name for path in (models / "readmission_risk").iterdir()) == ["model.yaml", "steps.py"]
    out = capsys.readouterr().out
    assert str(models / "readmission_risk") in out
    assert "start the DAG readmission_risk_training" in out
    assert "unpause its six DAGs" in out


def test_title_and_owner_have_defaults(models: Path) -> None:
    scaffold.create("readmission_risk")
    spec = catalog.model("readmission_risk")
    assert spec.title == "Readmission risk"
    assert spec.owner


def test_never_overwrites(heart: Path) -> None:
    (heart / "model.yaml").write_text("mine")
    with pytest.raises(SpecError, match=r"heart exists already and is never overwritten\. Choose another name"):
        scaffold.create("heart")
    assert (heart / "model.yaml").read_text() == "mine"
    (heart.parent / "lost").symlink_to("nowhere")
    with pytest.raises(SpecError, match="exists already"):
        scaffold.create("lost")


@pytest.mark.parametrize(("name", "nearest"), [
    ("Heart-Risk", "heart_risk"), ("", "my_model"), ("class", "class_model"), ("é", "my_model"),
    ("../x", "x"), ("airgate", "airgate_model"),
    ("2nd", "my_model"), ("heart\n", "heart"), ("a" * 64, "a" * 50), ("models", "models_model"),
])
def test_refuses_a_bad_name_with_the_nearest_good_one(models: Path, name: str, nearest: str) -> None:
    with pytest.raises(SpecError) as caught:
        scaffold.create(name)
    text = str(caught.value)
    assert f"did you mean '{nearest}'? Allowed: 1 to 63 lower case letters, digits and _, a letter first" in text
    assert list(models.iterdir()) == []


def test_a_text_that_yaml_cannot_hold_leaves_nothing(models: Path) -> None:
    with pytest.raises(SpecError, match=r"(?s)--title or --owner cannot stand in model.yaml: .*Use plain text"):
        scaffold.create("heart", title="bell \x07 \x7f")
    assert list(models.iterdir()) == []


def test_no_models_folder(models: Path) -> None:
    models.rmdir()
    with pytest.raises(ConfigError, match=r"cannot be made: No such file or directory\. Is .* AIRGATE_MODELS names"):
        scaffold.create("heart")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=8) | st.from_regex(r"[a-z_]{1,5}", fullmatch=True), title=st.text(max_size=8))
def test_a_model_is_made_whole_or_not_at_all(models: Path, name: str, title: str) -> None:
    try:
        folder = scaffold.create(name, title, "mia")
    except AirgateError:
        pass
    else:
        assert catalog.model(name).title == (title or catalog.model(name).title)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert list(models.iterdir()) == []


def test_what_it_makes_trains_on_the_demo_data(heart: Path, tmp_path: Path) -> None:
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    from airgate.contracts.step import RunContext, StepCall
    from airgate.steps.context import StepContext
    from airgate.steps.demo_data import DATASET, partitions
    from airgate.steps.holdout import is_holdout

    spec = catalog.model("heart")
    rows = pd.concat(partitions().values(), ignore_index=True)
    assert (spec.data.dataset, [spec.data.id, *spec.data.columns, spec.data.label]) == (DATASET, list(rows.columns))
    run = RunContext(dag_id="d", run_id="r", task_id="t", try_number=1, actor="user:mia", code_version="c",
                     image="local")
    call = StepCall(function="heart.steps:train", run=run, spec=spec, store=f"file://{tmp_path}/store")
    location = importlib.util.spec_from_file_location("heart_steps", heart / "steps.py")
    assert location is not None and location.loader is not None
    steps = importlib.util.module_from_spec(location)
    location.loader.exec_module(steps)

    model = steps.train(steps.features(rows), StepContext(call, tmp_path))  # as the training DAG does

    held = rows[is_holdout(rows["sample_id"], spec.data.holdout_percent)]
    assert "radius_spread" in model.features
    assert roc_auc_score(held["malignant"], model.predict_proba(steps.features(held))) > 0.95
