"""A container's log read in pieces: every line once, whoever reads it next, and what looks like a credential hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from airgate.redaction import LineRedactor

# As Kubernetes puts it before each line: RFC 3339 with up to nine decimals, trailing zeros left out.
STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z(?: (.*))?$", re.DOTALL)


class LogTail:
    """What is new in a log since it was last read.

    `position` says where that was and may be handed to another process: the time of the last line in UTC to the nanosecond,
    and how many lines carried it.
    """

    def __init__(self, position: str | None = None) -> None:
        stamp, _, count = (position or "").partition("/")
        self._stamp, self._count = stamp, int(count or 0)
        self._redact = LineRedactor()

    @property
    def position(self) -> str:
        """Where the reader is."""
        return f"{self._stamp}/{self._count}"

    def new(self, lines: Iterable[str]) -> Iterator[str]:
        """Give the lines after the position, without their times. `lines` begin at or before it, each with its time."""
        stamp, same = "", 0
        for line in lines:
            found = STAMP.match(line.rstrip("\r\n"))
            if found is None:
                continue
            here = f"{found[1]}.{(found[2] or ''):0<9}"
            same = same + 1 if here == stamp else 1
            stamp = here
            if (here, same) <= (self._stamp, self._count):
                continue
            self._stamp, self._count = here, same
            shown = self._redact(found[3] or "")
            if shown:
                yield shown

    def since_seconds(self, now: datetime | None = None) -> int | None:
        """How far back to read, in seconds; None to read all. Half a minute more than needed: clocks differ."""
        if not self._stamp:
            return None
        last = datetime.fromisoformat(self._stamp[:26]).replace(tzinfo=UTC)
        return max(0, int(((now or datetime.now(UTC)) - last).total_seconds())) + 30
