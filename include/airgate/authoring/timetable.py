"""A cron schedule that ends, for a data feed that has ended."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self

from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable


class FeedTimetable(CronDataIntervalTimetable):
    """Data intervals between the ticks of a cron expression, in UTC, none scheduled after the feed's `last_day`.

    A DAG's own `end_date` would also hold back runs that a person starts later (their tasks never become runnable,
    and nothing says why); this only stops the schedule. Backfills and manual runs remain possible.
    """

    def __init__(self, cron: str, last_day: date | None = None) -> None:
        super().__init__(cron, timezone="UTC")
        self.last_day = last_day

    @property
    def summary(self) -> str:
        """What the UI shows as the schedule."""
        return f"{self._expression} until {self.last_day}" if self.last_day else str(self._expression)

    def next_dagrun_info(self, *, last_automated_data_interval: DataInterval | None,
                         restriction: TimeRestriction) -> DagRunInfo | None:
        """The next interval, None once it would begin after the last day."""
        info = super().next_dagrun_info(last_automated_data_interval=last_automated_data_interval, restriction=restriction)
        if info is None or self.last_day is None or info.data_interval is None:
            return info
        over = datetime.combine(self.last_day + timedelta(days=1), time(), UTC)
        return None if info.data_interval.start >= over else info

    def serialize(self) -> dict[str, Any]:
        """For Airflow's database."""
        return {"cron": self._expression, "last_day": self.last_day.isoformat() if self.last_day else None}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        """The inverse of `serialize`."""
        return cls(data["cron"], date.fromisoformat(data["last_day"]) if data["last_day"] else None)
