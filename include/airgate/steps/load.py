"""Reading a model's rows from the data repository: the days that the run is about, at a commit that goes on record."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airgate.contracts.model_spec import DataSpec, ModelSpec
from airgate.contracts.step import Window
from airgate.errors import ConfigError, ContractError, DataError, nearest
from airgate.steps.context import StepContext
from airgate.steps.data_repository import Dataset, open_snapshot
from airgate.steps.holdout import is_holdout

_SHOWN = 5


def load_window(ctx: StepContext, revision: str | None = None) -> pd.DataFrame:
    """Read what training may use: the rows of `lookback_days` days up to the end of the run's window.

    Gives the id, the label and the feature columns of the spec; other columns are left unread and a missing one is left
    to the validation that follows. `revision` is a branch, tag or commit; None is the head of the default branch.
    Facts: data_revision, data_hash, data_days, rows. Raises DataError: nothing in the window, an empty or unreadable
    file, partitions whose columns differ, an id twice.
    """
    return training_rows(ctx, ctx.window, revision)


def load_day(ctx: StepContext, revision: str | None = None) -> pd.DataFrame:
    """Read the rows of the run's window alone; every day of it must be there. The label may be missing.

    Facts and errors as `load_window`.
    """
    window = ctx.window
    return _read(ctx, window, revision, every_day=True)


def load_reference(live: dict[str, Any], ctx: StepContext) -> pd.DataFrame:
    """Read the rows that the version in production learned from: its window and commit, without its holdout rows.

    `live` needs `version`, `data_revision` and `window` {start, end}, as the version's tags hold them. Raises
    ContractError when one is missing; errors as `load_window`, facts too, each with `reference_` before its name.
    """
    missing = [key for key in ("version", "data_revision", "window") if not live.get(key)]
    if missing:
        raise ContractError(
            f"the version in production does not say its {', '.join(missing)}, so what it learned from is unknown. "
            "Only a version that airgate.steps.register wrote can be a reference; train and promote one."
        )
    window = training_window(ctx.spec, Window.model_validate(live["window"]))
    rows = _read(ctx, window, str(live["data_revision"]), every_day=False, facts="reference_")
    kept = rows.loc[~is_holdout(rows[ctx.spec.data.id], ctx.spec.data.holdout_percent)]
    ctx.progress(f"reference: {len(kept)} training rows of version {live['version']}")
    return kept.reset_index(drop=True)


def training_rows(ctx: StepContext, window: Window, revision: str | None) -> pd.DataFrame:
    """Read what a training run for `window` reads, holdout rows included. As `load_window`."""
    return _read(ctx, training_window(ctx.spec, window), revision, every_day=False)


def training_window(spec: ModelSpec, window: Window) -> Window:
    """The days that training for `window` reads: `lookback_days` days up to its end."""
    return Window(start=window.end - timedelta(days=spec.data.lookback_days), end=window.end)


def repository_of(ctx: StepContext) -> str:
    """The data repository of this call. Raises ConfigError when the installation names none."""
    if not ctx.call.data_repository:
        raise ConfigError("no data repository is set: set AIRGATE_DATA_REPOSITORY to a DVC repository's path or URL.")
    return ctx.call.data_repository


def select_days(dataset: Dataset, window: Window, every_day: bool) -> list[date]:
    """The window's days that have a partition. Raises DataError for none, or for a gap when every day is needed."""
    present = dataset.days(window.start, window.end)
    wanted = [window.start + timedelta(days=n) for n in range((window.end - window.start).days)]
    absent = sorted(set(wanted) - set(present))
    if not present or (every_day and absent):
        span = f"{window.start}" if len(wanted) == 1 else f"{window.start} to {window.end} (end not included)"
        gap = "no partition" if not present else f"no partition for {_some(absent)}"
        raise DataError(
            f"'{dataset.name}' at {dataset.commit[:12]} has {gap} in {span}; "
            f"{dataset.nearest_days((absent or [window.start])[-1])}. "
            "Run for a day that has data, or add the partition and push it."
        )
    return present


