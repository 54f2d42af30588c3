"""What was live when, as a picture: where each bar stands. Pure arithmetic; the template draws it as SVG.

One lane a model or a stage, time from left to right. Positions are units of the picture, whose width is WIDTH.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airgate.audit.entry import StoredEvent
from airgate.governance.history import Period
from airgate.lifecycle.history_report import moment

WIDTH, LEFT, RIGHT = 1000.0, 190.0, 8.0
LANE, BAR, AXIS = 34.0, 22.0, 22.0
COLOURS = 6
_LABEL = 9.0  # units a character of a label needs
_LEAST = 3.0  # a bar that lasted a moment is still to be seen
_TICKS = 6
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_STEPS = (*(_MINUTE * count for count in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)),
          *(_DAY * count for count in (1, 2, 7, 14, 28, 91, 182, 364, 728, 3640)))


@dataclass(frozen=True)
class Bar:
    """A version's time in a stage. `colour` is 0 to COLOURS - 1, the same for a version number wherever it stands.

    `label` is empty where there is no room for it; `seq` is the number of the move that began it.
    """

    x: float
    width: float
    colour: int
    label: str
    title: str
    seq: int


@dataclass(frozen=True)
class Mark:
    """Something that happened at one moment."""

    x: float
    title: str
    seq: int


@dataclass(frozen=True)
class Lane:
    """One row of the picture; `y` is its upper edge."""

    name: str
    y: float
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Timeline:
    """The whole picture. `ticks` are (x, text)."""

    height: float
    lanes: tuple[Lane, ...]
    ticks: tuple[tuple[float, str], ...]


def timeline(lanes: Mapping[str, Sequence[Period]], now: datetime,
             marks: Mapping[str, Iterable[StoredEvent]] | None = None) -> Timeline | None:
    """Draw the times of each lane until `now`; None when there are none. `marks` are events to show in a lane."""
    begins = [period.start for periods in lanes.values() for period in periods]
    if not begins:
        return None
    start, end = min(begins), max(now, max(begins) + _MINUTE)
    scale = (WIDTH - LEFT - RIGHT) / (end - start).total_seconds()

    def x(when: datetime) -> float:
        return round(LEFT + max(0.0, (when - start).total_seconds()) * scale, 2)

    colours = _colours(period for periods in lanes.values() for period in periods)
    drawn = []
    for place, (name, periods) in enumerate(lanes.items()):
        bars = [_bar(period, x(period.start), x(period.end or end), colours) for period in periods if period.version is not None]
        events = [Mark(x(item.event.occurred_at), f"{item.event.kind} {moment(item.event.occurred_at)}", item.seq)
                  for item in (marks or {}).get(name, ())]
        drawn.append(Lane(name, place * LANE, tuple(bars), tuple(events)))
    return Timeline(len(drawn) * LANE + AXIS, tuple(drawn), tuple((x(at), text) for at, text in _ticks(start, end)))


def _bar(period: Period, left: float, right: float, colours: Mapping[str, int]) -> Bar:
    version = str(period.version)
    width = max(_LEAST, round(right - left, 2))
    label = f"version {version}"
    room = label if len(label) * _LABEL < width else version if len(version) * _LABEL < width else ""
    until = moment(period.end) if period.end else "now"
    title = f"version {version}, from {moment(period.start)} until {until} UTC ({period.began.body.cause})"
    return Bar(round(min(left, WIDTH - RIGHT - width), 2), width, colours[version], room, title, period.began.seq)


def _colours(periods: Iterable[Period]) -> dict[str, int]:
    """A colour for each version, in the order in which they came."""
    versions = dict.fromkeys(period.version for period in sorted(periods, key=lambda period: period.start)
                             if period.version is not None)
    return {version: place % COLOURS for place, version in enumerate(versions)}


def _ticks(start: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """A few round moments between the two: minutes, hours or days, as the span asks for."""
    step = next((step for step in _STEPS if (end - start) / step <= _TICKS), _STEPS[-1])
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    at = epoch + -((epoch - start) // step) * step  # the first multiple that is not before the start
    found = []
    while at <= end:
        found.append((at, f"{at:%Y-%m-%d}" if step >= _DAY else f"{at:%m-%d %H:%M}"))
        at += step
    return found[: 2 * _TICKS]
