"""Binary classification metrics with bootstrap confidence intervals, computed for all resamples at once.

A resample is written as a row of counts: how often each of the n rows was drawn. Every metric but the area under the
ROC curve is then a function of matrix products `counts @ per_row_value`, and the area needs one sort of the scores for
all resamples together. Nothing loops over resamples one by one.

Source of the percentile interval: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airgate.errors import DataError

Floats = NDArray[np.float64]
Metrics = dict[str, float]

THRESHOLD = 0.5
# Counts are made in blocks of at most this many numbers: 8 MiB an array, whatever the number of rows and resamples.
BLOCK = 1_000_000
# A resample without both classes has no ROC curve. It is left out; above this share the interval would describe luck.
MAX_DEGENERATE = 0.05


@dataclass(frozen=True)
class Interval:
    """A metric's value on the rows themselves and its percentile interval over the resamples."""

    value: float
    low: float
    high: float

    def as_dict(self) -> Metrics:
        """Plain numbers for JSON: value, low, high."""
        return {"value": self.value, "low": self.low, "high": self.high}


def metrics(labels: Any, scores: Any) -> Metrics:
    """Give every metric of `contracts.model_spec.METRICS` on the rows as they are.

    `labels`: n values, each 0 or 1. `scores`: n probabilities of class 1, 0 to 1. A row counts as predicted 1 when its
    score is at least 0.5. Precision without predicted positives, and F1 without true positives, are 0.
    Raises DataError when the lengths differ, a value is out of range, or only one class is present.
    """
    y, p = _checked(labels, scores)
    return {name: float(values[0]) for name, values in _weighted(y, p, np.ones((1, y.size))).items()}


def intervals(labels: Any, scores: Any, *, resamples: int, confidence: float, seed: int) -> dict[str, Interval]:
    """Give every metric with its percentile interval: the (1-confidence)/2 quantiles at both ends over the resamples.

    Same arguments, same result. Resamples that drew one class only are left out.
    Raises DataError as `metrics` does, and when more than 5 % of the resamples have one class only.
    """
    y, p = _checked(labels, scores)
    drawn = _drawn(y, [p], resamples, seed)[0]
    point = metrics(y, p)
    return {name: _interval(point[name], drawn[name], confidence) for name in point}


def differences(labels: Any, candidate: Any, production: Any, *, resamples: int, confidence: float,
                seed: int) -> dict[str, Interval]:
    """Give candidate minus production for every metric, both measured on the same resampled rows (a paired bootstrap).

    Arguments as for `intervals`, with one score per row from each model. Raises DataError as `intervals` does.
    """
    y, ours = _checked(labels, candidate)
    _, theirs = _checked(labels, production)
    first, second = _drawn(y, [ours, theirs], resamples, seed)
    here, there = metrics(y, ours), metrics(y, theirs)
    return {name: _interval(here[name] - there[name], first[name] - second[name], confidence) for name in here}


def _checked(labels: Any, scores: Any) -> tuple[Floats, Floats]:
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise DataError(f"labels and scores must be two lists of one length, got shapes {y.shape} and {p.shape}.")
    if not np.isin(y, (0.0, 1.0)).all():
        wrong = np.unique(y[~np.isin(y, (0.0, 1.0))])[:3]
        raise DataError(f"labels must be 0 or 1, got also {', '.join(f'{v:g}' for v in wrong)}. Mend the labels.")
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError("scores must be probabilities from 0 to 1, none missing. Check what the model returns.")
    positives = int(y.sum())
    if positives in (0, y.size):
        raise DataError(f"all {y.size} evaluated rows have the same label, so no metric can be trusted: both "
                        "0 and 1 are needed. Evaluate on more rows: raise data.lookback_days or data.holdout_percent.")
    return y, p


def _drawn(y: Floats, scores: list[Floats], resamples: int, seed: int) -> list[dict[str, Floats]]:
    """Metrics of each list of scores on every usable resample; the lists share the resamples."""
    blocks: list[list[dict[str, Floats]]] = [[] for _ in scores]
    kept = 0
    for counts in _counts(y.size, resamples, seed):
        positives = counts @ y
        usable = counts[(positives > 0) & (positives < y.size)]
        kept += len(usable)
        for block, p in zip(blocks, scores, strict=True):
            block.append(_weighted(y, p, usable))
    if kept < resamples * (1 - MAX_DEGENERATE):
        raise DataError(f"{resamples - kept} of {resamples} resamples of {y.size} rows ({int(y.sum())} with label 1) "
                        "drew one class only; at most 5 % may. Evaluate on more rows: raise data.lookback_days or "
                        "data.holdout_percent.")
    return [{name: np.concatenate([part[name] for part in block]) for name in block[0]} for block in blocks]


def _counts(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of shape (b, rows): how often each row was drawn in each of b resamples of `rows` draws."""
    generator = np.random.default_rng(seed)
    size = max(1, BLOCK // rows)
    for start in range(0, resamples, size):
        block = min(size, resamples - start)
        draws = generator.integers(0, rows, size=(block, rows))
        draws += np.arange(block)[:, None] * rows
        yield np.bincount(draws.ravel(), minlength=block * rows).reshape(block, rows).astype(np.float64)


def _weighted(y: Floats, p: Floats, counts: Floats) -> dict[str, Floats]:
    """Every metric for each row of `counts`, shape (b, n). Each needs both classes with a count."""
    predicted = (p >= THRESHOLD).astype(np.float64)
    hits, called, positives = counts @ (predicted * y), counts @ predicted, counts @ y
    total = counts.sum(axis=1)
    # Probabilities 0 and 1 would cost infinitely much when wrong; they are moved inside by one rounding step.
    inside = np.clip(p, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    loss = -(y * np.log(inside) + (1 - y) * np.log1p(-inside))
    return {
        "accuracy": counts @ (predicted == y).astype(np.float64) / total,
        "roc_auc": _area(y, p, counts),
        "precision": np.divide(hits, called, out=np.zeros_like(hits), where=called > 0),
        "recall": hits / positives,
        "f1": 2 * hits / (called + positives),
        "brier": counts @ (p - y) ** 2 / total,
        "log_loss": counts @ loss / total,
    }


def _area(y: Floats, p: Floats, counts: Floats) -> Floats:
    """Area under the ROC curve as the Mann-Whitney statistic: the chance that a positive row scores above a negative
    one, ties counting half (J. A. Hanley and B. J. McNeil, Radiology 143, 1982).
    """
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=-1.0))
    sorted_counts, sorted_y = counts[:, order], y[order]
    positive = np.add.reduceat(sorted_counts * sorted_y, starts, axis=1)
    negative = np.add.reduceat(sorted_counts * (1 - sorted_y), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    area: Floats = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
    return area


def _interval(value: float, drawn: Floats, confidence: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
