"""The value rules of `model.yaml` counted over a stream: what Great Expectations checks on a table, without a table."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from airgate.contracts.model_spec import DataSpec
from airgate.steps.table_check import SHOWN, Finding, Mask, examples
from airgate.steps.value_rules import allowed_values, bounds_text, nulls_text


class ValueCount:
    """Counts, batch after batch, the rows that break a rule about values. Keeps 8 bytes a row, to find repeated ids."""

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._rows = 0
        self._broken: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], tuple[str, ...]] = {}
        self._hashes: list[npt.NDArray[np.uint64]] = []
        limited = {name: column for name, column in spec.columns.items() if column.allowed is not None}
        self._allowed = {name: allowed_values(name, column) for name, column in limited.items()}

    def add(self, rows: pd.DataFrame) -> None:
        """Count a batch that `table_check.cast` made."""
        self._rows += len(rows)
        ids = rows[self._spec.id]
        self._count(rows, self._spec.id, "an id in every row", ids.isna().to_numpy())
        self._hashes.append(pd.util.hash_array(ids.astype("str").to_numpy(dtype=object)))
        for name, column in self._spec.columns.items():
            missing = rows[name].isna().to_numpy()
            self._count(rows, name, nulls_text(column), missing)
            if column.min is not None or column.max is not None:
                values = rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
                low = values < column.min if column.min is not None else np.zeros(len(rows), dtype=bool)
                high = values > column.max if column.max is not None else np.zeros(len(rows), dtype=bool)
                self._count(rows, name, bounds_text(column), low | high)
            if name in self._allowed:
                known = rows[name].isin(self._allowed[name]).to_numpy(dtype=bool, na_value=False)
                self._count(rows, name, f"one of {', '.join(column.allowed or [])}", ~known & ~missing)

    def merge(self, other: "ValueCount") -> None:
        """Add what another counted of further rows."""
        self._rows += other._rows
        self._hashes += other._hashes
        for key, count in other._broken.items():
            self._broken[key] = self._broken.get(key, 0) + count
            self._examples[key] = (self._examples.get(key, ()) + other._examples[key])[:SHOWN]

    def findings(self) -> list[Finding]:
        """The rules that the rows so far break."""
        failed = []
        for (name, expected), count in self._broken.items():
            column = self._spec.columns.get(name)
            tolerated = round(column.max_null * self._rows, 6) if column and expected == nulls_text(column) else 0
            if count > tolerated:
                failed.append(Finding(name, expected, False, self._rows, count, self._examples[(name, expected)]))
        return failed

    def repeated(self) -> npt.NDArray[np.uint64]:
        """Hashes (`pandas.util.hash_array` of the ids as text) that more than one row has."""
        if not self._hashes:
            return np.empty(0, dtype=np.uint64)
        ordered = np.sort(np.concatenate(self._hashes))
        return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])

    def _count(self, rows: pd.DataFrame, name: str, expected: str, bad: Mask) -> None:
        count = int(bad.sum())
        if not count:
            return
        key = (name, expected)
        self._broken[key] = self._broken.get(key, 0) + count
        known = self._examples.get(key, ())
        if len(known) < SHOWN:
            self._examples[key] = (known + examples(rows, self._spec, name, np.flatnonzero(bad)))[:SHOWN]
