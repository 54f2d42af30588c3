"""What a step may ask for and leave behind."""

from pathlib import Path

import numpy as np
import pytest

from airgate.contracts.model_spec import load_spec
from airgate.errors import ContractError, StepError
from airgate.steps.context import StepContext

MODELS = Path(__file__).parents[2] / "include" / "models"


@pytest.fixture
def context(make_call, tmp_path) -> StepContext:
    return StepContext(make_call("nothing"), tmp_path, mlflow_run_id="r1")


def test_metrics_are_finite_floats(context):
    context.log_metric("auc", np.float32(0.5))
    context.log_metrics({"n": 3})
    assert context.metrics == {"auc": 0.5, "n": 3.0}
    assert all(type(value) is float for value in context.metrics.values())
    with pytest.raises(StepError, match=r"metric 'loss' is nan\. Allowed: finite numbers"):
        context.log_metrics({"good": 1.0, "loss": float("nan")})
    assert "good" not in context.metrics
    with pytest.raises(StepError, match="metric 'x' is str, not a number"):
        context.log_metric("x", "high")
    with pytest.raises(StepError, match="1 to 250 characters"):
        context.log_metric("", 1)


def test_attachments_are_files_with_plain_names(context, tmp_path):
    path = tmp_path / "r.html"
    with pytest.raises(StepError, match=r"r\.html is no file\. Write the file first"):
        context.attach("report.html", path)
    path.write_text("x")
    context.attach("report.html", path)
    assert context.attachments == {"report.html": path}
    with pytest.raises(StepError, match="was given before"):
        context.attach("report.html", path)
    for name in ("../report.html", "a/b", "", ".hidden"):
        with pytest.raises(StepError, match="not a file name"):
            context.attach(name, path)
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(StepError, match="is no file"):
        context.attach("link", tmp_path / "link")


def test_spec_and_window_are_there_or_say_what_to_do(context, make_call, tmp_path):
    with pytest.raises(ContractError, match=r"needs a model's spec.*step\(\) a model"):
        _ = context.spec
    with pytest.raises(ContractError, match="needs a window of days.*data interval"):
        _ = context.window
    spec = load_spec(MODELS / "diagnosis_classifier")
    assert StepContext(make_call("nothing", spec=spec), tmp_path).spec is not None


def test_the_run_names_the_open_mlflow_run(context, make_call, tmp_path):
    assert context.run.mlflow_run_id == "r1"
    assert StepContext(make_call("nothing", mlflow_run_id="r0"), tmp_path).run.mlflow_run_id == "r0"


def test_facts_are_text_and_progress_is_a_line(context, capsys):
    context.fact("revision", "abc")
    context.progress("half done")
    assert context.facts == {"revision": "abc"}
    assert capsys.readouterr().out == "half done\n"
    with pytest.raises(StepError, match="needs a name"):
        context.fact("", "x")


@pytest.mark.parametrize("name", ["data_revision", "data_hash"])
def test_which_data_it_was_only_the_standard_steps_say(make_call, tmp_path, name):
    with pytest.raises(StepError) as caught:
        StepContext(make_call("train"), tmp_path).fact(name, "c0ffee")
    assert str(caught.value) == (f"fact '{name}': only the step that loads the rows says which they are, and it has said so "
                                 "already. Choose another name.")
    standard = StepContext(make_call("airgate.steps.load:load_window"), tmp_path)
    standard.fact(name, "c0ffee")
    assert standard.facts == {name: "c0ffee"}
