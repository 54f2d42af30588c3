"""A launch whose place another has taken writes nothing: no result, nothing in MLflow, no version, no predictions."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from tests.steps.results import result_of

from airgate.contracts import calls
from airgate.contracts.step import StepCall
from airgate.errors import FencedError
from airgate.steps import runner
from airgate.steps.context import StepContext


def test_a_pod_that_starts_after_the_next_try_runs_nothing(make_call: Callable[..., StepCall], tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    mark = tmp_path / "mark"
    late = calls.write_call(make_call("nap", seconds=0, mark=str(mark), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"))
    calls.write_call(make_call("nap", attempt=2, seconds=0, mark=str(mark)))
    assert runner.main([late]) == 1
    assert result_of(late) is None and not mark.exists() and not (tmp_path / "mlflow.db").exists()
    assert "of this task may write nothing any more: launch 2/" in capsys.readouterr().err


def test_a_pod_that_comes_back_leaves_no_result(make_call: Callable[..., StepCall], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    old = calls.write_call(make_call("nap", seconds=1, mark=str(mark)))

    def next_try() -> None:
        while not mark.exists():
            time.sleep(0.01)
        calls.write_call(make_call("nap", attempt=2, seconds=0, mark=str(mark)))

    other = Thread(target=next_try)
    other.start()
    assert runner.main([old]) == 1
    other.join()
    assert result_of(old) is None


def test_a_step_can_ask_before_it_shows_something(make_call: Callable[..., StepCall], tmp_path: Path) -> None:
    call = make_call("nothing")
    url = calls.write_call(call)
    context = StepContext(call, tmp_path, check_fence=lambda: calls.check_fence(url))
    context.check_fence()
    calls.write_call(call)
    with pytest.raises(FencedError):
        context.check_fence()
    StepContext(call, tmp_path).check_fence()  # outside the runner nobody can take over


def test_a_store_that_cannot_say_it_is_worth_another_try(make_call: Callable[..., StepCall], tmp_path: Path) -> None:
    call = make_call("nothing")
    url = calls.write_call(call)
    fence = tmp_path / "store/calls/toy_training/manual__2026-01-08T00%3A00%3A00%2B00%3A00/step/-1/fence"
    fence.unlink()
    fence.mkdir()
    result = runner.execute(call, tmp_path, lambda: calls.check_fence(url))
    assert result.failure is not None and result.failure.retryable and "fence: cannot be read" in result.failure.message
    shutil.rmtree(fence)
