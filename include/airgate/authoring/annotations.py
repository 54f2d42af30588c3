"""What an annotation means for an edge: which kind of artifact, or which JSON types, or the injected context."""

import ast
from dataclasses import dataclass, replace
from typing import Literal

from airgate.authoring.source import Source, load_module
from airgate.contracts.step import ArtifactKind
from airgate.errors import nearest

Kind = ArtifactKind | Literal["context"]

ALLOWED = ("pd.DataFrame", "Model", "Path", "StepContext", "dict", "list", "int", "float", "str", "bool", "Any",
           "a TypedDict", "a Contract")

_KINDS: dict[str, Kind] = {
    "pandas.DataFrame": "table", "pandas.core.frame.DataFrame": "table", "pathlib.Path": "file",
    "airgate.steps.model.Model": "model", "airgate.steps.context.StepContext": "context",
}
_JSON = {
    "dict": "dict", "typing.Dict": "dict", "typing.Mapping": "dict", "collections.abc.Mapping": "dict",
    "list": "list", "typing.List": "list", "typing.Sequence": "list", "collections.abc.Sequence": "list",
    "int": "int", "float": "float", "str": "str", "bool": "bool", "typing.Any": "any", "pydantic.JsonValue": "any",
}
_DICT_CLASSES = {"typing.TypedDict", "typing_extensions.TypedDict", "pydantic.BaseModel",
                 "airgate.contracts.base.Contract"}
# Ends a chain of aliases and imports that leads round in a circle.
_MAX_DEPTH = 20


@dataclass(frozen=True)
class Hint:
    """What an annotation accepts. `types` are JSON type names, of kind json only; `choices` are a Literal's values."""

    kind: Kind | None
    types: frozenset[str] = frozenset()
    choices: tuple[object, ...] = ()
    optional: bool = False


_NONE = Hint(None, optional=True)


class UnfitAnnotationError(Exception):
    """The annotation names no kind of value that can travel between steps; the text says why and what can."""


def read_hint(node: ast.expr, source: Source) -> Hint:
    """Read an annotation of a function in `source`. `None` alone gives a Hint without a kind.

    Raises UnfitAnnotationError.
    """
    return _read(node, source, 0)


def _read(node: ast.expr, source: Source, depth: int) -> Hint:
    _check_depth(depth)
    if isinstance(node, ast.Constant) and node.value is None:
        return _NONE
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _read(_parse_text(node.value), source, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right], source, depth)
    if isinstance(node, ast.Subscript):
        return _read_subscript(node, source, depth)
    dotted = _dotted(node)
    if dotted is None:
        raise _unfit(node)
    return _read_name(dotted, source, depth)


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise UnfitAnnotationError("goes round in a circle of names, or is nested too deeply")


