"""How a file of configuration is read: a key given twice is an error, and what is wrong is said by key and nearest right key."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from airgate.contracts.base import Contract
from airgate.errors import AirgateError, nearest

AnyContract = TypeVar("AnyContract", bound=Contract)


class _UniqueKeyLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key given twice. YAML lets the last one win, so a second `gates:` far below would replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is given twice; keep one",
                                                            key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def loads(text: str) -> Any:
    """YAML as plain values. Raises yaml.YAMLError, also for a key given twice, and ValueError for a date that is none."""
    return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a safe loader


def read(path: Path, contract: type[AnyContract], error: type[AirgateError], *, missing: str, help_: str) -> AnyContract:
    """Read `path` as a `contract`.

    Raises `error`, naming the file, the key, what is allowed and the nearest right key; `missing` and `help_` end what it says
    of a file that is not there, and of one that holds no mapping.
    """
    try:
        raw = loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: file is missing. {missing}") from None
    except OSError as wrong:
        raise error(f"{path}: cannot be read: {wrong.strerror}") from None
    except (yaml.YAMLError, ValueError) as wrong:  # ValueError: a date such as 2026-02-31, or bytes that are no UTF-8
        raise error(f"{path}: not readable as YAML: {wrong}") from None
    if not isinstance(raw, dict):
        raise error(f"{path}: expected a mapping of keys, got {type(raw).__name__}. {help_}")
    try:
        return contract.model_validate(raw)
    except ValidationError as wrong:
        raise error(f"{path}: {_explain(wrong, contract)}") from None


def _explain(error: ValidationError, contract: type[Contract]) -> str:
    """Turn pydantic's list into sentences: key, what was wrong, what is allowed, nearest right name."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "(top)"
        if item["type"] == "extra_forbidden":
            *parents, key = item["loc"]
            lines.append(f"unknown key '{where}'; {nearest(str(key), _fields_at(contract, parents))}")
        else:
            given = "" if item["type"] == "missing" else f" (got {item['input']!r:.80})"
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "; ".join(lines)


def _fields_at(contract: type[Contract], parents: list[int | str]) -> list[str]:
    """Field names of the contract at a path of keys; keys of a mapping lead to its value type."""
    current: Any = contract
    for part in parents:
        fields = getattr(current, "model_fields", None)
        if fields and part in fields:
            current = fields[part].annotation
        arguments = [a for a in getattr(current, "__args__", ()) if a is not type(None)]
        if not fields or not hasattr(current, "model_fields"):
            current = arguments[-1] if arguments else current
    return list(getattr(current, "model_fields", {}))
