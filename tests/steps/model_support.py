"""What the tests of training, evaluation and registration share: real rows, a real context, a real MLflow on SQLite."""

from datetime import date
from functools import cache
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from airgate.contracts.model_spec import ModelSpec, load_spec
from airgate.contracts.step import RunContext, StepCall, Window
from airgate.steps import demo_data
from airgate.steps.context import StepContext

# MLflow's own code, when it is imported or opens its database.
_THIRD_PARTY = [
    "ignore:The ``noload`` loader strategy is deprecated",
]
QUIET = [pytest.mark.filterwarnings(one) for one in _THIRD_PARTY]
MODELS = Path(__file__).parents[2] / "include" / "models"
WINDOW = Window(start=date(2026, 1, 8), end=date(2026, 1, 9))
LINEAGE = {"data_revision": "c" * 40, "data_hash": "d" * 32 + ".dir"}
GATES = "sha256:" + "a" * 64


@cache
def spec_of(name: str = "diagnosis_classifier") -> ModelSpec:
    return load_spec(MODELS / name)


def changed(spec: ModelSpec, **training) -> ModelSpec:
    """The spec with other training settings, checked as model.yaml is."""
    raw = spec.model_dump(mode="json")
    return ModelSpec.model_validate({**raw, "training": {**raw["training"], **training}})


@cache
def _days() -> list[pd.DataFrame]:
    return list(demo_data.partitions().values())


def rows(days: int = 8) -> pd.DataFrame:
    """The demo's first days, as the load step gives them."""
    return pd.concat(_days()[:days], ignore_index=True)


def context(folder: Path, spec: ModelSpec | None = None, *, task: str = "train", run: str = "manual__1",
            mlflow_run_id: str | None = None, **call) -> StepContext:
    """A context as the runner makes it, with a fresh work directory."""
    workdir = folder / f"work-{len(list(folder.glob('work-*')))}"
    workdir.mkdir(parents=True)
    made = StepCall(
        function="airgate.steps.any:step", spec=spec or spec_of(), store=f"file://{folder}/artifacts",
        run=RunContext(dag_id="diagnosis_classifier_training", run_id=run, task_id=task, try_number=1, window=WINDOW,
                       actor="user:mia", code_version="unversioned", image="local"), **call)
    return StepContext(call=made, workdir=workdir, mlflow_run_id=mlflow_run_id)


def open_run(uri: str) -> str:
    """An MLflow run such as the runner opens for a DAG run."""
    client = mlflow.MlflowClient(uri)
    return client.create_run(client.get_experiment_by_name("tests").experiment_id).info.run_id


def mlflow_uri(folder: Path) -> str:
    """A new MLflow on SQLite whose artifacts lie beside it."""
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.MlflowClient(uri).create_experiment("tests", artifact_location=f"file://{folder}/artifacts")
    return uri
