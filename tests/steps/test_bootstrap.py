"""The vectorised metrics against scikit-learn's, and the intervals against a plain loop over the same resamples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from airgate.contracts.model_spec import METRICS
from airgate.errors import DataError
from airgate.steps import bootstrap

SETTINGS = {"resamples": 300, "confidence": 0.9, "seed": 3}


def reference(y, p):
    called = (p >= 0.5).astype(int)
    return {
        "accuracy": sk.accuracy_score(y, called), "roc_auc": sk.roc_auc_score(y, p),
        "precision": sk.precision_score(y, called, zero_division=0), "recall": sk.recall_score(y, called),
        "f1": sk.f1_score(y, called, zero_division=0),
        "brier": sk.brier_score_loss(y, p), "log_loss": sk.log_loss(y, p),
    }


@st.composite
def rows(draw):
    # Few distinct scores, so that ties, and certain scores of 0 and 1, are common.
    pairs = draw(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 0.1, 0.49, 0.5, 0.51, 0.9, 1])),
                          min_size=1, max_size=40))
    return np.array([0, 1, *(y for y, _ in pairs)]), np.array([0.3, 0.6, *(p for _, p in pairs)], dtype=float)


@given(rows())
@settings(max_examples=60, deadline=None)
def test_every_metric_is_scikit_learns(labelled):
    y, p = labelled
    assert bootstrap.metrics(y, p) == pytest.approx(reference(y, p), rel=1e-9, abs=1e-9)


def test_the_metrics_are_those_that_model_yaml_may_name():
    assert set(bootstrap.metrics([0, 1], [0.2, 0.8])) == set(METRICS)


def test_intervals_are_those_of_a_plain_loop_over_the_same_draws():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 60)
    p = np.round(np.clip(0.3 * y + random.random(60) * 0.7, 0, 1), 1)
    draws = np.random.default_rng(SETTINGS["seed"]).integers(0, 60, (300, 60))
    looped = [reference(y[draw], p[draw]) for draw in draws]
    found = bootstrap.intervals(y, p, **SETTINGS)
    for name, interval in found.items():
        low, high = np.quantile([one[name] for one in looped], [0.05, 0.95])
        assert (interval.low, interval.high) == pytest.approx((low, high))
        assert interval.value == pytest.approx(reference(y, p)[name])


def test_a_difference_is_paired():
    random = np.random.default_rng(1)
    y = random.integers(0, 2, 80)
    p = np.clip(0.4 * y + random.random(80) * 0.6, 0, 1)
    same = bootstrap.differences(y, p, p, **SETTINGS)
    assert all((d.value, d.low, d.high) == (0, 0, 0) for d in same.values())
    worse = bootstrap.differences(y, np.full(80, 0.5), p, **SETTINGS)["roc_auc"]
    assert worse.high < 0 and worse.low <= worse.value <= worse.high


def test_the_same_seed_gives_the_same_interval_and_blocks_do_not_matter(monkeypatch):
    y, p = np.array([0, 1] * 20), np.linspace(0.1, 0.9, 40)
    whole = bootstrap.intervals(y, p, **SETTINGS)
    assert whole == bootstrap.intervals(y, p, **SETTINGS)
    assert whole != bootstrap.intervals(y, p, **{**SETTINGS, "seed": 4})
    monkeypatch.setattr(bootstrap, "BLOCK", 200)  # five resamples a block
    assert bootstrap.intervals(y, p, **SETTINGS) == whole


def test_an_interval_covers_the_true_value_about_as_often_as_it_says():
    random, covered = np.random.default_rng(5), 0
    for number in range(200):
        y = np.concatenate([[0, 1], random.integers(0, 2, 118)])
        p = np.where(random.random(120) < 0.8, y, 1 - y).astype(float)
        interval = bootstrap.intervals(y, p, resamples=200, confidence=0.9, seed=number)["accuracy"]
        covered += interval.low <= 0.8 <= interval.high
    assert 0.82 <= covered / 200 <= 0.97


@pytest.mark.parametrize(("labels", "scores", "said"), [
    ([0, 0, 0], [0.1, 0.2, 0.3], "all 3 evaluated rows have the same label"),
    ([0, 1, 2], [0.1, 0.2, 0.3], "labels must be 0 or 1, got also 2"),
    ([0, 1], [0.1, float("nan")], "probabilities from 0 to 1, none missing"),
    ([0, 1], [0.1, 1.5], "probabilities from 0 to 1"),
    ([0, 1], [0.1], "two lists of one length"),
])
def test_what_cannot_be_measured_is_refused(labels, scores, said):
    with pytest.raises(DataError, match=said):
        bootstrap.metrics(labels, scores)


def test_too_few_of_one_class_gives_no_interval():
    y, p = np.array([1, *[0] * 20]), np.linspace(0, 1, 21)
    with pytest.raises(DataError, match=r"of 300 resamples of 21 rows \(1 with label 1\) drew one class only"):
        bootstrap.intervals(y, p, **SETTINGS)


def test_rare_one_class_resamples_are_left_out():
    y, p = np.array([1, 1, 1, 1, *[0] * 30]), np.linspace(0, 1, 34)
    assert all(np.isfinite([i.low, i.high]).all() for i in bootstrap.intervals(y, p, **SETTINGS).values())
