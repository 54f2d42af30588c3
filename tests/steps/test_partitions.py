from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.steps.data_support import QUIET, context, day

from airgate.contracts.inference import InferenceSpec
from airgate.contracts.part import Part
from airgate.contracts.step import Window
from airgate.errors import DataError
from airgate.steps.partitions import MOST_PARTS, days_of, partition, parts_of

pytestmark = QUIET
COMMIT = "c" * 40


def in_parts(ctx, part_days):
    ctx.call = ctx.call.model_copy(update={
        "spec": ctx.spec.model_copy(update={"inference": InferenceSpec(part_days=part_days)})})
    return ctx


def test_a_window_is_cut_at_the_commit_that_is_there_now(tmp_path, capsys):
    ctx = in_parts(context(tmp_path, day(6, days=7)), 3)
    parts = partition(ctx)
    assert [part.name for part in parts] == ["2026-01-06 to 2026-01-08", "2026-01-09 to 2026-01-11", "2026-01-12"]
    assert {part.revision for part in parts} == {ctx.facts["data_revision"]}
    assert len(ctx.facts["data_revision"]) == 40
    assert "7 days from 2026-01-06 to 2026-01-12 in 3 parts" in capsys.readouterr().out


def test_a_day_without_data_stops_all_of_it_before_anything_is_scored(tmp_path):
    with pytest.raises(DataError, match="no partition for 2026-01-13"):
        partition(in_parts(context(tmp_path, day(10, days=4)), 1))


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(1, 2000), st.integers(1, 366))
def test_every_day_is_in_one_part_and_there_are_not_too_many(start, days, part_days):
    window = Window(start=start, end=start + timedelta(days=days))
    parts = parts_of(window, part_days, COMMIT)
    assert [one for part in parts for one in days_of(part.window)] == days_of(window)
    assert len(parts) <= MOST_PARTS
    lengths = [(part.end - part.start).days for part in parts]
    assert all(length == max(part_days, -(-days // MOST_PARTS)) for length in lengths[:-1])
    assert len({part.name for part in parts}) == len(parts)


def test_the_longest_list_of_parts_can_be_mapped():
    parts = parts_of(Window(start=date(2020, 1, 1), end=date(2026, 1, 1)), 1, COMMIT)
    assert sum(len(part.model_dump_json()) + 1 for part in parts) < 32 * 1024
    assert Part.model_validate_json(parts[0].model_dump_json()) == parts[0]
