"""A step's signature, read from the syntax tree: nothing of the step's module is imported.

A reference is `<module>:<function>`. One whose first part is `airgate` names a module of this package; any other names
a module under the models folder, so `diagnosis_classifier.steps:train` is the function `train` of
`diagnosis_classifier/steps.py` there.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from airgate.authoring.annotations import Hint, Kind, UnfitAnnotationError, read_hint
from airgate.authoring.source import MODELS_PACKAGE, FunctionNode, Source, explain_missing, load_module
from airgate.contracts.step import ArtifactKind
from airgate.errors import WiringError, nearest

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})")
_MAX_REEXPORTS = 10
KIND_WORDS: dict[ArtifactKind, str] = {"table": "a table", "model": "a model", "json": "a JSON value", "file": "a file"}


@dataclass(frozen=True)
class Parameter:
    """One argument of a step. `types` and `choices` limit JSON values; kind `context` is injected by the runner."""

    name: str
    kind: Kind
    has_default: bool
    line: int
    types: frozenset[str] = frozenset()
    choices: tuple[object, ...] = ()
    optional: bool = False

    def wants(self) -> str:
        """What the argument takes, in words."""
        if self.kind == "context":
            return "the StepContext, which the runner gives"
        if self.kind != "json" or not self.types or "any" in self.types:
            return KIND_WORDS[self.kind]
        return f"a JSON value of type {' or '.join(sorted(self.types))}"


@dataclass(frozen=True)
class StepSignature:
    """What a step takes and gives. `returns` is None where it gives nothing."""

    ref: str
    file: str
    line: int
    parameters: dict[str, Parameter]
    returns: ArtifactKind | None
    doc: str = ""

    def arguments(self) -> dict[str, Parameter]:
        """The parameters that an author names: all but the injected context."""
        return {name: parameter for name, parameter in self.parameters.items() if parameter.kind != "context"}


def split_reference(ref: str) -> tuple[str, str]:
    """Give module (full name, `models.` put in front where needed) and function of a reference.

    Raises WiringError when it is not of the form `package.module:function`.
    """
    match = _REFERENCE.fullmatch(ref) if isinstance(ref, str) else None
    if match is None:
        raise WiringError(f"step {ref!r}: not a reference. Write '<module>:<function>', for example "
                          "'diagnosis_classifier.steps:train' or 'airgate.steps.validate:check'.")
    module, function = match.groups()
    if module.startswith(f"{MODELS_PACKAGE}."):
        short = f"{module.removeprefix(f'{MODELS_PACKAGE}.')}:{function}"
        raise WiringError(f"step '{ref}': '{MODELS_PACKAGE}.' is put in front for you; leave it out. Write '{short}'.")
    return (module if module.partition(".")[0] == "airgate" else f"{MODELS_PACKAGE}.{module}"), function


def signature_of(ref: str) -> StepSignature:
    """Read the signature of the function that a reference names.

    Files are parsed once for each change of their time or size. Raises WiringError, which names the file and line, what
    is allowed and the nearest right name, when the reference leads nowhere, the file is not valid Python, the function
    cannot be a step (async, *args, no annotation) or an annotation names no kind of value that can travel.
    """
    module, name = split_reference(ref)
    source = load_module(module)
    if source is None:
        raise WiringError(f"step '{ref}': {explain_missing(module)}")
    home, function = _find_function(ref, source, name)
    where = f"{home.path}, line {function.lineno}: step '{ref}'"
    if isinstance(function, ast.AsyncFunctionDef):
        raise WiringError(f"{where} is async; a step is a plain function. Write 'def {name}(...)'.")
    return StepSignature(ref, str(home.path), function.lineno, dict(_parameters(where, function, home)),
                         _returns(where, function, home), ast.get_docstring(function) or "")


def _find_function(ref: str, source: Source, name: str) -> tuple[Source, FunctionNode]:
    """Find a function where it is defined, or follow `from ... import` to where it is."""
    wanted, home = name, source
    for _ in range(_MAX_REEXPORTS):
        if wanted in home.functions:
            return home, home.functions[wanted]
        module, _, attribute = home.imports.get(wanted, "").rpartition(".")
        origin = load_module(module) if module else None
        if origin is None:
            break
        wanted, home = attribute, origin
    if name in source.classes or name in source.aliases:
        raise WiringError(f"step '{ref}': '{name}' in {source.path} is no function. A step is written with 'def'.")
    allowed = nearest(name, source.public_functions())
    raise WiringError(f"step '{ref}': {source.path} has no function '{name}'; {allowed}")


def _parameters(where: str, function: FunctionNode, home: Source) -> Iterator[tuple[str, Parameter]]:
    given = function.args
    if given.vararg or given.kwarg:
        stars = f"*{given.vararg.arg}" if given.vararg else f"**{given.kwarg.arg}" if given.kwarg else ""
        raise WiringError(f"{where} takes '{stars}'; a step names each of its arguments, so that a DAG can be checked.")
    if given.posonlyargs:
        raise WiringError(f"{where}: arguments before '/' cannot be given by name; remove the '/'.")
    missing = len(given.args) - len(given.defaults)
    defaults = [None] * missing + list(given.defaults) + list(given.kw_defaults)
    for argument, default in zip([*given.args, *given.kwonlyargs], defaults, strict=True):
        hint = _hint(f"{where}: argument '{argument.arg}'", argument.annotation, home)
        if hint.kind is None:
            raise WiringError(f"{where}: argument '{argument.arg}' is annotated None, so nothing can be given for it.")
        yield argument.arg, Parameter(argument.arg, hint.kind, default is not None, argument.lineno, hint.types,
                                      hint.choices, hint.optional)


def _returns(where: str, function: FunctionNode, home: Source) -> ArtifactKind | None:
    hint = _hint(f"{where}: the returned value", function.returns, home)
    if hint.kind == "context":
        raise WiringError(f"{where} returns the StepContext, which lives as long as the step; return a value instead.")
    if hint.kind not in (None, "json") and hint.optional:
        raise WiringError(f"{where} returns {KIND_WORDS[hint.kind]} or None; a step always gives the same kind of "
                          "value. Raise airgate.errors.DataError where there is nothing to give.")
    return hint.kind


def _hint(what: str, annotation: ast.expr | None, home: Source) -> Hint:
    if annotation is None:
        raise WiringError(f"{what} has no annotation. Say what it is: pd.DataFrame, Model, Path, or a JSON type "
                          "such as dict[str, float], float or str.")
    try:
        return read_hint(annotation, home)
    except UnfitAnnotationError as error:
        raise WiringError(f"{what} {error}") from None
