import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.errors import DataError
from airgate.steps.holdout import is_holdout


@given(st.lists(st.text()), st.integers(0, 100))
def test_it_is_the_documented_rule(ids, percent):
    expected = [int(hashlib.sha256(one.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16) % 100 < percent for one in ids]
    assert is_holdout(ids, percent).tolist() == expected


def test_known_rows_never_change_sides():
    # Written down once: a change here would put rows that models learned from into the holdout.
    known = is_holdout([f"P{number:04d}" for number in range(1, 21)], 25)
    assert np.flatnonzero(known).tolist() == [0, 1, 10, 12, 17]


def test_a_row_keeps_its_side_when_others_come_and_a_larger_share_only_adds_rows():
    ids = [f"P{number}" for number in range(2000)]
    few, more = is_holdout(ids, 25), is_holdout(ids, 40)
    assert is_holdout(ids[500:700], 25).tolist() == few[500:700].tolist()
    assert (few <= more).all()
    assert 0.22 < few.mean() < 0.28


def test_numbers_and_their_text_are_one_id():
    assert is_holdout([1, 22, 333], 50).tolist() == is_holdout(["1", "22", "333"], 50).tolist()
    assert is_holdout(np.array([1, 22, 333]), 50).tolist() == is_holdout([1, 22, 333], 50).tolist()
    assert is_holdout([], 25).shape == (0,)


@pytest.mark.parametrize("bad", [1.0, None, float("nan"), True, b"P1"])
def test_other_ids_are_refused(bad):
    with pytest.raises(DataError, match=r"holdout: id .* is of type .*; allowed: text or integers"):
        is_holdout(["P1", bad], 25)


def test_an_impossible_share_is_refused():
    with pytest.raises(ValueError, match="0 to 100"):
        is_holdout(["P1"], 101)

