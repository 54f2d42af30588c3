import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from tests.steps.data_support import QUIET, context, day, rows, spec

from airgate.contracts.model_spec import ColumnSpec, DriftSpec
from airgate.contracts.payloads import DriftVerdict
from airgate.errors import DataError
from airgate.steps import drift
from airgate.steps.holdout import is_holdout

pytestmark = QUIET
REFERENCE = rows(1, 8).loc[lambda frame: ~is_holdout(frame["sample_id"], 25)]
LIVE = {"model": "diagnosis_classifier", "version": "3", "digest": "unused"}


FEW = {name: spec().data.columns[name] for name in ("mean_area", "mean_texture", "worst_radius")}


def test_the_ninth_day_is_ordinary_and_the_tenth_is_not(tmp_path, capsys):
    verdicts = {}
    for number in (9, 10):
        ctx = context(tmp_path, day(number))
        found = drift.check(rows(number), REFERENCE, LIVE, ctx)
        verdicts[number] = DriftVerdict.model_validate(found)
        assert ctx.metrics["drift_share"] == found["share"]
    assert not verdicts[9].drifted
    assert verdicts[9].share <= 0.1
    assert verdicts[10].drifted
    assert verdicts[10].share >= 0.7
    assert verdicts[10].version == "3"
    assert str(verdicts[10].window.start) == "2026-01-10"
    assert len(verdicts[10].columns) == round(verdicts[10].share * 30)
    assert all(score < 0.05 for score in verdicts[10].columns.values())
    assert "mean_area" in verdicts[10].columns
    assert "columns drifted (share" in capsys.readouterr().out

    page = ctx.attachments["drift.html"].read_bytes()
    assert verdicts[10].report_digest == "sha256:" + hashlib.sha256(page).hexdigest()
    text = page.decode()
    # whole in itself: nothing is loaded from a network, and it is not the blank page of a report without its script
    assert not re.findall(r"<(?:script|link|img)[^>]{0,500}(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "mean_concave_points" in text
    assert len(page) > 1_000_000


def test_the_limit_of_the_model_decides(tmp_path):
    few = spec(columns=FEW)
    ctx = context(tmp_path, day(10), spec=few.model_copy(update={"drift": DriftSpec(share=1.0)}))
    keep = ["sample_id", *FEW]
    found = drift.check(rows(10)[keep], REFERENCE[keep].assign(mean_texture=rows(10)["mean_texture"]), {}, ctx)
    assert found["drifted"] is False
    assert found["version"] is None
    assert found["share"] == pytest.approx(2 / 3)
    assert set(found["columns"]) == {"mean_area", "worst_radius"}


@pytest.mark.parametrize(("change", "line"), [
    (lambda f: f.drop(columns="mean_area"), "- mean_area: expected the column to be there; it is missing"),
    (lambda f: f.assign(mean_area=np.inf), "- mean_area: expected finite numbers; "),
    (lambda f: f.assign(mean_area=np.nan), "- mean_area: expected values; every value is missing"),
    (lambda f: f.assign(mean_area="wide"), "- mean_area: expected numbers (float)"),
    (lambda f: f.iloc[:19], "- table: expected at least 20 rows; it has 19"),
    (lambda f: f.iloc[:0], "- table: expected at least one row; it has none"),
    (lambda f: f.assign(ward="A"), "- ward: expected no such column"),
])
@pytest.mark.parametrize("side", ["current", "reference"])
def test_unsound_rows_give_no_verdict(tmp_path, change, line, side):
    data, reference = rows(9), REFERENCE.copy()
    data, reference = (change(data), reference) if side == "current" else (data, change(reference))
    ctx = context(tmp_path, day(9))
    with pytest.raises(DataError) as caught:
        drift.check(data, reference, LIVE, ctx)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"drift of breast_cancer: {side} rows refused: {len(lines) - 2} checks failed"
    assert any(one.startswith(line) for one in lines), lines
    assert ctx.attachments == {}


def test_other_kinds_of_columns_and_many_rows(tmp_path):
    columns = {"site": ColumnSpec(type="string", max_null=1), "seen": ColumnSpec(type="bool"), "age": ColumnSpec(type="int"),
               "constant": ColumnSpec(type="float"), "value": ColumnSpec(type="float", max_null=1)}
    random = np.random.default_rng(1)

    def some(count, shift):
        return pd.DataFrame({
            "id": [f"r{n}" for n in range(count)], "site": random.choice(["a", "b"], count, p=[0.5 + shift, 0.5 - shift]),
            "seen": random.random(count) < 0.5, "age": random.integers(20, 80, count), "constant": 1.0,
            "value": np.where(random.random(count) < 0.1, np.nan, random.normal(shift * 4, 1, count))})

    given = spec(id="id", label="y", columns=columns)
    for count in (300, 3000):  # up to 1000 rows by p-values, beyond by distances
        found = drift.check(some(count, 0.3), some(count, 0.0), LIVE, context(tmp_path, day(1), spec=given))
        assert set(found["columns"]) == {"site", "value"}
        assert found["share"] == 0.4
