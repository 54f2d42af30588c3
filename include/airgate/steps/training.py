"""What every train step shares: which rows it may see, its folds, its checked parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.model_selection import StratifiedKFold

from airgate.contracts.base import Contract
from airgate.contracts.resources import Resources
from airgate.errors import DataError, SpecError, nearest
from airgate.steps import bootstrap
from airgate.steps.context import StepContext
from airgate.steps.holdout import is_holdout
from airgate.steps.model import matrix

Floats = NDArray[np.float64]
# Trains on (values, labels) and gives the function that scores further values.
Fit = Callable[[Floats, Floats], Callable[[Floats], Floats]]
P = TypeVar("P", bound=Contract)


@dataclass(frozen=True)
class TrainingRows:
    """The rows a train step may learn from. `values` has shape (n, features), `labels` shape (n,) with 0 and 1."""

    features: list[str]
    values: Floats
    labels: Floats


def training_rows(data: pd.DataFrame, ctx: StepContext) -> TrainingRows:
    """Take the rows outside the holdout, sorted by id so that the order of the files does not matter.

    `data` is what the model's features() returned: id, label, and every other column as an input of the model.
    Raises DataError when id or label is missing, an input is not numeric, or a class has fewer rows than folds.
    """
    spec, folds = ctx.spec, ctx.spec.training.folds
    for role, name in (("id", spec.data.id), ("label", spec.data.label)):
        if name not in data.columns:
            raise DataError(f"train needs the {role} column '{name}'; {nearest(name, map(str, data.columns))}. "
                            "Let features() keep it: it is left out of the model's inputs here.")
    held = np.asarray(is_holdout(data[spec.data.id], spec.data.holdout_percent))
    rows = data.loc[~held].sort_values(spec.data.id, kind="stable")
    features = [str(name) for name in data.columns if name not in (spec.data.id, spec.data.label)]
    if rows[spec.data.label].isna().any():
        raise DataError(f"label '{spec.data.label}' is missing in some rows. Leave those rows out, or mend the data.")
    labels = rows[spec.data.label].to_numpy(dtype=np.float64)
    if not np.isin(labels, (0.0, 1.0)).all():
        raise DataError(f"label '{spec.data.label}' must be 0 or 1 in every row.")
    counts = {value: int((labels == value).sum()) for value in (0, 1)}
    if min(counts.values()) < folds:
        one_class = min(counts.values()) == 0
        raise DataError(
            f"training has {counts[0]} rows with {spec.data.label}=0 and {counts[1]} with {spec.data.label}=1"
            f"{': only one class, so there is nothing to tell apart' if one_class else ''}. "
            f"{folds} folds need at least {folds} rows of each class. "
            "Use a longer data.lookback_days or fewer training.folds.")
    ctx.progress(f"training on {len(rows)} rows ({counts[1]} with {spec.data.label}=1), {int(held.sum())} held out, "
                 f"{len(features)} columns")
    values = matrix(rows, features)
    empty = [name for number, name in enumerate(features) if np.isnan(values[:, number]).all()]
    if empty:
        raise DataError(f"no training row has a value in {', '.join(empty)}. "
                        "Mend the data, or leave the column out in features().")
    return TrainingRows(features, values, labels)


def cross_validate(rows: TrainingRows, ctx: StepContext, fit: Fit) -> None:
    """Train and score on `training.folds` stratified folds; log each metric's mean and standard deviation (n-1)."""
    training = ctx.spec.training
    splitter = StratifiedKFold(n_splits=training.folds, shuffle=True, random_state=training.seed)
    found: list[bootstrap.Metrics] = []
    for number, (inside, outside) in enumerate(splitter.split(rows.values, rows.labels), start=1):
        score = fit(rows.values[inside], rows.labels[inside])
        found.append(bootstrap.metrics(rows.labels[outside], score(rows.values[outside])))
        ctx.progress(f"fold {number}/{training.folds}: roc_auc {found[-1]['roc_auc']:.4f}, "
                     f"log_loss {found[-1]['log_loss']:.4f}")
    for name in found[0]:
        values = np.array([fold[name] for fold in found])
        ctx.log_metrics({f"cv_{name}_mean": float(values.mean()), f"cv_{name}_std": float(values.std(ddof=1))})


def parameters(ctx: StepContext, kind: type[P]) -> P:
    """Read `training.parameters` of model.yaml as `kind`.

    Raises SpecError that names the key, what is allowed and the nearest right name.
    """
    given = ctx.spec.training.parameters
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise SpecError(f"{ctx.spec.name}: training.parameters: {_explain(error, list(kind.model_fields))}") from None


def resources(ctx: StepContext) -> Resources:
    """What model.yaml grants the running task; a task inside a task group is known by its own name."""
    return ctx.spec.resources(ctx.run.task_id.rsplit(".", 1)[-1])


def _explain(error: ValidationError, allowed: list[str]) -> str:
    lines: list[str] = []
    for item in error.errors(include_url=False):
        key: Any = item["loc"][0] if item["loc"] else "(all)"
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown parameter '{key}'; {nearest(str(key), allowed)}")
        else:
            lines.append(f"{key}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r:.60})")
    return "; ".join(lines)
