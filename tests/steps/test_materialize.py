"""Values to artifacts and back: nothing changes on the way, and what would change is refused with a reason."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgate.contracts.base import Contract
from airgate.errors import ArtifactError, StepError, WiringError
from airgate.steps import materialize
from airgate.steps.annotations import hint_of, signature_of
from airgate.steps.context import StepContext
from airgate.steps.json_value import to_json
from airgate.steps.model import Model
from airgate.steps.store import ArtifactStore


class Point(Contract):
    x: int
    label: str | None = None


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def travel(store: ArtifactStore, workdir: Path, value: object, annotation: Any) -> Any:
    hint = hint_of(annotation)
    ref, _ = materialize.save(store, value, hint, workdir)
    return materialize.load(store, ref, hint, "argument", workdir)


def test_a_table_keeps_its_types(store, tmp_path):
    table = pd.DataFrame({
        "int": np.array([1, 2, 3], dtype="int32"), "float": [0.5, None, 2.0], "text": ["a", None, "é"],
        "flag": [True, False, True], "maybe": pd.array([1, None, 3], dtype="Int64"),
        "group": pd.Categorical(["x", "y", "x"], categories=["y", "x"], ordered=True),
        "when": pd.to_datetime(["2026-01-01", "2026-01-02", None]).tz_localize("Europe/Vienna"),
        "day": pd.to_datetime(["2026-01-01"] * 3), "span": pd.to_timedelta([1, 2, 3], unit="s"),
    })
    back = travel(store, tmp_path, table, pd.DataFrame)
    pd.testing.assert_frame_equal(back, table)


def test_the_same_table_has_the_same_digest(store, tmp_path):
    refs = [materialize.save(store, pd.DataFrame({"a": range(1000)}), hint_of(pd.DataFrame), tmp_path)[0] for _ in range(2)]
    assert refs[0] == refs[1]
    assert refs[0].kind == "table"


@pytest.mark.parametrize("table", [pd.DataFrame({"a": []}), pd.DataFrame(), pd.DataFrame({"a": [1, 2, 3, 4]})])
def test_empty_and_small_tables(store, tmp_path, table):
    pd.testing.assert_frame_equal(travel(store, tmp_path, table, pd.DataFrame), table, check_column_type=False)


def test_row_labels_without_meaning_are_dropped(store, tmp_path):
    filtered = pd.DataFrame({"a": [1, 2, 3]}).query("a > 1")
    back = travel(store, tmp_path, filtered, pd.DataFrame)
    assert back.index.tolist() == [0, 1]
    assert back["a"].tolist() == [2, 3]
    assert filtered.index.tolist() == [1, 2], "the author's own frame must stay as it is"


@pytest.mark.parametrize("index", [
    pd.Index([1, 2], name="patient"), pd.Index(["x", "y"]), pd.MultiIndex.from_tuples([(1, 2), (3, 4)]),
    pd.date_range("2026-01-01", periods=2)])
def test_row_labels_with_meaning_are_refused(store, tmp_path, index):
    with pytest.raises(StepError, match=r"rows carry labels.*reset_index\(\) to make them columns"):
        materialize.save(store, pd.DataFrame({"a": [1, 2]}, index=index), hint_of(pd.DataFrame), tmp_path)


@pytest.mark.parametrize(("table", "text"), [
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"must be text and differ; found \['a'\]"),
    (pd.DataFrame({1: [2]}), r"must be text and differ; found \[1\]"),
    (pd.DataFrame({"mixed": [1, "two"]}), "cannot be stored as Parquet: .*mixed.*Give each column one type"),
])
def test_tables_that_parquet_cannot_hold(store, tmp_path, table, text):
    with pytest.raises(StepError, match=text):
        materialize.save(store, table, hint_of(pd.DataFrame), tmp_path)


@settings(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.integers(-2**53 + 1, 2**53 - 1) | st.text(alphabet=st.characters(
    exclude_categories=["Cs"])) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet="abé.", max_size=5), inner, max_size=4)))
def test_any_json_travels(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("json")
    assert travel(ArtifactStore(str(folder / "s")), folder, value, Any) == value


def test_numbers_of_numpy_become_json():
    made = to_json({"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "a": np.array([[1, 2]]), "t": (1, 2),
                    "d": datetime.date(2026, 1, 8), "p": Point(x=1)})
    assert made == {"f": 0.5, "i": 3, "b": True, "a": [[1, 2]], "t": [1, 2], "d": "2026-01-08", "p": {"x": 1, "label": None}}
    assert type(made["i"]) is int
    assert made["b"] is True


@pytest.mark.parametrize(("value", "text"), [
    ({"metrics": {"auc": [1.0, np.float64("nan")]}}, r"value\.metrics\.auc\[1\] is nan"),
    ([float("-inf")], r"value\[0\] is -inf"),
    ({"n": 2**53}, r"value\.n is 9007199254740992.*return larger ones as text"),
    ({1: 2}, "value has the key 1 of type int"),
    ({"when": pd.NaT}, "NaTType, which JSON does not have"),
    ({"set": {1}}, "value.set is of type set"),
    ({"x": pd.DataFrame()}, "of type DataFrame"),
    ("\ud800", "half of a surrogate pair"),
    ({"a": np.array([0.5, np.inf])}, r"value\.a\[1\] is inf"),
])
def test_what_json_does_not_have_is_refused_by_its_place(value, text):
    with pytest.raises(StepError, match=text):
        to_json(value)


def test_json_fits_its_annotation(store, tmp_path):
    assert travel(store, tmp_path, Point(x=1), Point) == Point(x=1)
    assert travel(store, tmp_path, [Point(x=1)], list[Point]) == [Point(x=1)]
    assert travel(store, tmp_path, np.float64(2), float) == 2.0
    assert type(travel(store, tmp_path, 2.0, float)) is float
    with pytest.raises(WiringError, match=r"what the step returned does not fit its annotation dict\[str, int\]"):
        materialize.save(store, [1], hint_of(dict[str, int]), tmp_path)


def test_small_json_is_repeated_inline_and_large_is_not(store, tmp_path):
    assert materialize.save(store, "x" * 32_000, hint_of(str), tmp_path)[1] == "x" * 32_000
    ref, value = materialize.save(store, "x" * 40_000, hint_of(str), tmp_path)
    assert value is None
    assert ref.size == 40_002


def test_files_are_the_steps_own_copy(store, tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"abc")
    given = travel(store, tmp_path / "work", path, Path)
    given.write_bytes(b"changed")
    assert travel(store, tmp_path / "work2", path, Path).read_bytes() == b"abc"
    assert path.exists()


@pytest.mark.parametrize(("value", "annotation", "text"), [
    ([1], pd.DataFrame, "returned a value of type list, but its annotation promises a pandas DataFrame"),
    (None, pd.DataFrame, "returned None, but its annotation promises a pandas DataFrame"),
    ("x", Path, r"promises a Path \(Path\)"), ({}, Model, r"promises a Model \(Model\)"),
    (1, None, "of type int, but its annotation promises None"),
])
def test_a_value_that_its_annotation_does_not_promise(store, tmp_path, value, annotation, text):
    with pytest.raises(WiringError, match=text):
        materialize.save(store, value, hint_of(annotation), tmp_path)


def test_none_where_the_annotation_allows_it(store, tmp_path):
    assert materialize.save(store, None, hint_of(None), tmp_path) == (None, None)
    assert materialize.save(store, None, hint_of(pd.DataFrame | None), tmp_path) == (None, None)
    assert materialize.save(store, None, hint_of(int | None), tmp_path)[0].kind == "json"


def test_kinds_that_differ(store, tmp_path):
    ref = store.put_json([1])
    with pytest.raises(WiringError, match="argument 'data' takes a pandas DataFrame, but what was wired to it is a JSON value"):
        materialize.load(store, ref, hint_of(pd.DataFrame), "data", tmp_path)
    with pytest.raises(WiringError, match="argument 'data' takes a pandas DataFrame, not a JSON value"):
        materialize.read_parameter({"a": 1}, hint_of(pd.DataFrame), "data")
    with pytest.raises(WiringError, match="argument 'n' does not fit its annotation int: value: Input should be a valid int"):
        materialize.read_parameter("many", hint_of(int), "n")


def test_bytes_that_are_not_of_their_kind(store, tmp_path):
    ref = store.put_json([1])
    with pytest.raises(ArtifactError, match="not readable as a table"):
        materialize.load(store, ref.model_copy(update={"kind": "table"}), hint_of(pd.DataFrame), "data", tmp_path)


def test_annotations_meant_for_the_type_checker_alone():
    namespace: dict[str, Any] = {}
    exec("from __future__ import annotations\ndef f(data: pd.DataFrame, model: Model, ctx: StepContext, n: int = 1)"
         " -> dict[str, Any]: ...", namespace)
    found = signature_of("m:f", namespace["f"])
    assert {name: hint.kind for name, hint in found.parameters.items()} == {
        "data": "table", "model": "model", "ctx": "context", "n": "json"}
    assert found.required == {"data", "model"}
    assert found.parameters["ctx"].annotation is StepContext


def test_annotations_that_are_missing():
    def bare(data, n: int): ...

    with pytest.raises(WiringError, match="no annotation for data, return"):
        signature_of("m:bare", bare)

    namespace: dict[str, Any] = {}
    exec("from __future__ import annotations\ndef f(x: Unknown) -> int: ...", namespace)
    with pytest.raises(WiringError, match="name 'Unknown' is not defined. Import it at the top"):
        signature_of("m:f", namespace["f"])
