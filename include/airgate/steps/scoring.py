"""Scoring one day's Parquet files batch by batch: memory depends on the batch, not on how many rows the day has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airgate.contracts.model_spec import DataSpec, ModelSpec
from airgate.errors import DataError, SpecError, StepError
from airgate.steps.features import Features
from airgate.steps.load import damaged, open_parquet
from airgate.steps.model import Model, matrix
from airgate.steps.table_check import cast, finiteness, message, structure
from airgate.steps.value_count import ValueCount

BATCH_ROWS = 65_536
CUT = 0.5
SCHEMA = pa.schema([
    ("id", pa.string()), ("day", pa.date32()), ("model", pa.string()), ("model_version", pa.string()),
    ("score", pa.float64()), ("predicted", pa.int8()), ("scored_at", pa.timestamp("us", tz="UTC")),
])
_ADVICE = "No prediction of this run was published. Correct the day's data and run the day again."
_PROBE_ROWS = 256


@dataclass
class Scorer:
    """Scores files with one model. `scored_at` is the same for all rows of a run."""

    spec: ModelSpec
    model: Model
    features: Features
    version: str
    scored_at: datetime
    batch_rows: int = BATCH_ROWS
    _probed: bool = field(default=False, init=False)

    def score(self, files: list[tuple[Path, str]], day: date, to: Path, metadata: Mapping[str, str] | None = None) -> int:
        """Score a day's files, each with the name for errors, into the Parquet file `to`; give the number of rows.

        The result has one row an input row, in the same order, as `SCHEMA` says, and `metadata` in its footer. Raises
        DataError when the rows break a rule of `spec.data` or an id is there twice, SpecError when features() does not
        work row by row; what is then in `to` is of no use.
        """
        counts = ValueCount(self.spec.data)
        rows = self.write(files, day, to, counts, metadata)
        refuse_broken(self.spec.data, counts, rows, day)
        if (repeated := counts.repeated()).size:
            refuse_twice(self.spec.data, suspects(self.spec.data, files, repeated), day)
        return rows

    def write(self, files: list[tuple[Path, str]], day: date, to: Path, counts: ValueCount,
              metadata: Mapping[str, str] | None = None) -> int:
        """Score files into `to` and count into `counts`; give the number of rows. What holds for a whole day is not checked."""
        rows = 0
        with pq.ParquetWriter(to, SCHEMA.with_metadata(metadata), compression="zstd") as writer:
            for path, name in files:
                for batch in self._batches(path, name):
                    checked = self._checked(batch, name)
                    counts.add(checked)
                    writer.write_table(self._scored(checked, day))
                    rows += len(checked)
        return rows

    def _batches(self, path: Path, name: str) -> Iterator[pd.DataFrame]:
        data = self.spec.data
        with open_parquet(path, name) as file:
            present = set(file.schema_arrow.names)
            wanted = [column for column in (data.id, *data.columns) if column in present]
            try:
                for batch in file.iter_batches(batch_size=self.batch_rows, columns=wanted):
                    yield batch.to_pandas()
            except (pa.ArrowInvalid, OSError) as error:
                raise damaged(name, error) from None

    def _checked(self, batch: pd.DataFrame, name: str) -> pd.DataFrame:
        """Structure and finiteness of a batch, which stop the run at once."""
        findings = structure(batch, self.spec.data, labelled=False)
        if not findings:
            batch = cast(batch, self.spec.data)
            findings = finiteness(batch, self.spec.data)
        if findings:
            raise DataError(message(f"{name} refused", findings, _ADVICE))
        return batch

    def _scored(self, rows: pd.DataFrame, day: date) -> pa.Table:
        inputs = self._inputs(rows)
        scores = np.asarray(self.model.predict_proba(inputs), dtype=np.float64)
        if scores.shape != (len(rows),) or not ((scores >= 0) & (scores <= 1)).all():
            raise StepError(
                f"{self.spec.name} version {self.version} gave scores of shape {scores.shape} for {len(rows)} rows, "
                "or some outside 0 to 1. A model gives one probability a row."
            )
        count = len(rows)
        columns = {
            "id": pa.array(rows[self.spec.data.id].astype("str"), pa.string(), from_pandas=True),
            "day": pa.repeat(pa.scalar(day, pa.date32()), count),
            "model": pa.repeat(self.spec.name, count),
            "model_version": pa.repeat(self.version, count),
            "score": pa.array(scores),
            "predicted": pa.array((scores >= CUT).astype(np.int8)),
            "scored_at": pa.repeat(pa.scalar(self.scored_at, SCHEMA.field("scored_at").type), count),
        }
        return pa.Table.from_pydict(columns, schema=SCHEMA)

    def _inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Apply the model's own features(), and refuse one that loses, moves or mixes rows."""
        inputs = self.features(rows.copy(deep=False))
        where = f"models/{self.spec.name}/steps.py: features()"
        identity = self.spec.data.id
        moved = identity in inputs and list(inputs[identity]) != list(rows[identity])
        if len(inputs) != len(rows) or moved:
            raise SpecError(f"{where} gave {len(inputs)} rows for {len(rows)}, or in another order. Keep each row.")
        if not self._probed and len(rows) > 1:
            self._probed = True
            few = rows.iloc[: min(len(rows) // 2, _PROBE_ROWS)]
            alone = matrix(self.features(few.copy()), self.model.features)
            among = matrix(inputs.iloc[: len(few)], self.model.features)
            if alone.shape != among.shape or not np.allclose(alone, among, rtol=1e-9, atol=0, equal_nan=True):
                raise SpecError(
                    f"{where} gives a row other values when other rows stand beside it, so a score would depend on the "
                    "batch. Compute each row from itself alone; what is learned from all rows belongs in train()."
                )
        return inputs


def refuse_broken(data: DataSpec, counts: ValueCount, rows: int, day: date) -> None:
    """Raise DataError when too many of a day's rows break a rule."""
    if failed := counts.findings():
        raise DataError(message(f"{data.dataset} of {day}: {rows} rows refused", failed, _ADVICE))


def suspects(data: DataSpec, files: list[tuple[Path, str]], hashes: npt.NDArray[np.uint64]) -> list[str]:
    """Read the ids of files once more, and give those with one of these hashes: ids that may be there twice."""
    found: list[str] = []
    for path, name in files:
        with open_parquet(path, name) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[data.id]):
                ids = batch.to_pandas()[data.id].astype("str")
                found += ids[np.isin(pd.util.hash_array(ids.to_numpy(dtype=object)), hashes)].tolist()
    return found


def refuse_twice(data: DataSpec, ids: list[str], day: date) -> None:
    """Raise DataError when an id is truly there twice: two ids may have one hash."""
    every = pd.Series(ids, dtype="str")
    twice = every[every.duplicated()].unique().tolist()
    if twice:
        raise DataError(f"{data.dataset} of {day}: {len(twice)} ids are there more than once, first: {', '.join(twice[:5])}. "
                        f"{_ADVICE}")
