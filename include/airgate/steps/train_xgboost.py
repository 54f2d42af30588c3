"""Train an XGBoost classifier with stratified cross-validation."""

import json
from typing import Any, Literal

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray
from pydantic import Field

from airgate.contracts.base import Contract
from airgate.errors import SpecError, StepError
from airgate.steps import device, training
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
    Raises DataError for unusable rows (see `training.training_rows`), SpecError for wrong parameters or more than one GPU,
    StepError when XGBoost left the GPU it was told to use, and what `device.granted` raises.
    """
    parameters = training.parameters(ctx, XGBoostParameters)
    rows = training.training_rows(data, ctx)
    options = options_for(parameters, ctx, _gpus(ctx))
    rounds: list[int] = []

    def fit_fold(values: Floats, labels: Floats) -> Any:
        rounds.append(_rounds(values, labels, options, parameters, ctx.spec.training.seed))
        booster = _train(values, labels, options, rounds[-1])
        return lambda unseen: booster.inplace_predict(unseen, validate_features=False)

    training.cross_validate(rows, ctx, fit_fold)
    trees = max(1, round(float(np.mean(rounds))))
    ctx.progress(f"training the final model: {trees} trees on {len(rows.labels)} rows, device {options['device']}")
    booster = _train(rows.values, rows.labels, options, trees)
    ctx.fact("device", device_used(booster, options["device"]))
    booster.set_param({"device": "cpu"})
    ctx.log_metric("trees", float(trees))
    model = XGBoostModel(booster, rows.features, ctx.spec.data.label)
    report = ctx.workdir / "feature_importance.json"
    report.write_text(json.dumps(model.importance(), indent=1) + "\n", encoding="utf-8")
    ctx.attach(report.name, report)
    return model


def options_for(parameters: XGBoostParameters, ctx: StepContext, gpus: int) -> dict[str, Any]:
    """XGBoost's own options: the parameters, and what the platform decides."""
    return {
        **parameters.model_dump(exclude={"n_estimators", "early_stopping_rounds"}),
        "objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist", "verbosity": 1,
        "seed": ctx.spec.training.seed, "nthread": max(1, int(training.resources(ctx).cpu)),
        "device": "cuda" if gpus else "cpu",
    }


def device_used(booster: xgb.Booster, asked: str) -> str:
    """Where the booster was trained, 'cpu' or 'cuda:0', by its own account.

    Raises StepError when that is not what was asked: XGBoost goes on on the CPU when it cannot use the GPU.
    """
    used = str(json.loads(booster.save_config())["learner"]["generic_param"]["device"])
    if not used.startswith(asked):
        raise StepError(f"XGBoost was told to train on '{asked}' but trained on '{used}': it could not use the GPU that is "
                        "visible here. Its warning above says why; driver and CUDA of image and node must fit each other.")
    return used


def _gpus(ctx: StepContext) -> int:
    """GPUs to train on: 0 or 1. One process of XGBoost uses one."""
    asked = training.resources(ctx).gpu
    if asked > 1:
        raise SpecError(f"{ctx.spec.name}: steps: train asks for {asked} GPUs, but train_xgboost.fit uses one and the others "
                        "would stand idle. Write gpu: 1; for more rows than one GPU holds see "
                        "docs/adr/0011-training-on-several-gpus.md.")
    return device.granted(ctx, "XGBoost", cuda=bool(xgb.build_info().get("USE_CUDA")), visible=device.nvidia_devices())


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
