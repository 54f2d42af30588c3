"""The value rules of a column in words and in the column's own type: shared by every check of them."""

from typing import Any

from airgate.contracts.model_spec import ColumnSpec
from airgate.errors import SpecError, nearest

_TRUTH = {"true": True, "false": False}


def nulls_text(column: ColumnSpec) -> str:
    """How many values may be missing, such as 'at most 0.1 of its values missing'."""
    return f"at most {column.max_null:.12g} of its values missing" if column.max_null else "no missing value"


def bounds_text(column: ColumnSpec) -> str:
    """A column's range in words, such as 'values from 0 to 10'."""
    if column.min is not None and column.max is not None:
        return f"values from {column.min:.12g} to {column.max:.12g}"
    return f"values of at least {column.min:.12g}" if column.min is not None else f"values of at most {column.max:.12g}"


def allowed_values(name: str, column: ColumnSpec) -> list[Any]:
    """The allowed values in the column's own type; `model.yaml` has them as text. Raises SpecError when one is not."""
    given = column.allowed or []
    try:
        if column.type == "bool":
            return [_TRUTH[one.lower()] for one in given]
        return [{"float": float, "int": int, "string": str}[column.type](one) for one in given]
    except (ValueError, KeyError):
        wrong = f"data.columns.{name}.allowed: {', '.join(given)} are not all of type {column.type}"
        raise SpecError(f"{wrong}; {nearest('', _TRUTH)}" if column.type == "bool" else wrong) from None
