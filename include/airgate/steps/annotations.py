"""What a step's annotations mean when it runs: which kind of artifact an argument takes and a value becomes.

The same rules as at parse time (airgate.authoring.annotations), which reads the syntax tree because it may not import.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from airgate.contracts.step import ArtifactKind
from airgate.errors import WiringError

WORDS: dict[str, str] = {"table": "a pandas DataFrame", "model": "a Model", "file": "a Path", "json": "a JSON value"}


@dataclass(frozen=True)
class Hint:
    """One annotation. `kind` is None for `None` alone."""

    annotation: Any
    kind: ArtifactKind | typing.Literal["context"] | None
    optional: bool = False


@dataclass(frozen=True)
class Signature:
    """What a step function takes, which of it must be given, and what it gives."""

    parameters: dict[str, Hint]
    required: frozenset[str]
    returns: Hint


def signature_of(reference: str, function: Callable[..., Any]) -> Signature:
    """Read a function's annotations. Raises WiringError when one is missing or cannot be understood."""
    try:
        hints = typing.get_type_hints(function, globalns=_names(function))
    except NameError as error:
        raise WiringError(f"{reference}: annotation {error}. Import it at the top of the module, outside of "
                          "'if TYPE_CHECKING'.") from None
    parameters = inspect.signature(function).parameters
    bare = [name for name in [*parameters, "return"] if name not in hints]
    if bare:
        raise WiringError(f"{reference}: no annotation for {', '.join(bare)}. A step says what each argument and its "
                          f"result are: {', '.join(WORDS.values())}, or the StepContext.")
    required = frozenset(name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty)
    found = {name: hint_of(hints[name]) for name in parameters}
    injected = {name for name, hint in found.items() if hint.kind == "context"}
    return Signature(found, required - injected, hint_of(hints["return"]))


def hint_of(annotation: Any) -> Hint:
    """Say which kind of value an annotation means. What is none of table, model, file and context is JSON."""
    if annotation is None or annotation is type(None):
        return Hint(annotation, None, True)
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        optional = len(members) < len(get_args(annotation))
        if len(members) == 1:
            return Hint(members[0], hint_of(members[0]).kind, optional)
        return Hint(annotation, "json", optional)
    return Hint(annotation, _class_kind(annotation))


def _class_kind(annotation: Any) -> ArtifactKind | typing.Literal["context"]:
    """Kinds are told by class; a module that nobody imported yet cannot be the home of an annotation."""
    if not isinstance(annotation, type) or get_origin(annotation) is not None:
        return "json"
    if issubclass(annotation, Path):
        return "file"
    homes: tuple[tuple[str, str, ArtifactKind | typing.Literal["context"]], ...] = (
        ("pandas", "DataFrame", "table"), ("airgate.steps.model", "Model", "model"),
        ("airgate.steps.context", "StepContext", "context"))
    for module, name, kind in homes:
        home = getattr(sys.modules.get(module), name, None)
        if isinstance(home, type) and issubclass(annotation, home):
            return kind
    return "json"


class _Names(dict[str, Any]):
    """A module's names, and after them what authors import for their type checker alone."""

    def __missing__(self, name: str) -> Any:
        if name in ("pd", "pandas"):
            import pandas as pd

            return pd
        if name == "Model":
            from airgate.steps.model import Model

            return Model
        if name == "StepContext":
            from airgate.steps.context import StepContext

            return StepContext
        if name == "Path":
            return Path
        if name == "Any":
            return Any
        raise KeyError(name)


def _names(function: Callable[..., Any]) -> dict[str, Any]:
    return _Names(getattr(inspect.unwrap(function), "__globals__", {}))
