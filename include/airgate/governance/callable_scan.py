"""Which machine learning libraries a Python callable would use, read from its bytecode without calling it.

What it sees: imports inside the function, in functions nested in it, and in those helpers of the author's own modules
that it names; module globals, closures, default values and `functools.partial` arguments that are such a library or
something made by one; `importlib.import_module` and `__import__` with a literal name.

What it cannot see: a name put together at run time, code that another process runs (a subprocess, a shell script, a
container), a library reached through a third-party package, a helper that is imported only when the function runs, and
methods of an object that exists only at run time.
The rule built on it stops honest mistakes and leaves a trace; it is no sandbox.
"""

import dis
import functools
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

# Airgate's heavy plane and the models' folders count too: who imports them in a task runs a step outside its runner.
ML_PACKAGES = frozenset({"mlflow", "xgboost", "torch", "sklearn", "lightgbm", "catboost", "tensorflow", "keras", "jax",
                         "transformers", "lightning", "pytorch_lightning", "onnxruntime", "airgate.steps", "models"})
_IMPORTERS = frozenset({"import_module", "__import__"})


def ml_packages_in(target: Any) -> set[str]:
    """Give the names in ML_PACKAGES that `target` (a function, method, partial, callable object or class) would use."""
    found: set[str] = set()
    seen: set[int] = set()
    queue = [target]
    while queue:
        item = queue.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        for value in _reached_from(item):
            if isinstance(value, str):
                found |= _package(value)
            else:
                found |= _package(_origin(value))
                if _is_authors(value) or (isinstance(value, FunctionType) and hasattr(value, "__wrapped__")):
                    queue.append(value)
    return found


def is_authors_class(cls: type) -> bool:
    """Whether a class was written by a DAG's author: neither installed in the environment nor a part of Airgate."""
    return _is_authors(cls)


def _package(name: str) -> set[str]:
    """The package of ML_PACKAGES that a dotted module name lies in, as a set of none or one."""
    return {package for package in ML_PACKAGES if name == package or name.startswith(package + ".")}


def _origin(value: Any) -> str:
    """The module that a value is, or that made it; a class instance belongs to the module of its class."""
    if isinstance(value, ModuleType):
        return value.__name__
    module = getattr(value, "__module__", None) if callable(value) else type(value).__module__
    return module if isinstance(module, str) else ""


def _reached_from(item: Any) -> Iterator[Any]:
    """What one callable names: dotted module names as text, and every global, closed-over or default value."""
    if isinstance(item, functools.partial):
        yield from (item.func, *item.args, *item.keywords.values())
    elif isinstance(item, MethodType):
        yield from (item.__func__, item.__self__)
    elif isinstance(item, staticmethod | classmethod):
        yield item.__func__
    elif isinstance(item, type):
        yield from (each for each in vars(item).values() if isinstance(each, FunctionType | staticmethod | classmethod))
    elif isinstance(item, FunctionType):
        yield from _reached_from_function(item)
    elif callable(item) and not isinstance(item, ModuleType):
        yield type(item)


def _reached_from_function(function: FunctionType) -> Iterator[Any]:
    if wrapped := getattr(function, "__wrapped__", None):
        yield wrapped
        if not _is_authors(function):  # Airflow wraps every operator's execute
            return
    yield from (function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that is not bound yet
            continue
    names: set[str] = set()
    for code in _codes(function.__code__):
        names.update(code.co_names)
        yield from _imports(code)
    for value in [function.__globals__[name] for name in names if name in function.__globals__]:
        yield value
        if isinstance(value, ModuleType) and _is_authors_file(value.__name__, _file_of(value)):
            # `import helpers` and then `helpers.train()`: both are names of this function.
            yield from (vars(value)[name] for name in names if name in vars(value))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _imports(code: CodeType) -> Iterator[str]:
    """Dotted names that one code object imports, by statement or by a literal given to import_module."""
    module = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            module = str(instruction.argval)
            yield module
        elif instruction.opname == "IMPORT_FROM":
            yield f"{module}.{instruction.argval}"
    if _IMPORTERS.intersection(code.co_names):
        yield from (constant for constant in code.co_consts if isinstance(constant, str))


@functools.cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib"))


def _is_authors(value: Any) -> bool:
    """Whether to look inside: code that is neither installed nor Airgate's, and small objects that only wrap code."""
    if isinstance(value, functools.partial | staticmethod | classmethod | MethodType):
        return True
    if isinstance(value, FunctionType):
        return _is_authors_file(value.__module__ or "", value.__code__.co_filename)
    if isinstance(value, type):
        return _is_authors_file(value.__module__, _file_of(sys.modules.get(value.__module__)))
    return callable(value) and not isinstance(value, ModuleType) and _is_authors(type(value))


def _file_of(module: ModuleType | None) -> str | None:
    return getattr(module, "__file__", None)


@functools.lru_cache(maxsize=4096)
def _is_authors_file(module: str, file: str | None) -> bool:
    if module.partition(".")[0] in ("airgate", "builtins"):
        return False
    if not file or file.startswith("<"):  # built in, or made by exec: only the latter has Python code to look at
        return module not in sys.builtin_module_names
    return not any(Path(file).resolve().is_relative_to(root) for root in _installed())
