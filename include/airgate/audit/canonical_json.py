"""JSON in the one form that is hashed (RFC 8785), with a defined encoding for what JSON cannot hold.

The library `rfc8785` is the reference and does whatever is rare. What nearly every event is made of - text, whole numbers,
short decimals under ASCII keys - `orjson` writes in the same bytes, many times as fast; a property test holds the two
against each other.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import rfc8785

from airgate.errors import AuditError

MAX_DEPTH = 64
MAX_INT = 2**53 - 1
FLOAT_KEY, SEALED_KEY = "$float", "$sealed"
_RESERVED = {FLOAT_KEY: "NaN and infinity", SEALED_KEY: "personal fields"}
_FLOAT_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


@dataclass
class Encoded:
    """A JSON value ready to be written. `plain` says that orjson writes it as RFC 8785 does."""

    value: Any
    plain: bool = True


def encode(value: Any, path: str = "value") -> Encoded:
    """Make a JSON value of a body: NaN becomes {"$float": "NaN"}, likewise Infinity and -Infinity.

    Raises AuditError, naming the place below `path`, for an integer beyond 2^53 - 1, a reserved key, nesting deeper than 64.
    """
    encoded = Encoded(None)
    try:
        encoded.value = _encode(value, 0, encoded)
    except _Unfit as unfit:
        raise AuditError(unfit.text(path)) from None
    return encoded


def write(value: Any, *, plain: bool) -> bytes:
    """Give the RFC 8785 bytes. `plain` must not be claimed of what `encode` did not find to be so.

    Raises AuditError for text that is not Unicode.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if plain else bytes(rfc8785.dumps(value))
    except (rfc8785.CanonicalizationError, orjson.JSONEncodeError) as error:
        raise AuditError(f"no canonical JSON form: {error}") from error


def dumps(value: Any) -> bytes:
    """Encode and write. Raises AuditError as the two do."""
    encoded = encode(value)
    return write(encoded.value, plain=encoded.plain)


def decode(value: Any) -> Any:
    """Undo `encode`."""
    if isinstance(value, dict):
        if value.keys() == {FLOAT_KEY}:
            return float(value[FLOAT_KEY])
        return {key: decode(item) for key, item in value.items()}
    return [decode(item) for item in value] if isinstance(value, list) else value


def loads(data: bytes) -> Any:
    """Decode canonical JSON. An integer beyond 2^53 - 1 was a float (RFC 8785 writes 1e20 in digits) and is one again.

    Raises AuditError when the bytes are not JSON.
    """
    try:
        return json.loads(data, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise AuditError(f"these bytes are not JSON: {error}") from error


class _Unfit(Exception):
    """What cannot be encoded; the path to it grows on the way up, so that sound values pay nothing for it."""

    def __init__(self, reason: str) -> None:
        self.reason, self.keys = reason, list[str]()

    def text(self, path: str) -> str:
        return f"{'.'.join([path, *reversed(self.keys)])[:80]} {self.reason}"


def _encode(value: Any, depth: int, result: Encoded) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is float:
        return _float(value, result)
    if kind is int:
        if abs(value) > MAX_INT:
            raise _Unfit(f"is {value}; JSON numbers are exact up to 2^53 - 1 only: write it as a string")
        return value
    if isinstance(value, str | int | float):  # a subclass, such as an enum's member
        return _encode(next(base(value) for base in (str, int, float) if isinstance(value, base)), depth, result)
    if depth >= MAX_DEPTH:
        raise _Unfit(f"is nested deeper than {MAX_DEPTH} levels; record the digest of an artifact")
    return _object(value, depth, result) if isinstance(value, Mapping) else _array(value, depth, result)


def _object(value: Mapping[str, Any], depth: int, result: Encoded) -> dict[str, Any]:
    if not value.keys().isdisjoint(_RESERVED):
        found = min(value.keys() & _RESERVED.keys())
        raise _Unfit(f"has the key '{found}', which is kept for {_RESERVED[found]}: rename it")
    made = {}
    for key, item in value.items():
        # orjson orders keys by code point, RFC 8785 by UTF-16 unit.
        if not key.isascii():
            result.plain = False
        try:
            made[key] = _encode(item, depth + 1, result)
        except _Unfit as unfit:
            unfit.keys.append(key)
            raise
    return made


def _array(value: Iterable[Any], depth: int, result: Encoded) -> list[Any]:
    made: list[Any] = []
    for item in value:
        try:
            made.append(_encode(item, depth + 1, result))
        except _Unfit as unfit:
            unfit.keys.append(str(len(made)))
            raise
    return made


def _float(value: float, result: Encoded) -> Any:
    if not math.isfinite(value):
        return {FLOAT_KEY: _FLOAT_NAMES[str(value)]}
    if value.is_integer() and abs(value) <= MAX_INT:
        return int(value)  # JSON has one kind of number: 1.0 is written "1"
    # Both write the shortest digits that read back the same, but where to use an exponent they disagree.
    if "e" in repr(value) or value.is_integer():
        result.plain = False
    return value


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 16 or abs(float(digits)) <= MAX_INT else float(digits)
