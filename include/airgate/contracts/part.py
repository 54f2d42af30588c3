"""A part of a run's window, which one of several tasks scores."""

from __future__ import annotations

from datetime import date

from airgate.contracts.base import Contract
from airgate.contracts.step import Window


class Part(Contract):
    """Some days of a run's window: every day d with start <= d < end, read at the commit `revision` of the data repository."""

    name: str
    start: date
    end: date
    revision: str

    @property
    def window(self) -> Window:
        """The days as a window."""
        return Window(start=self.start, end=self.end)
