import html
import json

import numpy as np
import pandas as pd
import pytest
from tests.steps.data_support import QUIET, context, day, rows, spec

from airgate.contracts.model_spec import ColumnSpec
from airgate.errors import DataError, SpecError
from airgate.steps import validate
from airgate.steps.value_count import ValueCount

pytestmark = QUIET
KEPT = ("mean_radius", "mean_texture", "mean_area")  # three columns, so that a check costs little here
COLUMNS = {name: column for name, column in spec().data.columns.items() if name in KEPT}
ROWS = rows(1, 2)[["sample_id", *KEPT, "malignant"]]


def refused(frame, tmp_path, check=validate.check, **data):
    """The lines of the refusal, and the JSON that went with it."""
    ctx = context(tmp_path, day(2), spec=spec(**{"columns": COLUMNS, **data}))
    with pytest.raises(DataError) as caught:
        check(frame, ctx)
    report = json.loads(ctx.attachments["data_check.json"].read_text())
    assert report["passed"] is False
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"breast_cancer: {len(frame)} rows refused: ")
    assert lines[-1].startswith("Correct the data, or change the rule in model.yaml")
    return lines[1:-1], report


def test_sound_rows_come_back_unchanged_with_a_report(tmp_path, capsys, recwarn):
    ctx = context(tmp_path, day(2))
    whole = rows(1, 2)
    pd.testing.assert_frame_equal(validate.check(whole, ctx), whole)
    report = json.loads(ctx.attachments["data_check.json"].read_text())
    assert report["passed"] is True
    assert report["rows"] == len(whole)
    assert {one["column"] for one in report["checks"]} == {"table", *whole.columns}
    assert all(one["passed"] for one in report["checks"])
    page = ctx.attachments["data_check.html"].read_text()
    assert "rows passed" in page
    assert "<script" not in page
    printed = capsys.readouterr()
    assert printed.out == f"{len(whole)} rows passed {len(report['checks'])} checks\n"
    assert printed.err == ""


@pytest.mark.parametrize(("change", "line"), [
    (lambda f: f.rename(columns={"mean_radius": "xyz"}), "- xyz: expected no such column; unexpected; no column has a similar"),
    (lambda f: f.rename(columns={"mean_radius": "mean_radios"}),
     "- mean_radius: expected the column to be there; it is missing; did you mean 'mean_radios'?"),
    (lambda f: f.assign(ward="A"), "- ward: expected no such column; unexpected"),
    (lambda f: pd.concat([f, f[["mean_area"]]], axis=1), "- mean_area: expected the column once; it is there 2 times"),
    (lambda f: f.assign(mean_area=f["mean_area"].astype("str")),
     "- mean_area: expected numbers (float), first: P0"),
    (lambda f: f.assign(mean_area=[{"a": 1}] * len(f)), "- mean_area: expected numbers (float), first: P0"),
    (lambda f: f.assign(mean_area=pd.Timestamp("2026-01-01")), "- mean_area: expected numbers (float)"),
    (lambda f: f.assign(sample_id=f.index * 1.0), "- sample_id: expected text or integers"),
    (lambda f: f.assign(malignant=f["malignant"].map({0: "no", 1: "yes"})), "- malignant: expected integers 0 or 1"),
    (lambda f: f.assign(malignant=f["malignant"] / 2), "- malignant: expected integers 0 or 1"),
    (lambda f: f.drop(columns="malignant"), "- malignant: expected the column to be there"),
    (lambda f: f.iloc[:0], "- table: expected at least one row; it has none"),
    (lambda f: f.assign(mean_area=np.where(f.index == 3, np.inf, f["mean_area"])),
     f"- mean_area: expected finite numbers; 1 of {len(ROWS)} rows violate it, first: {ROWS['sample_id'][3]}=inf"),
    (lambda f: f.assign(mean_area=np.nan), f"- mean_area: expected no missing value; {len(ROWS)} of {len(ROWS)} rows violate"),
    (lambda f: f.assign(mean_area=None), f"- mean_area: expected no missing value; {len(ROWS)} of {len(ROWS)} rows violate"),
    (lambda f: f.assign(mean_area=np.where(f.index < 2, np.nan, f["mean_area"])),
     f"- mean_area: expected no missing value; 2 of {len(ROWS)} rows violate it, first: {ROWS['sample_id'][0]}=nan, "),
    (lambda f: f.assign(mean_area=np.where(f.index == 5, -1.0, f["mean_area"])),
     f"- mean_area: expected values from 0 to 6000; 1 of {len(ROWS)} rows violate it, first: {ROWS['sample_id'][5]}=-1.0"),
    (lambda f: f.assign(malignant=0), "- malignant: expected rows of both classes, 0 and 1; the only values are 0"),
    (lambda f: f.assign(malignant=f["malignant"] + (f.index == 0) * 3), "- malignant: expected 0 or 1; 1 of"),
    (lambda f: f.assign(malignant=np.where(f.index == 0, np.nan, f["malignant"])), "- malignant: expected a label in every row"),
    (lambda f: f.assign(sample_id=["P1", *f["sample_id"][1:-1], "P1"]),
     f"- sample_id: expected each id once; 2 of {len(ROWS)} rows violate it, first: P1='P1', P1='P1'"),
    (lambda f: f.assign(sample_id=[None, *f["sample_id"][1:]]), "- sample_id: expected an id in every row; 1 of"),
    (lambda f: f.iloc[:5], "- table: expected at least 20 rows; it has 5"),
])
def test_each_fault_is_named(tmp_path, change, line):
    lines, report = refused(change(ROWS.copy()), tmp_path)
    assert any(one.startswith(line) for one in lines), lines
    assert len(lines) == sum(not one["passed"] for one in report["checks"])


