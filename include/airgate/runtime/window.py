"""Which days a DAG run is about: the rule that makes a past day's run read that day's partition."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from airgate.contracts.step import Window
from airgate.errors import ConfigError

DAY_PARAM = "day"


class RunTimes(Protocol):
    """What a DAG run says of time. All may be None: manual and asset-triggered runs have no data interval."""

    data_interval_start: datetime | None
    data_interval_end: datetime | None
    logical_date: datetime | None
    run_after: datetime


def window_of(run: RunTimes, params: Mapping[str, Any]) -> Window:
    """Give the days of a run, the first that is set of:

    1. the `day` parameter (UI, API or a DAG that triggers this one): that day;
    2. the data interval (schedules, backfills): every day it touches;
    3. the logical date: that day;
    4. otherwise the last whole day before the run was asked for.

    Raises ConfigError when `day` is no ISO date.
    """
    asked = params.get(DAY_PARAM)
    if asked:
        try:
            return _one_day(date.fromisoformat(str(asked)))
        except ValueError:
            raise ConfigError(f"parameter 'day' is {asked!r}; write it as YYYY-MM-DD, for example 2026-01-08") from None
    start, end = run.data_interval_start, run.data_interval_end
    if start is not None and end is not None and start < end:
        # An end at midnight is the first moment outside; any later one touches its own day.
        return Window(start=start.date(), end=(end - timedelta(microseconds=1)).date() + timedelta(days=1))
    if run.logical_date is not None:
        return _one_day(run.logical_date.date())
    return _one_day(run.run_after.date() - timedelta(days=1))


def _one_day(day: date) -> Window:
    return Window(start=day, end=day + timedelta(days=1))
