"""Python values as JSON: what a step returns must mean the same to whoever reads it, in any language."""

import math
import sys
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import BaseModel, JsonValue

from airgate.errors import StepError

# Beyond it, a reader that keeps numbers as doubles (RFC 8785, JavaScript) would see another number.
MAX_INT = 2**53 - 1


def to_json(value: object, where: str = "value") -> JsonValue:
    """Give `value` as plain JSON. Numpy numbers and arrays, tuples, contracts and dates are converted.

    Raises StepError that names the place, such as `value.metrics.roc_auc`, for NaN, infinity, integers beyond 2**53,
    keys that are no text, text that is no Unicode, and types that JSON does not have.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int | float):
        return _whole(value, where) if isinstance(value, int) else _finite(value, where)
    return _compound(value, where)


def _compound(value: object, where: str) -> JsonValue:
    if isinstance(value, Mapping):
        return {_key(key, where): to_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, BaseModel):
        return to_json(value.model_dump(), where)
    if isinstance(value, date) and not _is_null(value):
        return value.isoformat()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray) and value.dtype.kind in "biufUS":
        return to_json(value.tolist(), where)
    raise StepError(f"{where} is of type {type(value).__name__}, which JSON does not have. Allowed: text, numbers, "
                    "booleans, None, lists, dicts, dates and contracts. Convert it before returning it.")


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise StepError(f"{where} is text with half of a surrogate pair, which no Unicode encoding has. Decode it with "
                        "errors='replace'.") from None
    return str(value)


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise StepError(f"{where} is {float(value)}, which JSON does not have. Allowed: finite numbers, or None where "
                        "there is no value.")
    return float(value)


def _whole(value: int, where: str) -> int:
    if abs(value) > MAX_INT:
        raise StepError(f"{where} is {value}, which many readers of JSON cannot hold exactly. Allowed: integers up to "
                        f"{MAX_INT}; return larger ones as text.")
    return int(value)


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return str(key)
    raise StepError(f"{where} has the key {key!r:.60} of type {type(key).__name__}. Allowed: keys that are text.")


def _is_null(value: date) -> bool:
    """Whether a date is pandas' NaT, which calls itself one."""
    return value != value  # noqa: PLR0124