def _parse_text(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UnfitAnnotationError(f"is the text {text!r}, which is not a Python expression") from None


def _read_subscript(node: ast.Subscript, source: Source, depth: int) -> Hint:
    """`Optional[X]`, `Union[X, Y]`, `Annotated[X, ...]`, `Literal[...]`, `dict[str, X]`, `list[X]`."""
    dotted = _dotted(node.value)
    name = _qualify(dotted, source) if dotted else ""
    inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    special = name.removeprefix("typing.") if name.startswith("typing.") else ""
    if special == "Optional" and len(inner) == 1:
        return replace(_read(inner[0], source, depth + 1), optional=True)
    if special == "Union" and inner:
        return _union(inner, source, depth)
    if special == "Annotated" and inner:
        return _read(inner[0], source, depth + 1)
    if special == "Literal":
        return _literal(inner)
    base = _JSON.get(name)
    if base not in ("dict", "list"):
        raise _unfit(node)
    *keys, value = inner
    if base == "dict" and (len(keys) != 1 or _read(keys[0], source, depth + 1).types != {"str"}):
        raise UnfitAnnotationError(f"is '{ast.unparse(node)}': the keys of a JSON object are text; "
                                   "write dict[str, ...]")
    held = _read(value, source, depth + 1)
    if held.kind not in ("json", None):
        raise UnfitAnnotationError(f"is '{ast.unparse(node)}': a {held.kind} cannot travel inside a {base}; "
                                   "make it an argument, or a value, of its own")
    return Hint("json", frozenset({base}))


def _literal(inner: list[ast.expr]) -> Hint:
    values = tuple(item.value for item in inner if isinstance(item, ast.Constant))
    types = {type(value).__name__ for value in values if value is not None}
    if not values or len(values) != len(inner) or not types <= {"str", "int", "bool"}:
        raise UnfitAnnotationError("is a Literal of values that are not text, numbers or booleans")
    return Hint("json", frozenset(types), tuple(value for value in values if value is not None), None in values)


def _union(members: list[ast.expr], source: Source, depth: int) -> Hint:
    hints = [_read(member, source, depth + 1) for member in members]
    some = [hint for hint in hints if hint.kind is not None]
    kinds = {hint.kind for hint in some}
    if not some:
        return _NONE
    if len(kinds) > 1:
        joined = " and ".join(sorted(str(kind) for kind in kinds))
        raise UnfitAnnotationError(f"joins {joined}: an edge carries one kind of value")
    types = frozenset().union(*(hint.types for hint in some))
    # A Literal beside a plain type limits nothing any more.
    choices = tuple(choice for hint in some for choice in hint.choices) if all(hint.choices for hint in some) else ()
    return Hint(some[0].kind, types, choices, any(hint.optional for hint in hints))


def _read_name(dotted: str, source: Source, depth: int) -> Hint:
    """A plain name: local class or alias, then import, then builtin."""
    _check_depth(depth)
    if dotted in source.classes:
        hint = _class_hint(dotted, source, depth)
        if hint is None:
            raise UnfitAnnotationError(f"is the class '{dotted}', which is no Model, TypedDict or Contract; "
                                       + nearest(dotted, ALLOWED))
        return hint
    if dotted in source.aliases:
        return _read(source.aliases[dotted], source, depth + 1)
    name = _qualify(dotted, source)
    if name in _KINDS:
        return Hint(_KINDS[name])
    if name in _JSON:
        return Hint("json", frozenset({_JSON[name]}))
    if name in _DICT_CLASSES:
        return Hint("json", frozenset({"dict"}))
    module, _, attribute = name.rpartition(".")
    home = _follow(module)
    if home is not None and (attribute in home.classes or attribute in home.aliases or attribute in home.imports):
        return _read_name(attribute, home, depth + 1)
    known = dotted.partition(".")[0] in source.imports
    raise UnfitAnnotationError(f"is '{dotted}'{'' if known else f', which {source.path.name} does not import'}; "
                               + nearest(dotted, ALLOWED))


def _class_hint(name: str, source: Source, depth: int) -> Hint | None:
    """What a class of `source` is by its bases: a Model, or a dict in JSON (TypedDict, pydantic); None for others."""
    _check_depth(depth)
    for base in source.classes[name].bases:
        dotted = _dotted(base)
        if dotted is None:
            continue
        qualified = _qualify(dotted, source)
        if qualified in _DICT_CLASSES:
            return Hint("json", frozenset({"dict"}))
        if _KINDS.get(qualified) == "model":
            return Hint("model")
        home = source if dotted in source.classes else _follow(qualified.rpartition(".")[0])
        last = qualified.rpartition(".")[2]
        found = _class_hint(last, home, depth + 1) if home is not None and last in home.classes else None
        if found is not None:
            return found
    return None


def _follow(module: str) -> Source | None:
    return load_module(module) if module.partition(".")[0] in ("airgate", "models") else None


def _qualify(dotted: str, source: Source) -> str:
    """Full name of what a dotted name stands for in `source`."""
    head, _, rest = dotted.partition(".")
    origin = source.imports.get(head, head)
    return f"{origin}.{rest}" if rest else origin


def _dotted(node: ast.expr) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _unfit(node: ast.expr) -> UnfitAnnotationError:
    text = ast.unparse(node)
    return UnfitAnnotationError(f"is '{text}'; {nearest(text, ALLOWED)}")
