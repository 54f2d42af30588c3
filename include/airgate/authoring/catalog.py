"""The models there are: which folders under the models folder hold a sound one, and what is wrong with the others."""

from collections.abc import Iterator
from pathlib import Path

from airgate import settings
from airgate.authoring.signature import KIND_WORDS, StepSignature, signature_of
from airgate.authoring.source import Source, load_file
from airgate.contracts.model_spec import SPEC_FILE, ModelSpec, load_spec
from airgate.contracts.step import ArtifactKind
from airgate.errors import AirgateError, ConfigError, SpecError, WiringError, nearest

STEPS_FILE = "steps.py"
# First parts of a step reference that mean something else, so no model can be named so.
RESERVED_NAMES = frozenset({"airgate", "models"})
_CRON_WORDS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_CRON_FIELDS = 5
_STANDARD_STEPS = Path(__file__).parent.parent / "steps"

_loaded: dict[Path, tuple[tuple[tuple[int, int] | None, ...], ModelSpec]] = {}


def sound_models() -> list[ModelSpec]:
    """Every model that can be used, by name. A model is sound when its model.yaml and its steps.py are.

    Raises ConfigError when there is no models folder.
    """
    return [found for found in _all().values() if isinstance(found, ModelSpec)]


def broken_models() -> dict[str, AirgateError]:
    """What is wrong with each model that cannot be used, by folder name. Raises ConfigError as sound_models does."""
    return {name: found for name, found in _all().items() if not isinstance(found, ModelSpec)}


def model(name: str) -> ModelSpec:
    """Give one model. Other models' faults do not matter to it.

    Raises SpecError when the model is broken, or there is none of this name (with the nearest).
    """
    root = _models_folder()
    folders = {folder.name: folder for folder in _folders(root)}
    if name not in folders:
        raise SpecError(f"there is no model '{name}' in {root}; {nearest(name, folders)}. "
                        f"A new one: make new-model NAME={name if name.isidentifier() else 'my_model'}")
    found = _load(folders[name])
    if isinstance(found, ModelSpec):
        return found
    raise SpecError(str(found))


def _all() -> dict[str, ModelSpec | AirgateError]:
    return {folder.name: _load(folder) for folder in _folders(_models_folder())}


def _models_folder() -> Path:
    root = settings.load().models
    if not root.is_dir():
        raise ConfigError(f"the models folder {root} does not exist. Set AIRGATE_MODELS to the folder that holds one "
                          "folder for each model, or unset it for include/models.")
    return root


def _folders(root: Path) -> list[Path]:
    """Folders that mean to be models. Hidden ones, shared code under `_name` and remains of a deleted one do not."""
    return [entry for entry in sorted(root.iterdir()) if entry.is_dir() and _means_to_be_a_model(entry)]


def _means_to_be_a_model(folder: Path) -> bool:
    if folder.name.startswith(".") or folder.name == "__pycache__":
        return False
    if (folder / SPEC_FILE).exists():
        return True
    if folder.name.startswith("_"):
        return False
    try:
        # Git leaves a folder with nothing but __pycache__ behind when a model is deleted.
        return any(entry.name != "__pycache__" for entry in folder.iterdir())
    except OSError:
        return True


def _load(folder: Path) -> ModelSpec | AirgateError:
    """Read one folder, again only when a file in it changed. An error is a value: one model must not take others down."""
    stamps = tuple(_stamp(folder / name) for name in (SPEC_FILE, STEPS_FILE))
    known = _loaded.get(folder)
    # What is wrong may lie in another file that steps.py leans on, so only a sound model is taken as unchanged.
    if known and known[0] == stamps:
        return known[1]
    try:
        spec = _spec(folder)
        _check_steps(folder, spec)
    except AirgateError as error:
        return error
    _loaded[folder] = stamps, spec
    return spec


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _spec(folder: Path) -> ModelSpec:
    """Read model.yaml."""
    path = folder / SPEC_FILE
    try:
        return load_spec(folder)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: YAML dates such as 2026-02-31
        raise SpecError(f"{path}: cannot be read: {error or type(error).__name__}. Correct the file.") from None


