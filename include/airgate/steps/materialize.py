"""Python values to artifacts and back, by the kind that an annotation names.

A table keeps its columns and their types but not its row labels. Labels that say nothing (unnamed integers, as
filtering and joining leave them) are dropped; labels that say something are refused: a later step would miss them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from airgate.contracts.step import ArtifactRef
from airgate.errors import ArtifactError, StepError, WiringError
from airgate.redaction import secret_in
from airgate.steps.annotations import WORDS, Hint
from airgate.steps.json_value import MAX_INT, to_json
from airgate.steps.store import ArtifactStore

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import JsonValue

    from airgate.steps.model import Model

INLINE_LIMIT = 32 * 1024


def load(store: ArtifactStore, ref: ArtifactRef, hint: Hint, name: str, workdir: Path) -> Any:
    """Fetch an artifact, check its digest and give the value that argument `name` takes.

    Raises WiringError when kinds differ or a JSON value does not fit; ArtifactError (DigestError) as the store does,
    and when the bytes, though those that were stored, cannot be read as their kind.
    """
    if ref.kind != hint.kind:
        raise WiringError(f"argument '{name}' takes {WORDS.get(str(hint.kind), 'nothing')}, but what was wired to it "
                          f"is {WORDS[ref.kind]}.")
    folder = workdir / "inputs"
    if ref.kind == "file":
        return store.fetch_copy(ref, folder / name)
    path = store.fetch(ref, folder / name)
    if ref.kind == "table":
        return read_table(path, ref.uri)
    if ref.kind == "model":
        return _load_model(path, hint, name)
    return read_parameter(_read_json(path, ref.uri), hint, name)


def read_parameter(value: "JsonValue", hint: Hint, name: str) -> Any:
    """Give a JSON value as the annotation wants it: contracts are built, numbers widened. Raises WiringError."""
    if value is None and hint.optional:
        return None
    if hint.kind != "json":
        wanted = WORDS.get(str(hint.kind), "what the runner gives")
        raise WiringError(f"argument '{name}' takes {wanted}, not a JSON value. Wire it to the step that makes one.")
    return _fit(value, hint, f"argument '{name}'")


def save(store: ArtifactStore, value: object, hint: Hint, workdir: Path) -> tuple[ArtifactRef | None, "JsonValue"]:
    """Store what a step returned. Gives its ref, and the value itself where it is JSON of at most 32 KiB.

    Raises WiringError when the value does not fit the annotation, StepError when it cannot be kept as its kind.
    """
    if value is None and (hint.kind != "json" and hint.optional):
        return None, None
    folder = workdir / "output"
    folder.mkdir(parents=True, exist_ok=True)
    if hint.kind == "json":
        return _save_json(store, value, hint)
    if hint.kind == "table":
        write_table(_expect_table(value), folder / "table.parquet")
        return store.put_file(folder / "table.parquet", "table", consume=True), None
    if hint.kind == "model":
        _expect(value, hint).save(folder / "model")
        return store.put_directory(folder / "model"), None
    if hint.kind == "file":
        path: Path = _expect(value, hint)
        return store.put_file(path, consume=path.resolve().is_relative_to(workdir.resolve() / "output")), None
    raise _unfit(value, "None" if hint.kind is None else "a StepContext, which is no value")


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """Write a frame as one Parquet file, compressed with zstd, types kept.

    Raises StepError when row labels say something, column names repeat or are no text, or a column mixes types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _refuse_labels(table)
    names = list(table.columns)
    odd = [name for name in names if not isinstance(name, str)]
    twice = sorted({name for name in names if isinstance(name, str) and names.count(name) > 1})
    if odd or twice:
        raise StepError(f"the table's column names must be text and differ; found {(odd or twice)[:5]!r}. Rename them.")
    plain = table.reset_index(drop=True)
    plain.attrs = {}  # free notes of the author's, not data; they need not even be JSON
    try:
        pq.write_table(pa.Table.from_pandas(plain, preserve_index=False), path, compression="zstd")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise StepError(f"the table cannot be stored as Parquet: {'; '.join(map(str, error.args))}. Give each column "
                        "one type, for example with astype().") from None
    except OSError as error:
        raise ArtifactError(f"{path}: the table cannot be written: {error.strerror or error}; about "
                            f"{int(table.memory_usage(deep=False).sum())} bytes are needed. Make room there.") from None


