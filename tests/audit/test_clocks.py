from datetime import UTC, datetime, timedelta

import pytest

from airgate.audit.clocks import Clocks
from airgate.audit.event import time_text

NOW = datetime(2026, 1, 8, tzinfo=UTC)


def fed(*pairs):
    clocks = Clocks()
    for seq, (occurred, stored) in enumerate(pairs):
        clocks.read(seq, time_text(NOW + timedelta(seconds=occurred)), time_text(NOW + timedelta(seconds=stored)))
    return clocks.notices()


@pytest.mark.parametrize("pairs", [
    [(0, 0), (1, 2)],
    [(0, 4000), (-9000, 4001)],  # waited in a spool, or was recovered
    [(4, 0), (0, 10), (0, 6)],  # machines' clocks differ a little
])
def test_nothing_to_notice(pairs):
    assert fed(*pairs) == []


def test_an_event_from_the_future():
    assert fed((0, 0), (3600, 1)) == ["clocks: events 1 (by 3599 s) say that they happened after they were stored"]


def test_a_store_that_runs_backwards_is_measured_against_the_newest_time():
    assert fed((0, 100), (0, 10), (0, 20), (0, 101)) == [
        "clocks: events 1 (by 90 s), 2 (by 80 s) were stored earlier than an event before them"]


def test_many_are_counted():
    assert fed(*[(100, 0)] * 9) == [
        "clocks: events 0 (by 100 s), 1 (by 100 s), 2 (by 100 s), 3 (by 100 s), 4 (by 100 s) and 4 more say that they happened "
        "after they were stored"]


def test_the_log_notices_them(store, make):
    store.append(make(0, occurred_at=datetime.now(UTC) + timedelta(days=1)))
    report = store.verify()
    assert report.ok
    assert len(report.notices) == 1
    assert "say that they happened after they were stored" in report.notices[0]