def record(ctx: StepContext, dataset: Dataset, rows: int, days: list[date], prefix: str = "") -> None:
    """Put on record what was read."""
    ctx.fact(f"{prefix}data_revision", dataset.commit)
    ctx.fact(f"{prefix}data_hash", dataset.data_hash)
    ctx.fact(f"{prefix}data_days", f"{len(days)} from {days[0]} to {days[-1]}")
    ctx.fact(f"{prefix}rows", str(rows))


def open_parquet(path: Path, name: str) -> pq.ParquetFile:
    """Open a Parquet file that has rows. `name` is what the error calls it. Raises DataError."""
    try:
        # Read by the buffer, not by the row group: a file may have one row group of any size.
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{name} cannot be read as Parquet: {_first(error)}. Write the file again.") from None
    if file.metadata.num_rows == 0:
        file.close()
        raise DataError(f"{name} has no rows. Write the day's rows, or remove the partition if the day has none.")
    return file


def damaged(name: str, error: BaseException) -> DataError:
    """The error for a file whose pages cannot be read."""
    return DataError(f"{name} is damaged: {_first(error)}. Write the file again.")


def _read(
    ctx: StepContext, window: Window, revision: str | None, *, every_day: bool, facts: str = ""
) -> pd.DataFrame:
    """Fetch and read the partitions of a window into one frame, in the order of days and files."""
    data = ctx.spec.data
    with open_snapshot(repository_of(ctx), revision) as snapshot:
        dataset = snapshot.dataset(data.dataset)
        days = select_days(dataset, window, every_day)
        files = [file for day in days for file in dataset.partitions[day]]
        paths = snapshot.fetch(files, ctx.workdir / "data" / snapshot.commit[:12])
    names = [file.path.strip("/") for file in files]
    tables = [_read_file(path, name, data) for path, name in zip(paths, names, strict=True)]
    if every_day and not all(data.label in table.column_names for table in tables):
        # Labels arrive late: a window whose last days lack them is an unlabelled window.
        tables = [table.drop_columns([data.label]) if data.label in table.column_names else table for table in tables]
    rows = _join(tables, names)
    for path in paths:
        path.unlink()
    _refuse_duplicates(rows, data.id)
    record(ctx, dataset, len(rows), days, facts)
    ctx.progress(f"read {len(rows)} rows of {data.dataset}, {len(days)} days from {days[0]} to {days[-1]}")
    return rows


def _read_file(path: Path, name: str, data: DataSpec) -> pa.Table:
    wanted = (data.id, *data.columns, data.label)
    with open_parquet(path, name) as file:
        present = set(file.schema_arrow.names)
        if data.id not in present:
            raise DataError(f"{name} has no id column '{data.id}'; {nearest(data.id, present)}. Every row needs an id.")
        try:
            return file.read(columns=[column for column in wanted if column in present])
        except (pa.ArrowInvalid, OSError) as error:
            raise damaged(name, error) from None


def _join(tables: list[pa.Table], names: list[str]) -> pd.DataFrame:
    """Put partitions under each other. Refuses those that do not agree: the gaps would look like missing values."""
    first = set(tables[0].column_names)
    for table, name in zip(tables, names, strict=True):
        if differing := first ^ set(table.column_names):
            raise DataError(
                f"{name} and {names[0]} do not have the same columns: {_some(sorted(differing))} only in one of them. "
                "Write both with the same columns."
            )
    try:
        joined = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"partitions {names[0]} to {names[-1]} do not agree on a column's type: {_first(error)}. "
            "Write every partition with the same types."
        ) from None
    rows: pd.DataFrame = joined.to_pandas()
    return rows


def _refuse_duplicates(rows: pd.DataFrame, column: str) -> None:
    twice = rows[column].duplicated(keep=False) & rows[column].notna()
    if twice.any():
        raise DataError(
            f"column '{column}': {int(twice.sum())} rows share their id with another row, first: "
            f"{_some(rows.loc[twice, column].unique().tolist())}. An id names one row; remove the repeated rows."
        )


def _first(error: BaseException) -> str:
    """The first line of a library's message; the rest is its own inside."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _some(values: list[Any]) -> str:
    """The first few values, and how many more there are."""
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(str(value) for value in values[:_SHOWN]) + more
