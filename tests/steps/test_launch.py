"""Training in several processes through torchrun: one account, one model; failures and stops reach all of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.steps.model_support import context, rows, spec_of

import airgate
from airgate.contracts.resources import Resources
from airgate.errors import DataError, StepError
from airgate.steps import launch
from airgate.steps.functions import load_function

SOURCE = '''
import os
import time
from pathlib import Path

import torch
from torch import distributed

from airgate.errors import DataError
from airgate.steps.model_torch import Perceptron, TorchModel


def meet(data, ctx):
    """Each process counts who met and says who it is."""
    together = torch.ones(1)
    distributed.all_reduce(together)
    ctx.progress(f"I am {distributed.get_rank()} of {int(together)}")
    ctx.log_metric("together", together)
    ctx.fact("threads", torch.get_num_threads())
    report = ctx.workdir / "report.txt"
    report.write_text(str(distributed.get_rank()))
    ctx.attach("report.txt", report)
    return TorchModel(Perceptron(1, [2]), [2], [str(data.columns[1])], "malignant")


def refuse(data, ctx):
    if distributed.get_rank() == 1:
        raise DataError("column 'age': 3 rows below 0")
    time.sleep(600)


def crash(data, ctx):
    raise ZeroDivisionError("a loss of nothing")


def nap(data, ctx):
    Path(os.environ["NAP_MARK"]).with_suffix(f".{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(600)
'''


@pytest.fixture
def together(tmp_path, monkeypatch):
    """The functions of a model's own, as a data scientist writes them."""
    folder = tmp_path / "models" / "together"
    folder.mkdir(parents=True)
    (folder / "steps.py").write_text(SOURCE)
    monkeypatch.setenv("AIRGATE_MODELS", str(folder.parent))
    return lambda name: load_function(f"together.steps:{name}")


@pytest.fixture
def ctx(tmp_path):
    return context(tmp_path, spec_of().model_copy(update={"steps": {"train": Resources(cpu=4)}}))


@pytest.mark.faults
def test_the_first_process_account_is_the_steps(together, ctx, capfd):
    model = launch.train_on_each(together("meet"), rows(1), ctx, 2, "cpu")
    assert model.features == ["mean_radius"] and model.label == "malignant"
    assert ctx.metrics == {"together": 2.0} and ctx.facts == {"threads": "2"}
    assert ctx.attachments["report.txt"].read_text() == "0"
    said = capfd.readouterr().out
    assert "training in 2 processes, one a share of the CPU" in said
    assert "I am 0 of 2" in said and "I am 1 of 2" not in said


@pytest.mark.faults
def test_an_error_of_one_ends_all_and_is_the_steps(together, ctx):
    with pytest.raises(DataError, match=r"^column 'age': 3 rows below 0$"):
        launch.train_on_each(together("refuse"), rows(1), ctx, 2, "cpu")


@pytest.mark.faults
def test_any_other_error_is_said_with_its_name(together, ctx):
    with pytest.raises(StepError, match="a training process failed: ZeroDivisionError: a loss of nothing"):
        launch.train_on_each(together("crash"), rows(1), ctx, 1, "cpu")


@pytest.mark.faults
def test_a_step_that_is_told_to_stop_leaves_no_process(together, ctx, tmp_path):
    """The runner raises out of the waiting when it gets SIGTERM."""
    program = (
        "import signal, sys\nfrom pathlib import Path\n"
        "from airgate.contracts.step import StepCall\nfrom airgate.steps import launch, runner\n"
        "from airgate.steps.context import StepContext\nfrom airgate.steps.functions import load_function\n"
        "from tests.steps.model_support import rows\n"
        "signal.signal(signal.SIGTERM, runner._stop)\n"
        f"call = StepCall.model_validate_json({ctx.call.model_dump_json()!r})\n"
        f"ctx = StepContext(call, Path({str(ctx.workdir)!r}))\n"
        "launch.train_on_each(load_function('together.steps:nap'), rows(1), ctx, 2, 'cpu')\n")
    path = os.pathsep.join([str(Path(airgate.__file__).parent.parent), str(Path(__file__).parents[2])])
    mark = tmp_path / "mark"
    step = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path, "NAP_MARK": str(mark)})
    marks = [mark.with_suffix(f".{rank}") for rank in (0, 1)]
    until = time.monotonic() + 250
    while not all(one.is_file() and one.read_text() for one in marks):
        assert step.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    step.send_signal(signal.SIGTERM)
    assert step.wait(60) != 0
    assert not any(psutil.pid_exists(int(one.read_text())) for one in marks)


@pytest.mark.parametrize("left", [None, "", "{}", '{"message": null}', "[1]"])
def test_processes_that_say_nothing(tmp_path, left):
    path = tmp_path / "error.json"
    if left is not None:
        path.write_text(left)
    assert isinstance(launch._failure(path, 9), StepError)


def test_the_reference_of_a_models_own_function(together):
    assert launch._reference(together("meet")) == "together.steps:meet"
