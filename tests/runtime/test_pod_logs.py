"""Every line of a log once, whoever reads which part of it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from airgate.runtime.pod_logs import LogTail


def line(second: int, text: str, fraction: str = "") -> str:
    return f"2026-01-09T06:00:{second:02d}{fraction}Z {text}\n"


LOG = [line(1, "one", ".5"), line(1, "two", ".500000001"), line(1, "three", ".500000001"), line(2, "four"), line(9, "five")]
TEXTS = ["one", "two", "three", "four", "five"]


@given(st.lists(st.integers(0, 5), max_size=4))
def test_each_line_once_however_it_is_cut(cuts: list[int]) -> None:
    """The reader sees the log grow, is replaced by another in between, and is given old lines again each time."""
    position, seen = None, []
    for end in [*sorted(cuts), 5]:
        tail = LogTail(position)
        seen += list(tail.new(LOG[:end]))
        position = tail.position
    assert seen == TEXTS


def test_credentials_are_hidden_and_empty_lines_left_out() -> None:
    tail = LogTail()
    lines = [line(1, "see postgresql://ana:s3cret@db/x"), line(2, ""), "no time\n", line(3, "end")]
    assert list(tail.new(lines)) == ["see postgresql://***@db/x", "end"]


def test_how_far_back_to_read() -> None:
    tail = LogTail()
    assert tail.since_seconds() is None
    list(tail.new(LOG))
    assert tail.since_seconds(datetime(2026, 1, 9, 6, 0, 19, tzinfo=UTC)) == 10 + 30
    assert tail.since_seconds(datetime(2026, 1, 9, 6, tzinfo=UTC) - timedelta(hours=1)) == 30, "another clock"
