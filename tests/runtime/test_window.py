from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts.step import Window
from airgate.errors import ConfigError
from airgate.runtime.window import window_of


@dataclass
class Run:
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None
    logical_date: datetime | None = None
    run_after: datetime = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def days(start: int, end: int) -> Window:
    return Window(start=date(2026, 1, start), end=date(2026, 1, end))


def test_the_day_parameter_comes_first() -> None:
    assert window_of(Run(at(1), at(2)), {"day": "2026-01-08"}) == days(8, 9)


@pytest.mark.parametrize("wrong", ["08.01.2026", "yesterday", "2026-02-30", 7, "../etc"])
def test_a_day_that_is_none(wrong: object) -> None:
    with pytest.raises(ConfigError, match="write it as YYYY-MM-DD"):
        window_of(Run(), {"day": wrong})


@pytest.mark.parametrize(("start", "end", "window"), [
    (at(1), at(2), days(1, 2)), (at(1), at(8), days(1, 8)), (at(1, 6), at(1, 12), days(1, 2)), (at(1, 6), at(2, 6), days(1, 3))])
def test_the_data_interval(start: datetime, end: datetime, window: Window) -> None:
    assert window_of(Run(start, end), {}) == window


def test_a_zero_length_interval_falls_back_to_the_logical_date() -> None:
    assert window_of(Run(at(3), at(3), logical_date=at(3)), {"day": None}) == days(3, 4)


def test_a_manual_run_takes_the_last_whole_day() -> None:
    assert window_of(Run(), {}) == Window(start=date(2026, 3, 4), end=date(2026, 3, 5))


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)),
       st.integers(1, 10**7))
def test_the_window_covers_the_interval_and_no_further_day(start: datetime, seconds: int) -> None:
    end = start + timedelta(seconds=seconds)
    window = window_of(Run(start, end), {})
    midnight = datetime.min.time()
    assert datetime.combine(window.start, midnight, UTC) <= start
    assert end <= datetime.combine(window.end, midnight, UTC) < end + timedelta(days=1)
