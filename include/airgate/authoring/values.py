"""Whether a plain value may be the argument of a step: JSON, and of the annotated type."""

import math
from typing import Any

from airgate.authoring.signature import Parameter

_TYPES = {bool: "bool", int: "int", float: "float", str: "str", dict: "dict", list: "list"}
_MAX_DEPTH = 100


def fault_of(parameter: Parameter, value: Any) -> str | None:
    """Say why `value` cannot be given for a JSON parameter; None when it can.

    An int may stand for a float. A bool is no number. None needs `| None` in the annotation.
    """
    fault = _not_json(value, "", 0)
    if fault:
        return fault
    if value is None:
        return None if parameter.optional or "any" in parameter.types else f"wants {parameter.wants()} but is None"
    given = _TYPES[type(value)]
    accepted = parameter.types | ({"int"} if "float" in parameter.types else set())
    if accepted and "any" not in accepted and given not in accepted:
        return f"wants {parameter.wants()} but is {value!r:.60}, of type {given}"
    if parameter.choices and value not in parameter.choices:
        return f"is {value!r:.60}; allowed: {', '.join(repr(choice) for choice in parameter.choices)}"
    return None


def _not_json(value: Any, path: str, depth: int) -> str | None:
    """Why a value is not JSON, with the place inside it; None when it is."""
    at = f" at {path}" if path else ""
    if depth > _MAX_DEPTH:
        return f"is nested deeper than {_MAX_DEPTH} levels, or contains itself"
    if value is None or type(value) in (bool, int, str):
        return None
    if type(value) is float:
        return None if math.isfinite(value) else f"is {value}{at}, which JSON cannot say; give a finite number or None"
    if type(value) is dict:
        wrong = next((key for key in value if type(key) is not str), None)
        if wrong is not None:
            return f"has the key {wrong!r:.40}{at}, of type {type(wrong).__name__}; the keys of a JSON object are text"
    items = _items(value)
    if items is None:
        return (f"is of type {type(value).__name__}{at}, which is not JSON. Allowed: dict, list, str, int, float, "
                "bool, None; give the output of another step as an argument of its own")
    inner = (_not_json(item, f"{path}[{key!r}]", depth + 1) for key, item in items)
    return next((fault for fault in inner if fault), None)


def _items(value: Any) -> list[tuple[Any, Any]] | None:
    """Key or index with each item of a dict or a list; None for anything else."""
    if type(value) is dict:
        return list(value.items())
    return list(enumerate(value)) if type(value) is list else None
