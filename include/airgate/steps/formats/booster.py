"""XGBoost's model files: JSON, and the same in UBJ (Universal Binary JSON, draft 12) as XGBoost writes it.

Its native reader ends the whole process on some cut or forged files, so the grammar is held here before it sees them. Sources:
https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html, https://ubjson.org, XGBoost's src/common/json.cc.
"""

import json
import struct
from typing import Any

from airgate.steps.formats.reason import NotInFormat

_DEPTH = 64  # a model has about eight levels
_NUMBERS = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8, b"C": 1}
_WORDS = {b"Z": None, b"T": True, b"F": False}
_BOOSTERS = ("gbtree", "gblinear", "dart")


def check_json(data: bytes) -> None:
    """Raise NotInFormat unless this is a whole XGBoost model in JSON."""
    _check_model(strict_json(data))


def check_ubj(data: bytes) -> None:
    """Raise NotInFormat unless this is a whole XGBoost model in UBJ, without a byte after it."""
    try:
        value, end = _value(data, 0, 0)
    except (struct.error, IndexError):
        raise NotInFormat("UBJ that is cut off") from None
    if end != len(data):
        raise NotInFormat(f"UBJ with {len(data) - end} bytes after its end")
    _check_model(value)


def strict_json(data: bytes) -> Any:
    """Read JSON in UTF-8 (RFC 8259). Raises NotInFormat, also for a name twice in an object: readers differ on it."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except NotInFormat:
        raise
    except (ValueError, RecursionError) as error:
        raise NotInFormat(f"not JSON: {str(error)[:100]}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotInFormat("JSON with a name twice in an object")
    return found


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Read the value that begins at `at`; give it and where it ends. Numbers are skipped: what they say is XGBoost's affair."""
    kind = data[at : at + 1]
    at += 1
    if kind in _WORDS:
        return _WORDS[kind], at
    if kind in _NUMBERS:
        return 0, _past(data, at, _NUMBERS[kind])
    if kind == b"S":
        return _text(data, at)
    if depth == _DEPTH:
        raise NotInFormat(f"UBJ nested more than {_DEPTH} deep")
    if kind == b"{":
        return _members(data, at, depth)
    if kind == b"[":
        return _items(data, at, depth)
    raise NotInFormat(f"UBJ with {kind!r} at byte {at - 1}, where a value belongs" if kind else "UBJ that is cut off")


def _members(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while data[at : at + 1] != b"}":
        name, at = _text(data, at)
        if name in found:
            raise NotInFormat(f"UBJ with the name {name[:40]!r} twice in an object")
        found[name], at = _value(data, at, depth + 1)
    return found, at + 1


def _items(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    """An array: of one type and counted, counted, or up to its bracket. Of typed ones only the place is kept."""
    if data[at : at + 1] == b"$":
        size = _NUMBERS.get(data[at + 1 : at + 2])
        if size is None or data[at + 2 : at + 3] != b"#":
            raise NotInFormat(f"UBJ with a typed array at byte {at} that is not of counted numbers")
        count, at = _count(data, at + 3)
        return [], _past(data, at, count * size)
    found: list[Any] = []
    if data[at : at + 1] == b"#":
        count, at = _count(data, at + 1)
        for _ in range(count):
            item, at = _value(data, at, depth + 1)
            found.append(item)
        return found, at
    while data[at : at + 1] != b"]":
        item, at = _value(data, at, depth + 1)
        found.append(item)
    return found, at + 1


def _text(data: bytes, at: int) -> tuple[str, int]:
    size, at = _count(data, at)
    end = _past(data, at, size)
    try:
        return data[at:end].decode("utf-8"), end
    except UnicodeDecodeError:
        raise NotInFormat(f"UBJ with a text at byte {at} that is not UTF-8") from None


def _count(data: bytes, at: int) -> tuple[int, int]:
    """A length. XGBoost writes and reads them as int64 only."""
    if at == len(data):
        raise NotInFormat("UBJ that is cut off")
    if data[at : at + 1] != b"L":
        raise NotInFormat(f"UBJ with no length at byte {at}, where one belongs")
    (count,) = struct.unpack_from(">q", data, at + 1)
    if not 0 <= count <= len(data):
        raise NotInFormat(f"UBJ with a length of {count} at byte {at}; the file has {len(data)} bytes")
    return int(count), at + 9


def _past(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise NotInFormat("UBJ that is cut off")
    return at + size


def _check_model(value: Any) -> None:
    """What tells a model from other JSON: version and learner, and nothing beside them."""
    if not isinstance(value, dict) or set(value) != {"learner", "version"}:
        names = ", ".join(sorted(value)[:5]) if isinstance(value, dict) else type(value).__name__
        raise NotInFormat(f"JSON or UBJ, but no XGBoost model: that has 'learner' and 'version' and nothing beside them, here "
                          f"is {names or 'nothing'}")
    learner = value["learner"]
    booster = learner.get("gradient_booster") if isinstance(learner, dict) else None
    name = booster.get("name") if isinstance(booster, dict) else None
    if name not in _BOOSTERS:
        raise NotInFormat(f"an XGBoost model whose gradient_booster is {name!r:.40}; known are {', '.join(_BOOSTERS)}")
