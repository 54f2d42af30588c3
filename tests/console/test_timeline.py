"""The picture's arithmetic: bars in order, within the picture, and as long as the times they stand for."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.governance.chain import Chain, clock

from airgate.console import timeline as chart
from airgate.console.timeline import timeline
from airgate.governance.history import History


def lanes(*moves, **more):
    chain = Chain()
    for version, at in moves:
        chain.move(version, at, cause="promotion" if version else "demotion")
    return {"production": History(chain.model, tuple(chain.events)).periods(**more)}


def test_two_versions_share_the_width_as_they_shared_the_time():
    picture = timeline(lanes(("1", 0), ("2", 60)), clock(240))
    first, second = picture.lanes[0].bars
    whole = chart.WIDTH - chart.LEFT - chart.RIGHT
    assert (first.x, first.width) == (chart.LEFT, pytest.approx(whole / 4, abs=0.1))
    assert (second.x, second.width) == (pytest.approx(first.x + first.width, abs=0.1), pytest.approx(whole * 3 / 4, abs=0.1))
    assert (first.label, second.label) == ("version 1", "version 2")
    assert first.colour != second.colour
    assert first.title == "version 1, from 2026-01-08 09:00:00 until 2026-01-08 10:00:00 UTC (promotion)"
    assert second.title.endswith("until now UTC (promotion)")


def test_a_version_keeps_its_colour_and_an_empty_stage_is_a_gap():
    picture = timeline(lanes(("1", 0), ("2", 60), ("1", 90), (None, 120), ("2", 180)), clock(240))
    assert [bar.colour for bar in picture.lanes[0].bars] == [0, 1, 0, 1]
    both = timeline({"a": lanes(("1", 0), ("2", 60))["production"], "b": lanes(("2", 70))["production"]}, clock(240))
    assert both.lanes[1].bars[0].colour == both.lanes[0].bars[1].colour == 1


def test_what_lasted_a_moment_is_seen_without_a_label():
    picture = timeline(lanes(("1", 0), ("2", 0), ("3", 1)), clock(60 * 24 * 365))
    assert [bar.width for bar in picture.lanes[0].bars][:2] == [chart._LEAST, chart._LEAST]
    assert [bar.label for bar in picture.lanes[0].bars] == ["", "", "version 3"]


def test_nothing_was_ever_live():
    assert timeline({}, clock(0)) is None
    assert timeline({"production": []}, clock(0)) is None


def test_what_happened_beside_is_a_mark():
    chain = Chain()
    chain.add("registry.changed", 60, {"what": "alias.changed"})
    picture = timeline(lanes(("1", 0)), clock(120), {"production": chain.events})
    [mark] = picture.lanes[0].marks
    assert mark.x == pytest.approx((chart.LEFT + chart.WIDTH - chart.RIGHT) / 2, abs=0.1)
    assert mark.title == "registry.changed 2026-01-08 10:00:00"


@pytest.mark.parametrize(("minutes", "texts"), [
    (10, ["01-08 09:00", "01-08 09:02"]), (600, ["01-08 10:00", "01-08 12:00"]), (60 * 24 * 10, ["2026-01-09", "2026-01-11"]),
])
def test_the_axis_has_a_few_round_moments(minutes, texts):
    picture = timeline(lanes(("1", 0)), clock(minutes))
    assert [text for _, text in picture.ticks][:2] == texts
    assert len(picture.ticks) <= 7


moves = st.lists(st.tuples(st.sampled_from(["1", "2", "3"]), st.integers(0, 10**7)), min_size=1, max_size=20)


@given(moves, st.integers(0, 10**8))
def test_every_bar_is_within_the_picture_and_none_begins_before_the_one_it_follows(moves, now):
    picture = timeline(lanes(*moves), clock(0) + timedelta(minutes=now))
    bars = picture.lanes[0].bars
    assert len(bars) == len(moves)
    ends = [x for x, _ in picture.ticks] + [x for bar in bars for x in (bar.x, bar.x + bar.width)]
    assert min(ends) >= chart.LEFT and max(ends) <= chart.WIDTH - chart.RIGHT + 0.01
    assert [bar.x for bar in bars] == sorted(bar.x for bar in bars)
    assert len(picture.ticks) <= 2 * chart._TICKS
