"""Python files read, never run: which functions, classes, imports and type aliases a module defines at its top level.

Nothing is imported, so a model's steps.py may import torch and the DAG processor stays light and safe from its code.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import decode_source
from pathlib import Path

from airgate import settings
from airgate.errors import WiringError, nearest

MODELS_PACKAGE = "models"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """The top level of one module. `imports` maps a local name to what it stands for: {'pd': 'pandas'}."""

    path: Path
    module: str
    functions: dict[str, FunctionNode] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, ast.expr] = field(default_factory=dict)

    def public_functions(self) -> list[str]:
        """Names of the functions without a leading underscore, defined here."""
        return [name for name in self.functions if not name.startswith("_")]


_parsed: dict[tuple[Path, str], tuple[int, int, Source]] = {}


def load_module(module: str) -> Source | None:
    """Read a module of `airgate` or `models`; None when it is of neither, or has no file.

    Raises WiringError when the file has a syntax error.
    """
    path = _find(module)
    return load_file(path, module) if path else None


def load_file(path: Path, module: str) -> Source:
    """Read one file; read again only when its time or size changed.

    Raises WiringError when it cannot be read, or is not Python (with file and line).
    """
    try:
        stat = path.stat()
        known = _parsed.get((path, module))
        if known and known[:2] == (stat.st_mtime_ns, stat.st_size):
            return known[2]
        text = path.read_bytes()
    except OSError as error:
        raise WiringError(f"{path}: cannot be read: {error.strerror}") from None
    source = Source(path, module)
    for statement in _top_level(_parse(path, text).body):
        _note(source, statement)
    _parsed[(path, module)] = (stat.st_mtime_ns, stat.st_size, source)
    return source


def root_of(module: str) -> tuple[Path, list[str]] | None:
    """Give the folder of the module's first part and its other parts; None when Airgate does not know the first part.

    `models` is the folder of the settings, which in tests is not the one beside this package.
    """
    first, *rest = module.split(".")
    if first == "airgate":
        return Path(__file__).parent.parent, rest
    return (settings.load().models, rest) if first == MODELS_PACKAGE else None


def children(folder: Path) -> list[str]:
    """Names that may follow `folder` in a module's name: its Python files and sub-folders."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    names = {entry.stem if entry.suffix == ".py" else entry.name for entry in entries
             if entry.suffix == ".py" or entry.is_dir()}
    return sorted(name for name in names if name.isidentifier() and not name.startswith("__"))


def explain_missing(module: str) -> str:
    """Say at which part of a module's name the way ends, and what is there instead."""
    root = root_of(module)
    if root is None:
        return f"module '{module}' is neither of airgate nor of models"
    folder, parts = root
    for depth, part in enumerate(parts):
        here = folder / part
        if depth < len(parts) - 1 and here.is_dir():
            folder = here
            continue
        if here.is_dir():
            return f"{here} is a folder, not a module; name a file in it. {nearest('', children(here))}"
        wanted = f"'{part}.py'" if depth == len(parts) - 1 else f"folder '{part}'"
        return f"there is no {wanted} in {folder}; {nearest(part, children(folder))}"
    return f"{folder} is a folder, not a module; name a file in it. {nearest('', children(folder))}"


def _find(module: str) -> Path | None:
    """File of a module. Parts are checked to be names, so that no reference leads out of the two roots."""
    root = root_of(module)
    if root is None or not _MODULE.fullmatch(module):
        return None
    folder = root[0].joinpath(*root[1])
    file = folder.with_name(f"{folder.name}.py")
    candidates = ([file] if root[1] else []) + [folder / "__init__.py"]
    return next((path for path in candidates if path.is_file()), None)


def _parse(path: Path, text: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is the steps' linter's business
            return ast.parse(decode_source(text), filename=str(path))
    except SyntaxError as error:
        where = f"{path}, line {error.lineno or 1}"
        raise WiringError(f"{where}: not valid Python: {error.msg}. Correct the file.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        why = error or type(error).__name__
        raise WiringError(f"{path}: not readable as Python: {why}. Correct the file.") from None


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under `if TYPE_CHECKING` and `try` with them."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):
            yield from _top_level([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handled = [inner for handler in statement.handlers for inner in handler.body]
            yield from _top_level([*handled, *statement.body, *statement.orelse, *statement.finalbody])


def _note(source: Source, statement: ast.stmt) -> None:
    """Enter what one statement defines; as in Python, the last definition of a name holds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        source.functions[statement.name] = statement
    elif isinstance(statement, ast.ClassDef):
        source.classes[statement.name] = statement
    elif isinstance(statement, ast.Import):
        for name in statement.names:
            first = name.name.partition(".")[0]
            source.imports[name.asname or first] = name.name if name.asname else first
    elif isinstance(statement, ast.ImportFrom):
        origin = _absolute(source, statement)
        for name in statement.names:
            source.imports[name.asname or name.name] = f"{origin}.{name.name}"
    elif isinstance(statement, ast.Assign):
        names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        source.aliases.update(dict.fromkeys(names, statement.value))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        source.aliases[statement.target.id] = statement.value


def _absolute(source: Source, statement: ast.ImportFrom) -> str:
    """Module that a `from ... import` names, with leading dots resolved."""
    if not statement.level:
        return statement.module or ""
    parts = source.module.split(".")
    keep = len(parts) - statement.level + (source.path.name == "__init__.py")
    return ".".join([*parts[:max(keep, 0)], *([statement.module] if statement.module else [])])