def _check_steps(folder: Path, spec: ModelSpec) -> None:
    """Check steps.py against what every model promises, and the names under `steps:` against what exists.

    Raises SpecError that lists every fault.
    """
    if folder.name in RESERVED_NAMES:
        raise SpecError(f"{folder}: no model can be named '{folder.name}', because step references use it. Rename it.")
    path = folder / STEPS_FILE
    if not path.is_file():
        raise SpecError(f"{path}: file is missing. A model is a folder with {SPEC_FILE} and {STEPS_FILE}.")
    try:
        source = load_file(path, f"models.{folder.name}.steps")
    except WiringError as error:
        raise SpecError(str(error)) from None
    faults = [*_function_faults(folder.name, "features", "table", wants_context=False),
              *_function_faults(folder.name, "train", "model", wants_context=True),
              *_resource_faults(folder / SPEC_FILE, spec, source),
              *_schedule_faults(folder / SPEC_FILE, spec)]
    if faults:
        raise SpecError("; ".join(faults))


def _function_faults(name: str, function: str, returns: ArtifactKind, *, wants_context: bool) -> Iterator[str]:
    """What is wrong with `features(data)` or `train(data, ctx)`. There may be more arguments, with defaults."""
    try:
        signature = signature_of(f"{name}.steps:{function}")
    except WiringError as error:
        yield str(error)
        return
    expected = _expected(function)
    where = f"{signature.file}, line {signature.line}: {function}"
    if signature.returns != returns:
        gives = KIND_WORDS[signature.returns] if signature.returns else "nothing"
        yield f"{where} gives {gives}, not {KIND_WORDS[returns]}. Write {expected}"
    data = signature.parameters.get("data")
    if data is None or data.kind != "table":
        takes = f"'data' as {data.wants()}" if data else f"no argument 'data' ({nearest('data', signature.parameters)})"
        yield f"{where} takes {takes}, but a table of this name is what it is given. Write {expected}"
    if wants_context and not any(parameter.kind == "context" for parameter in signature.parameters.values()):
        yield f"{where} takes no StepContext, which holds the seed and the parameters. Write {expected}"
    yield from _extra_faults(where, signature, wants_context)


def _extra_faults(where: str, signature: StepSignature, wants_context: bool) -> Iterator[str]:
    for parameter in signature.parameters.values():
        fits = parameter.has_default or parameter.name == "data" or (wants_context and parameter.kind == "context")
        if not fits:
            yield f"{where} has a further argument '{parameter.name}' without a default; give it one, or remove it"


def _expected(function: str) -> str:
    if function == "features":
        return "def features(data: pd.DataFrame) -> pd.DataFrame"
    return "def train(data: pd.DataFrame, ctx: StepContext) -> Model"


def _resource_faults(path: Path, spec: ModelSpec, source: Source) -> Iterator[str]:
    """Names under `steps:` that are no step: a typo there would leave the real step with the default resources."""
    reexported = {name for name, origin in source.imports.items() if origin.startswith(("airgate.", "models."))}
    own = {"default", *source.public_functions(), *reexported}
    unknown = [name for name in spec.steps if name not in own]
    if not unknown:
        return
    allowed = {"default", *source.public_functions(), *standard_steps()}
    for name in unknown:
        if name not in allowed:
            yield f"{path}: steps.{name} names no step; {nearest(name, allowed)}"


def _schedule_faults(path: Path, spec: ModelSpec) -> Iterator[str]:
    """Cron expressions that Airflow's scheduler could not read; it would say so late, for a whole DAG file."""
    from croniter import croniter  # a dependency of Airflow's scheduler

    for name in ("training", "batch_inference", "drift_check"):
        cron = getattr(spec.schedule, name)
        if cron is not None and cron not in _CRON_WORDS and not (len(cron.split()) == _CRON_FIELDS and croniter.is_valid(cron)):
            yield (f"{path}: schedule.{name} is '{cron}', which is no cron expression; {nearest(cron, _CRON_WORDS)}, or five "
                   "fields such as '0 6 * * 1' (minute, hour, day, month, weekday)")


def standard_steps() -> set[str]:
    """Names of the platform's own steps: public functions in airgate/steps that take a StepContext and can be steps."""
    return {name for path in _STANDARD_STEPS.glob("*.py")
            for name in load_file(path, f"airgate.steps.{path.stem}").public_functions()
            if _is_step(f"airgate.steps.{path.stem}:{name}")}


def _is_step(ref: str) -> bool:
    try:
        parameters = signature_of(ref).parameters.values()
    except WiringError:  # a helper, whose arguments or value never travel
        return False
    return any(parameter.kind == "context" for parameter in parameters)
