"""Does a table have the columns and types that `model.yaml` promises, and only finite numbers? The first check of all.

It comes first because later tools are silent here: Evidently skips a missing column, a comparison with NaN is false.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airgate.contracts.model_spec import DataSpec
from airgate.errors import nearest

SHOWN = 3
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """One rule and what came of it. `violated` counts the rows against it; None where the rule is about the table."""

    column: str
    expected: str
    passed: bool
    rows: int
    violated: int | None = None
    examples: tuple[str, ...] = ()
    observed: str = ""

    def line(self) -> str:
        """The finding as one line of an error message."""
        count = "" if self.violated is None else f"; {self.violated} of {self.rows} rows violate it"
        first = f", first: {', '.join(self.examples)}" if self.examples else ""
        observed = f"; {self.observed}" if self.observed else ""
        return f"{self.column}: expected {self.expected}{count}{first}{observed}"


def structure(data: pd.DataFrame, spec: DataSpec, *, labelled: bool) -> list[Finding]:
    """What is wrong with the table's shape: rows, missing, unexpected and repeated columns, types. [] if it is sound.

    The id and every feature column must be there; the label too when `labelled`, otherwise it may be.
    """
    if not len(data):
        return [about_table("table", "at least one row", "it has none")]
    present = [str(name) for name in data.columns]
    wanted = [spec.id, *spec.columns, *([spec.label] if labelled else [])]
    known = {spec.id, spec.label, *spec.columns}
    findings = [about_table(one, "the column to be there", f"it is missing; {_near(one, present)}")
                for one in wanted if one not in present]
    strange = [one for one in present if one not in known]
    findings += [about_table(one, "no such column", f"unexpected; {_near(one, known)}") for one in strange]
    repeated = sorted({one for one in present if present.count(one) > 1})
    findings += [about_table(one, "the column once", f"it is there {present.count(one)} times") for one in repeated]
    types = {spec.id: "id", spec.label: "label", **{name: column.type for name, column in spec.columns.items()}}
    judged = {name: kind for name, kind in types.items() if name in present and name not in repeated}
    return findings + [finding for name, kind in judged.items() for finding in _type_finding(data, spec, name, kind)]


def cast(data: pd.DataFrame, spec: DataSpec) -> pd.DataFrame:
    """Give the table with the spec's types: float64, int64 (float64 where values are missing), str, bool.

    For a table without `structure` findings. The index is 0 to n-1; rows, order and values stay as they are.
    """
    types = {**{name: column.type for name, column in spec.columns.items()}, spec.label: "int"}
    columns = {str(name): _cast(data[name], types.get(str(name), "id")) for name in data.columns}
    return pd.DataFrame({name: values.array for name, values in columns.items()})


def finiteness(data: pd.DataFrame, spec: DataSpec) -> list[Finding]:
    """One finding a numeric column with infinities. Missing values are another rule: `max_null`."""
    findings = []
    for name, column in spec.columns.items():
        if column.type in ("float", "int"):
            bad = np.isinf(data[name].to_numpy(dtype=np.float64, na_value=np.nan))
            if bad.any():
                findings.append(violation(data, spec, name, "finite numbers", bad))
    return findings


def violation(data: pd.DataFrame, spec: DataSpec, column: str, expected: str, bad: Mask) -> Finding:
    """A failed rule about rows: `bad` marks the n rows that break it; the first few are named by id."""
    shown = examples(data, spec, column, np.flatnonzero(bad))
    return Finding(column, expected, False, len(data), int(bad.sum()), shown)


def examples(data: pd.DataFrame, spec: DataSpec, column: str, positions: Iterable[int]) -> tuple[str, ...]:
    """'id=value' for the first few of the rows at `positions`."""
    first = [position for _, position in zip(range(SHOWN), positions, strict=False)]
    ids = data[spec.id] if spec.id in data.columns else pd.Series([f"row {n}" for n in range(len(data))])
    return tuple(f"{ids.iloc[n]}={_short(data[column].iloc[n])}" for n in first)


def message(title: str, findings: list[Finding], advice: str) -> str:
    """The text of the DataError: a title, one line for each failed rule, and what to do."""
    failed = [finding for finding in findings if not finding.passed]
    return "\n".join([f"{title}: {len(failed)} checks failed", *(f"- {one.line()}" for one in failed), advice])


def _type_finding(data: pd.DataFrame, spec: DataSpec, name: str, kind: str) -> list[Finding]:
    values = data[name]
    tests, wanted = _TYPES[kind]
    # A column without any value has no type of its own; the rule about missing values speaks of it.
    if any(test(values) for test in tests) or bool(values.isna().all()):
        return []
    first = examples(data, spec, name, np.flatnonzero(values.notna().to_numpy()))
    return [Finding(name, wanted, False, len(data), None, first, f"its type is {values.dtype}")]


def _is_number(values: pd.Series) -> bool:
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values)
    return bool(numeric and not pd.api.types.is_bool_dtype(values))


def _is_integer(values: pd.Series) -> bool:
    if not pd.api.types.is_float_dtype(values):
        return _is_integer_dtype(values)
    # A whole-number column with gaps arrives as floats. Beyond 2**53 floats skip whole numbers.
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    return bool(((numbers == np.floor(numbers)) & (np.abs(numbers) <= 2**53)).all())


def _is_integer_dtype(values: pd.Series) -> bool:
    return bool(pd.api.types.is_integer_dtype(values) and (values.dropna() <= np.iinfo(np.int64).max).all())


def _is_bool(values: pd.Series) -> bool:
    return bool(pd.api.types.is_bool_dtype(values) or all(isinstance(one, bool | np.bool_) for one in values.dropna()))


def _is_text(values: pd.Series) -> bool:
    return all(isinstance(one, str) for one in values.dropna().unique())


_TYPES: dict[str, tuple[tuple[Callable[[pd.Series], bool], ...], str]] = {
    "float": ((_is_number,), "numbers (float)"),
    "int": ((_is_integer,), "whole numbers (int)"),
    "bool": ((_is_bool,), "true or false (bool)"),
    "string": ((_is_text,), "text (string)"),
    "id": ((_is_text, _is_integer_dtype), "text or integers"),
    "label": ((_is_integer, _is_bool), "integers 0 or 1"),
}


def _cast(values: pd.Series, kind: str) -> pd.Series:
    if kind == "float":
        return pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind == "int":
        if not values.isna().any() and not pd.api.types.is_float_dtype(values):
            return values.astype("int64")
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return pd.Series(numbers.astype(np.int64) if np.isfinite(numbers).all() else numbers)
    if kind == "bool":
        return values.astype("boolean" if values.hasnans else "bool")
    return values if pd.api.types.is_integer_dtype(values) else values.astype("str")


def about_table(column: str, expected: str, observed: str) -> Finding:
    """A failed rule that is not about single rows."""
    return Finding(column, expected, False, 0, observed=observed)


def _near(name: str, allowed: Iterable[str]) -> str:
    """`nearest` without the listing of every column: a wide table would fill the screen."""
    hint = nearest(name, allowed)
    return hint.split("? ")[0] + "?" if hint.startswith("did you mean") else "no column has a similar name"


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
