"""Our bytes against those of the library that is the reference for RFC 8785."""

import enum
import math

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from airgate.audit.canonical_json import MAX_INT, decode, dumps, encode, loads
from airgate.errors import AuditError

plain = st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)


@given(values)
@example({"\ue000": 1, "\U0001f600": 2})  # ordered by UTF-16 unit, not by code point
@example([1.0, -0.0, 1e16, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 0.1, 123456789.123])
@example("\x00\x1f\x7f\"\\\b\f\n\r\t/\u2028")
def test_the_bytes_are_those_of_the_reference(value):
    assert dumps(value) == rfc8785.dumps(value)


@given(values)
def test_reading_gives_the_same_value_and_writing_it_the_same_bytes(value):
    data = dumps(value)
    again = decode(loads(data))
    assert again == value
    assert dumps(again) == data


@pytest.mark.parametrize(("number", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_what_json_cannot_hold_has_an_encoding(number, text):
    assert dumps({"a": [number]}) == b'{"a":[{"$float":"%b"}]}' % text.encode()
    assert str(decode(loads(dumps(number)))) == str(number)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def test_members_of_enums_are_written_as_their_values():
    assert dumps({"a": Colour.RED, "b": [Level.HIGH], "c": True}) == b'{"a":"red","b":[3],"c":true}'


@pytest.mark.parametrize(("value", "message"), [
    ({"rows": [1, {"n": -(2**53)}]}, r"value.rows.1.n is -9007199254740992; .* write it as a string"),
    ({"a": {"$float": 1}}, r"value.a has the key '\$float', which is kept for NaN and infinity: rename it"),
    ({"$sealed": 1}, r"value has the key '\$sealed', which is kept for personal fields: rename it"),
    ("\ud800", "no canonical JSON form: .*surrogates"),
    ({"é": "\udfff"}, "no canonical JSON form: "),
])
def test_what_has_no_form_is_refused_with_its_place(value, message):
    with pytest.raises(AuditError, match=message):
        dumps(value)


def test_nesting_is_bounded():
    value = "x"
    for _ in range(64):
        value = [value]
    assert dumps(value) == b"[" * 64 + b'"x"' + b"]" * 64
    with pytest.raises(AuditError, match="is nested deeper than 64 levels; record the digest of an artifact"):
        dumps([value])


def test_a_tuple_is_an_array():
    assert encode((1, "a"), "body").value == [1, "a"]
