"""Do a window's rows still look like those that the version in production learned from? Measured with Evidently."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from airgate.contracts.payloads import DriftVerdict
from airgate.errors import DataError, StepError
from airgate.steps.context import StepContext
from airgate.steps.manifest import digest_of
from airgate.steps.table_check import about_table, cast, finiteness, message, structure

_ADVICE = "Drift of unsound rows means nothing: correct the data, then check again."


def check(data: pd.DataFrame, reference: pd.DataFrame, live: dict[str, Any], ctx: StepContext) -> dict[str, Any]:
    """Compare the feature columns of `data` with those of `reference`; give a DriftVerdict as a plain dict.

    `live` is the version in production, whose training rows are the reference; its `version` goes into the verdict.
    Evidently chooses the test by the column and the number of reference rows: for numbers Kolmogorov-Smirnov
    (p below 0.05) up to 1000 rows and the normed Wasserstein distance (0.1 and above) beyond; chi-squared or z-test,
    or Jensen-Shannon distance, for text and truth values. The rows have drifted when at least `spec.drift.share` of the
    columns have. Attaches drift.html, a report that needs no network. Raises DataError when one side lacks a column,
    holds an infinity or a column without values, or has fewer rows than `spec.drift.min_rows`.
    """
    spec = ctx.spec
    current, baseline = _sound(data, "current rows", ctx), _sound(reference, "reference rows", ctx)
    report = ctx.workdir / "drift.html"
    scores, share = _measure(current, baseline, ctx, report)
    ctx.attach(report.name, report)
    ctx.log_metric("drift_share", share)
    drifted = share >= spec.drift.share
    ctx.progress(
        f"{len(scores)} of {len(spec.data.columns)} columns drifted (share {share:.2f}, limit {spec.drift.share:g}): "
        f"{'drifted' if drifted else 'not drifted'}"
    )
    return DriftVerdict(
        model=spec.name,
        version=str(live["version"]) if live.get("version") is not None else None,
        window=ctx.window,
        drifted=drifted,
        share=share,
        columns=scores,
        report_digest=digest_of(report),
    ).model_dump(mode="json")


def _sound(data: pd.DataFrame, which: str, ctx: StepContext) -> pd.DataFrame:
    """The feature columns with their types, or DataError: Evidently itself passes over what it cannot compare."""
    spec, least = ctx.spec.data, ctx.spec.drift.min_rows
    findings = structure(data, spec, labelled=False)
    if not findings:
        data = cast(data, spec)
        findings = finiteness(data, spec)
        empty = [name for name in spec.columns if data[name].isna().all()]
        findings += [about_table(name, "values", "every value is missing") for name in empty]
        if len(data) < least:
            findings.append(about_table("table", f"at least {least} rows", f"it has {len(data)}"))
    if findings:
        raise DataError(message(f"drift of {spec.dataset}: {which} refused", findings, _ADVICE))
    return data[list(spec.columns)]


def _measure(
    current: pd.DataFrame, baseline: pd.DataFrame, ctx: StepContext, report: Path
) -> tuple[dict[str, float], float]:
    """Run Evidently: the drifted columns with their score, the share of columns that drifted; the report as a file."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = ctx.spec.data.columns
    numbers = [name for name, column in columns.items() if column.type in ("float", "int")]
    others = [name for name in columns if name not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=others)
    # Divisions by zero inside Evidently's plots of constant columns are of no interest here.
    with np.errstate(all="ignore"):
        snapshot = Report([DataDriftPreset(drift_share=ctx.spec.drift.share)]).run(
            Dataset.from_pandas(current, definition), Dataset.from_pandas(baseline, definition)
        )
    snapshot.save_html(str(report))
    counted, scores, measured, finite = None, {}, 0, True
    for metric in snapshot.dict()["metrics"]:
        config, value = metric["config"], metric["value"]
        if config["type"].endswith(":DriftedColumnsCount"):
            counted = int(value["count"])
        elif config["type"].endswith(":ValueDrift"):
            measured += 1
            score, is_p_value = float(value), "p_value" in config["method"]
            finite = finite and math.isfinite(score)
            if score < config["threshold"] if is_p_value else score >= config["threshold"]:
                scores[config["column"]] = score
    # What Evidently counts must be what is named, and no column may be passed over in silence.
    if measured != len(columns) or counted != len(scores) or not finite:
        raise StepError(
            f"Evidently measured {measured} of {len(columns)} columns and counted {counted} as drifted where "
            f"{len(scores)} are. Its rules and ours do not agree; was it upgraded?"
        )
    return scores, len(scores) / len(columns)