def test_all_faults_are_in_one_list_and_failed_ones_head_the_page(tmp_path):
    frame = ROWS.assign(mean_area=-1.0, mean_texture=np.inf, malignant=1)
    frame.loc[2, "mean_radius"] = np.nan
    lines, _ = refused(frame, tmp_path)
    columns = [line.split(":")[0] for line in lines]
    assert columns == ["- mean_texture", "- malignant", "- mean_radius", "- mean_texture", "- mean_area"]


def test_types_are_cast_and_values_kept(tmp_path):
    columns = {"count": ColumnSpec(type="int", max_null=0.5), "whole": ColumnSpec(type="int", allowed=["1", "2"]),
               "part": ColumnSpec(type="float"), "site": ColumnSpec(type="string", allowed=["a", "ü"], max_null=0.7),
               "seen": ColumnSpec(type="bool", allowed=["true", "FALSE"])}
    frame = pd.DataFrame({
        "seen": np.array([True, False, False, True], dtype="object"), "id": [9, 8, 7, 6], "y": [True, False, True, True],
        "count": [1.0, None, 3.0, 4.0], "whole": [1.0, 2.0, 1.0, 2.0], "part": [1, 2, 3, 4],
        "site": pd.Categorical(["a", None, "ü", None])}, index=[5, 5, 6, 7])
    ctx = context(tmp_path, day(1), spec=spec(id="id", label="y", columns=columns, min_rows=4))
    found = validate.check(frame, ctx)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {
        "seen": "bool", "id": "int64", "y": "int64", "count": "float64", "whole": "int64", "part": "float64", "site": "str"}
    assert found["id"].tolist() == [9, 8, 7, 6]
    assert list(found) == list(frame)
    assert found.index.tolist() == [0, 1, 2, 3]


def test_allowed_values_and_shares_of_missing_ones(tmp_path):
    columns = {"site": ColumnSpec(type="string", allowed=["a", "b"], max_null=0.7)}
    frame = pd.DataFrame({"id": list("abcdefghij"), "site": ["a", "b", "<c>"] + [None] * 7})
    given = {"id": "id", "label": "y", "columns": columns}
    lines, _ = refused(frame, tmp_path, validate.check_unlabelled, **given)
    assert lines == ["- site: expected one of a, b; 1 of 10 rows violate it, first: c='<c>'"]
    frame.loc[2, "site"] = None
    lines, _ = refused(frame, tmp_path, validate.check_unlabelled, **given)
    assert len(lines) == 1
    assert lines[0].startswith("- site: expected at most 0.7 of its values missing; 8 of 10 rows violate it")
    frame.loc[2, "site"] = "a"
    assert len(validate.check_unlabelled(frame, context(tmp_path, day(1), spec=spec(**given)))) == 10


def test_a_check_leaves_no_folder_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    validate.check(ROWS, context(tmp_path, day(1), spec=spec(columns=COLUMNS)))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_page_shows_hostile_values_as_text(tmp_path):
    columns = {"site": ColumnSpec(type="string", allowed=["a"])}
    frame = pd.DataFrame({"id": ["<script>alert(1)</script>"], "site": ["<img src=x>"]})
    ctx = context(tmp_path, day(1), spec=spec(id="id", label="y", columns=columns))
    with pytest.raises(DataError):
        validate.check_unlabelled(frame, ctx)
    page = ctx.attachments["data_check.html"].read_text()
    assert "<script>" not in page
    assert html.escape("<img src=x>") in page


def test_one_unlabelled_row_is_enough(tmp_path):
    ctx = context(tmp_path, day(1), spec=spec(columns=COLUMNS))
    assert len(validate.check_unlabelled(ROWS.iloc[:1].drop(columns="malignant"), ctx)) == 1
    ctx = context(tmp_path, day(1), spec=spec(columns=COLUMNS))
    assert "malignant" in validate.check_unlabelled(ROWS.iloc[:1], ctx)


def test_allowed_values_of_the_wrong_type_are_the_models_fault(tmp_path):
    columns = {"count": ColumnSpec(type="int", allowed=["1", "many"])}
    frame = pd.DataFrame({"id": ["a"], "count": [1]})
    with pytest.raises(SpecError, match=r"data.columns.count.allowed: 1, many are not all of type int"):
        validate.check_unlabelled(frame, context(tmp_path, day(1), spec=spec(id="id", label="y", columns=columns)))


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_counting_a_stream_finds_what_the_check_of_a_table_finds(tmp_path, batch):
    columns = {"a": ColumnSpec(type="float", min=0, max=1, max_null=0.3), "b": ColumnSpec(type="string", allowed=["x", "y"]),
               "c": ColumnSpec(type="int", min=2)}
    random = np.random.default_rng(3)
    frame = pd.DataFrame({"id": [f"r{n}" for n in range(50)], "a": random.normal(0.5, 0.5, 50),
                          "b": random.choice(["x", "y", "z"], 50), "c": random.integers(0, 9, 50)})
    frame.loc[random.choice(50, 20, replace=False), "a"] = np.nan
    whole = spec(id="id", label="y", columns=columns)
    lines, _ = refused(frame, tmp_path, validate.check_unlabelled, id="id", label="y", columns=columns)
    counts = ValueCount(whole.data)
    for start in range(0, 50, batch):
        counts.add(frame.iloc[start:start + batch])
    assert sorted(f"- {one.line()}" for one in counts.findings()) == sorted(lines)
