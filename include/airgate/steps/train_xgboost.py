"""Train an XGBoost classifier with stratified cross-validation."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray
from pydantic import Field

from airgate.contracts.base import Contract
from airgate.errors import SpecError
from airgate.steps import training
from airgate.steps.context import StepContext
from airgate.steps.model_xgboost import XGBoostModel

Floats = NDArray[np.float64]


class XGBoostParameters(Contract):
    """`training.parameters` of a model trained here; names and meanings are XGBoost's.

    Seed, folds, threads, device and objective are not among them: model.yaml has its own keys for the first two, the
    step's resources decide the next two, and a binary label needs the logistic objective.
    """

    n_estimators: int = Field(default=200, ge=1, le=100_000)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    max_depth: int = Field(default=4, ge=1, le=64)
    max_leaves: int = Field(default=0, ge=0)
    grow_policy: Literal["depthwise", "lossguide"] = "depthwise"
    min_child_weight: float = Field(default=1, ge=0)
    gamma: float = Field(default=0, ge=0)
    subsample: float = Field(default=1, gt=0, le=1)
    colsample_bytree: float = Field(default=1, gt=0, le=1)
    colsample_bylevel: float = Field(default=1, gt=0, le=1)
    colsample_bynode: float = Field(default=1, gt=0, le=1)
    reg_lambda: float = Field(default=1, ge=0)
    reg_alpha: float = Field(default=0, ge=0)
    scale_pos_weight: float = Field(default=1, gt=0)
    max_delta_step: float = Field(default=0, ge=0)
    max_bin: int = Field(default=256, ge=2, le=65536)
    early_stopping_rounds: int | None = Field(
        default=None, ge=1, description="stop a fold after this many rounds without a better log loss on a part of it")


def fit(data: pd.DataFrame, ctx: StepContext) -> XGBoostModel:
    """Cross-validate, log the folds' metrics, then train on all rows outside the holdout.

    `data` is what features() returned: id, label, and one numeric column per input. The same data, parameters and seed
    give the same bytes. With `early_stopping_rounds` each fold finds its number of trees on a tenth of its own rows,
    and the final model has the mean of them.
    Raises DataError for unusable rows (see `training.training_rows`), SpecError for wrong parameters.
    """
    parameters = training.parameters(ctx, XGBoostParameters)
    rows = training.training_rows(data, ctx)
    options = _options(parameters, ctx)
    rounds: list[int] = []

    def fit_fold(values: Floats, labels: Floats) -> Any:
        rounds.append(_rounds(values, labels, options, parameters, ctx.spec.training.seed))
        booster = _train(values, labels, options, rounds[-1])
        return lambda unseen: booster.inplace_predict(unseen, validate_features=False)

    training.cross_validate(rows, ctx, fit_fold)
    trees = max(1, round(float(np.mean(rounds))))
    ctx.progress(f"training the final model: {trees} trees on {len(rows.labels)} rows, device {options['device']}")
    booster = _train(rows.values, rows.labels, options, trees)
    booster.set_param({"device": "cpu"})
    ctx.fact("device", str(options["device"]))
    ctx.log_metric("trees", float(trees))
    model = XGBoostModel(booster, rows.features, ctx.spec.data.label)
    report = ctx.workdir / "feature_importance.json"
    report.write_text(json.dumps(model.importance(), indent=1) + "\n", encoding="utf-8")
    ctx.attach(report.name, report)
    return model


def gpu_visible() -> bool:
    """Whether XGBoost could train on a GPU in this process."""
    return any(Path("/dev").glob("nvidia[0-9]*")) and bool(xgb.build_info().get("USE_CUDA"))


def _options(parameters: XGBoostParameters, ctx: StepContext) -> dict[str, Any]:
    granted = training.resources(ctx)
    visible = bool(granted.gpu) and gpu_visible()
    if granted.gpu and not visible:
        ctx.progress("model.yaml asks for a GPU but none is visible here: training on CPU")
    return {
        **parameters.model_dump(exclude={"n_estimators", "early_stopping_rounds"}),
        "objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist", "verbosity": 1,
        "seed": ctx.spec.training.seed, "nthread": max(1, int(granted.cpu)),
        "device": "cuda" if visible else "cpu",
    }


def _rounds(values: Floats, labels: Floats, options: dict[str, Any], parameters: XGBoostParameters, seed: int) -> int:
    """Number of trees for one fold: fixed, or found by early stopping on a tenth of the fold's own training rows."""
    if parameters.early_stopping_rounds is None:
        return parameters.n_estimators
    aside = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(seed)
    for value in (0.0, 1.0):
        members = generator.permutation(np.flatnonzero(labels == value))
        aside[members[: max(1, len(members) // 10)]] = True
    watched = xgb.DMatrix(values[aside], label=labels[aside], nthread=options["nthread"])
    booster = _train(values[~aside], labels[~aside], options, parameters.n_estimators, evals=[(watched, "aside")],
                     early_stopping_rounds=parameters.early_stopping_rounds, verbose_eval=False)
    return int(booster.best_iteration) + 1


def _train(values: Floats, labels: Floats, options: dict[str, Any], rounds: int, **extra: Any) -> xgb.Booster:
    table = xgb.DMatrix(values, label=labels, nthread=options["nthread"])
    try:
        return xgb.train(options, table, num_boost_round=rounds, **extra)
    except xgb.core.XGBoostError as error:
        text = str(error).strip().splitlines()[0]
        raise SpecError(f"XGBoost refused to train: {text[:300]}. Check training.parameters in model.yaml.") from None