def read_table(path: Path, uri: str) -> "pd.DataFrame":
    """Read a Parquet file as a frame with row labels 0 to n-1. Raises ArtifactError when it is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One file as it is: pq.read_table would take a path like year=2026 for a partition's and add columns.
        frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
    except pa.ArrowInvalid as error:
        raise ArtifactError(f"{uri}: not readable as a table: {error}. Which step stored it as one?") from None
    return frame


def _refuse_labels(table: "pd.DataFrame") -> None:
    index = table.index
    names = [str(name) for name in index.names if name is not None]
    if names or index.nlevels > 1 or (len(index) > 0 and index.dtype.kind not in "iu"):
        what = f"named {', '.join(names)}" if names else f"of type {index.dtype}"
        raise StepError(f"the table's rows carry labels ({what}), which a table on its way to the next step does not "
                        "keep. Call reset_index() to make them columns, or reset_index(drop=True) to drop them.")


def _save_json(store: ArtifactStore, value: object, hint: Hint) -> tuple[ArtifactRef, "JsonValue"]:
    plain = to_json(value)
    if not (plain is None and hint.optional):
        _fit(plain, hint, "what the step returned")
    if place := secret_in(plain):
        raise StepError(f"what the step returned looks like a secret at '{place}', and a JSON value is shown in Airflow and kept "
                        "in the store. Leave it out, or rename it if it is none; a table or a file is not looked into.")
    ref = store.put_json(plain)
    return ref, plain if ref.size <= INLINE_LIMIT else None


def _read_json(path: Path, uri: str) -> "JsonValue":
    import json

    try:
        value: JsonValue = json.loads(path.read_bytes(), parse_int=_number)
    except ValueError as error:
        raise ArtifactError(f"{uri}: not readable as JSON: {error}. Which step stored it as JSON?") from None
    return value


def _number(text: str) -> int | float:
    """RFC 8785 writes a large double without a point; to_json lets no integer through that could be meant instead."""
    number = int(text)
    return number if abs(number) <= MAX_INT else float(text)


def _load_model(path: Path, hint: Hint, name: str) -> "Model":
    from airgate.steps.model import Model

    model: Model = Model.load(path)
    wanted: type[Model] = hint.annotation
    if not isinstance(model, wanted):
        raise WiringError(f"argument '{name}' takes {wanted.__name__}, but the model that was wired to it is "
                          f"{type(model).__name__}. Annotate it as Model, or wire another step.")
    return model


def _fit(value: "JsonValue", hint: Hint, what: str) -> Any:
    """Check JSON against an annotation, lists of contracts and the like included."""
    try:
        return TypeAdapter(hint.annotation).validate_python(value)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in items[:3])
        raise WiringError(f"{what} does not fit its annotation {_name(hint.annotation)}: {text}.") from None
    except PydanticUserError:
        # Before Python 3.12 pydantic reads no typing.TypedDict; a dict is all that can be asked for then.
        if isinstance(value, dict):
            return value
        raise _unfit(value, "a dict") from None


def _expect_table(value: object) -> "pd.DataFrame":
    import pandas as pd

    if not isinstance(value, pd.DataFrame):
        raise _unfit(value, WORDS["table"])
    return value


def _expect(value: object, hint: Hint) -> Any:
    if not isinstance(value, hint.annotation):
        raise _unfit(value, f"{WORDS[str(hint.kind)]} ({_name(hint.annotation)})")
    return value


def _unfit(value: object, wanted: str) -> WiringError:
    given = "None" if value is None else f"a value of type {type(value).__name__}"
    return WiringError(f"the step returned {given}, but its annotation promises {wanted}. Correct one of the two.")


def _name(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    return annotation.__name__ if plain else str(annotation)


