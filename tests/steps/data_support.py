"""What the tests of the data steps share: one demo repository, the demo model's spec, a context, a store to change."""

import atexit
import functools
import shutil
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airgate.contracts.model_spec import ModelSpec, load_spec
from airgate.contracts.step import RunContext, StepCall, Window
from airgate.steps import demo_data
from airgate.steps.context import StepContext

MODELS = Path(__file__).parents[2] / "include" / "models"

# Other people's warnings: Great Expectations and Evidently when they are imported, DVC when it adds, MLflow's SQLAlchemy.
_THIRD_PARTY = [
    "ignore:module 'sre_constants' is deprecated:DeprecationWarning",
    "ignore:numpy.core is deprecated:DeprecationWarning",
    "ignore:invalid escape sequence:DeprecationWarning",
    "ignore:Call to deprecated function 'Dependency':DeprecationWarning",
    "ignore:Use of deprecated class 'DependencyKwarg':DeprecationWarning",
    "ignore:The ``noload`` loader strategy is deprecated",
    "ignore:_NoneStep.value will soon raise:DeprecationWarning",
]
QUIET = [pytest.mark.filterwarnings(one) for one in _THIRD_PARTY]


@functools.cache
def demo_repository() -> Path:
    """A demo data repository, made once for a test process and never changed."""
    root = Path(tempfile.mkdtemp(prefix="airgate-test-data-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    demo_data.create(root / "data")
    return root / "data"


def copy_of_demo(to: Path) -> Path:
    """A copy of the demo repository and its remote that a test may break."""
    shutil.copytree(demo_repository(), to / "data", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copytree(demo_repository().parent / "data-remote", to / "data-remote")
    return to / "data"


def spec(**data: Any) -> ModelSpec:
    """The demo model's spec, with changes to its `data` part."""
    whole = load_spec(MODELS / "diagnosis_classifier")
    return whole.model_copy(update={"data": whole.data.model_copy(update=data)})


def day(number: int, days: int = 1) -> Window:
    """The window of the demo's n-th day, counted from 1."""
    start = demo_data.FIRST_DAY + timedelta(days=number - 1)
    return Window(start=start, end=start + timedelta(days=days))


def context(folder: Path, window: Window, repository: Path | str | None = None, **changes: Any) -> StepContext:
    """A step's context with a private folder. `changes` are fields of the StepCall."""
    run = RunContext(dag_id="tests", run_id="manual__1", task_id="step", try_number=1, window=window, actor="user:ana",
                     code_version="unversioned", image="local")
    call = {"function": "airgate.steps.load:load_day", "run": run, "spec": spec(), "store": f"file://{folder}/store",
            "data_repository": str(repository or demo_repository()), **changes}
    folder.mkdir(parents=True, exist_ok=True)
    workdir = Path(tempfile.mkdtemp(dir=folder, prefix="work-"))
    return StepContext(call=StepCall(**call), workdir=workdir)


def rows(number: int = 1, last: int | None = None) -> pd.DataFrame:
    """The demo's rows of one day or of several."""
    parts = demo_data.partitions()
    days = [demo_data.FIRST_DAY + timedelta(days=n - 1) for n in range(number, (last or number) + 1)]
    return pd.concat([parts[one] for one in days], ignore_index=True)


def add_partition(repository: Path, frame: pd.DataFrame | bytes, when: date = date(2026, 1, 13), name: str = "part-0.parquet",
                  dataset: str = demo_data.DATASET) -> None:
    """Write, add, push and commit one more partition, as a data engineer would."""
    path = repository / dataset / f"date={when}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(frame, bytes):
        path.write_bytes(frame)
    else:
        frame.to_parquet(path, index=False)
    demo_data._add_and_push(repository)
    demo_data._git(repository, "commit", "--quiet", "-am", "Another day")
