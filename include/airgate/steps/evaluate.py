"""How good a model is on rows that training never saw: metrics with intervals, alone and beside production."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from airgate.contracts.payloads import Candidate
from airgate.errors import ArtifactError, ConfigError, DataError, SignatureError, nearest
from airgate.steps import bootstrap, load, plot, versions
from airgate.steps.context import StepContext
from airgate.steps.features import features_of
from airgate.steps.holdout import is_holdout
from airgate.steps.model import Model

Floats = NDArray[np.float64]


def evaluate(model: Model, data: pd.DataFrame, ctx: StepContext) -> dict[str, Any]:
    """Measure `model` on the holdout rows of `data` (raw rows, as loaded: the model's features() is applied here).

    Gives {rows, positives, prevalence, metrics: {name: {value, low, high}}, confidence, resamples, seed}; logs each
    number as holdout_<metric>, _low and _high; attaches evaluation.svg (ROC curve and calibration).
    Raises DataError when there is no holdout row, one class only, or a column of the model is missing.
    """
    held = holdout_rows(data, ctx)
    labels, scores = _labels(held, ctx), model.predict_proba(features_of(ctx.spec.name)(held))
    found = bootstrap.intervals(labels, scores, **_settings(ctx))
    for name, one in found.items():
        end = {"": one.value, "_low": one.low, "_high": one.high}
        ctx.log_metrics({f"holdout_{name}{suffix}": value for suffix, value in end.items()})
    picture = ctx.workdir / "evaluation.svg"
    picture.write_text(plot.svg([plot.roc(labels, scores), plot.calibration(labels, scores)]), encoding="utf-8")
    ctx.attach(picture.name, picture)
    auc = found["roc_auc"]
    ctx.progress(f"holdout of {len(labels)} rows: roc_auc {auc.value:.4f} ({auc.low:.4f} to {auc.high:.4f})")
    return {"rows": len(labels), "positives": int(labels.sum()), "prevalence": float(labels.mean()),
            "metrics": _plain(found), **_settings(ctx)}


def compare(candidate: dict[str, Any], production: dict[str, Any] | None, ctx: StepContext,
            signatures: dict[str, Any] | None = None) -> dict[str, Any]:
    """Load the rows of the candidate's window at its data revision, then `compare_on` them. Raises what both raise.

    An empty `production` means None: Airflow cannot hand None from one task to the next.
    """
    told = Candidate.model_validate(candidate)
    return compare_on(load.training_rows(ctx, told.window, told.data_revision), candidate, production or None, ctx, signatures)


def compare_on(data: pd.DataFrame, candidate: dict[str, Any], production: dict[str, Any] | None,
               ctx: StepContext, signatures: dict[str, Any] | None = None) -> dict[str, Any]:
    """Measure a candidate, and production beside it, on the same holdout rows: the evidence that the gates judge.

    `data` are raw rows. `candidate` is a Candidate payload, `production` {model, version, digest} or None when nothing
    is live. Their signatures are verified, both are fetched from MLflow, and their digests verified before anything is
    parsed: `signatures` are the envelopes of their registrations, {candidate, production}. A wrong digest or signature does
    not stop the step: it is evidence, and that version's metrics are then missing. One whose signature does not count is not
    even fetched.
    Gives {rows, positives, candidate, production, difference: {metric: {value, low, high}} or None, digest_verified,
    candidate_digest, production_version, production_digest_verified, problems, confidence, resamples, seed}.
    `difference` is candidate minus production. `production` is None only when nothing is live.
    Raises DataError for unusable rows, ConfigError without an MLflow URI.
    """
    told, signed = Candidate.model_validate(candidate), signatures or {}
    held = holdout_rows(data, ctx)
    labels = _labels(held, ctx)
    # Verified and loaded before the author's features() is imported: from then on, code of the author's runs in this process.
    read = [_read(ctx, one, signed.get(which)) for which, one in (("candidate", candidate), ("production", production))
            if one is not None]
    inputs = features_of(ctx.spec.name)(held)
    (digest, ours, problem), *others = [_scored(one, inputs) for one in read]
    evidence: dict[str, Any] = {
        "rows": len(labels), "positives": int(labels.sum()), **_settings(ctx), "problems": [problem] if problem else [],
        "candidate": None, "candidate_digest": digest, "digest_verified": digest == told.digest,
        "production": None, "production_version": None, "production_digest_verified": None, "difference": None}
    if ours is not None:
        evidence["candidate"] = _plain(bootstrap.intervals(labels, ours, **_settings(ctx)))
    if production is not None:
        version, expected = str(production["version"]), str(production["digest"])
        [(digest, theirs, problem)] = others
        evidence |= {"production": {}, "production_version": version, "production_digest_verified": digest == expected}
        evidence["problems"] += [problem] if problem else []
        if theirs is not None:
            evidence["production"] = _plain(bootstrap.intervals(labels, theirs, **_settings(ctx)))
        if ours is not None and theirs is not None:
            evidence["difference"] = _plain(bootstrap.differences(labels, ours, theirs, **_settings(ctx)))
    _report(evidence, ctx)
    return evidence


def holdout_rows(data: pd.DataFrame, ctx: StepContext) -> pd.DataFrame:
    """The rows that training left out, sorted by id. Raises DataError when there is none, or no id or label column."""
    spec = ctx.spec.data
    for role, name in (("id", spec.id), ("label", spec.label)):
        if name not in data.columns:
            raise DataError(f"evaluation needs the {role} column '{name}'; {nearest(name, map(str, data.columns))}")
    held = is_holdout(data[spec.id], spec.holdout_percent)
    if not held.any():
        raise DataError(f"none of the {len(data)} rows is held out (data.holdout_percent is {spec.holdout_percent}). "
                        "Evaluate on a longer window or hold out more.")
    return data.loc[held].sort_values(spec.id, kind="stable")


def _labels(rows: pd.DataFrame, ctx: StepContext) -> Floats:
    labels: Floats = rows[ctx.spec.data.label].to_numpy(dtype=np.float64, na_value=np.nan)
    return labels


def _settings(ctx: StepContext) -> dict[str, Any]:
    gates = ctx.spec.gates
    return {"confidence": gates.confidence, "resamples": gates.resamples, "seed": ctx.spec.training.seed}


def _plain(found: dict[str, bootstrap.Interval]) -> dict[str, bootstrap.Metrics]:
    return {name: interval.as_dict() for name, interval in found.items()}


@dataclass(frozen=True)
class _Read:
    """A version as it was fetched: the digest of its stored files, and the model if they are the signed ones of the expected
    digest; otherwise what is wrong with them."""

    name: str
    digest: str
    model: Model | None = None
    problem: str = ""


def _read(ctx: StepContext, wanted: dict[str, Any], envelope: Any) -> _Read:
    """Verify a version's signature, fetch it from where that says, and load it if its files are those."""
    model, version, expected = str(wanted["model"]), str(wanted["version"]), str(wanted["digest"])
    name = f"{model} version {version}"
    if ctx.call.tracking_uri is None:
        raise ConfigError("comparing versions needs MLflow, and this call has no tracking_uri. Set AIRGATE_MLFLOW_URI.")
    try:
        said = versions.signed(model, version, envelope)
    except SignatureError as error:
        return _Read(name, "not fetched", None, str(error))
    try:
        fetched = versions.download(ctx.call.tracking_uri, model, version, ctx.workdir / f"{model}-{version}",
                                    source=versions.source_in(said))
    except ArtifactError as error:
        return _Read(name, "missing", None, str(error))
    if fetched.digest != expected:
        return _Read(name, fetched.digest, None, f"{name}: files have digest {fetched.digest}, recorded was {expected}")
    try:
        return _Read(name, fetched.digest, versions.load(fetched, said))
    except (ArtifactError, SignatureError) as error:
        return _Read(name, fetched.digest, None, f"{name} cannot be read: {error}")


def _scored(read: _Read, inputs: pd.DataFrame) -> tuple[str, Floats | None, str]:
    """Digest of the stored files, the scores of a version that was read, and what is wrong with one that gives none."""
    if read.model is None:
        return read.digest, None, read.problem
    try:
        return read.digest, read.model.predict_proba(inputs), ""
    except (ArtifactError, DataError) as error:
        # features() may have changed since that version was trained; the gates then lack what they need and fail.
        return read.digest, None, f"{read.name} cannot score the rows: {error}"


def _report(evidence: dict[str, Any], ctx: StepContext) -> None:
    for problem in evidence["problems"]:
        ctx.progress(f"problem: {problem}")
    for which in ("candidate", "production", "difference"):
        for name, interval in (evidence[which] or {}).items():
            ctx.log_metric(f"{which}_{name}", interval["value"])
        if evidence[which]:
            auc = evidence[which]["roc_auc"]
            ctx.progress(f"{which} on {evidence['rows']} rows: roc_auc {auc['value']:.4f} "
                         f"({auc['low']:.4f} to {auc['high']:.4f})")
