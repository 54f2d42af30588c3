"""A trained model as a value: it names its input columns, gives probabilities, and is kept in safe formats only.

On disk a model is a folder of two files: `airgate_model.json` (kind, columns, architecture) and the weights, in
XGBoost's UBJ or in safetensors. Neither format can run code when it is read; pickle is not supported and never will be. Which
format a file is in is told by its bytes (airgate.steps.formats), before anything else reads them.
"""

import json
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Literal, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, JsonValue, ValidationError

from airgate.contracts import digests
from airgate.contracts.base import Contract
from airgate.contracts.step import Digest
from airgate.errors import ArtifactError, DataError, nearest
from airgate.steps import formats
from airgate.steps.store import digest_of

HEADER = "airgate_model.json"
HEADER_BYTES = 16 << 20
KINDS = {"xgboost": "airgate.steps.model_xgboost:XGBoostModel", "torch": "airgate.steps.model_torch:TorchModel"}


class ModelHeader(Contract):
    """`airgate_model.json`. `features` are in the order in which the weights expect them.

    `weights_digest` keeps damaged files from the native parsers: XGBoost's ends the whole process on a cut file.
    """

    schema_version: Literal[1] = 1
    kind: str
    features: list[str] = Field(min_length=1)
    label: str
    architecture: dict[str, JsonValue] = {}
    weights_digest: Digest


class Model(ABC):
    """A binary classifier. A subclass adds the weights; everything that is read from outside is checked here."""

    kind: ClassVar[str]
    weights_file: ClassVar[str]
    weights_format: ClassVar[formats.Format]

    def __init__(self, features: list[str], label: str) -> None:
        """Columns in the order of training. Raises DataError when there is none or one twice."""
        if not features or len(set(features)) != len(features):
            raise DataError("a model needs input columns, each only once; got: "
                            f"{', '.join(features) or 'none'}")
        self.features = list(features)
        self.label = label

    def predict_proba(self, data: pd.DataFrame) -> NDArray[np.float64]:
        """Give the probability of class 1 for each row: shape (n,), float64, from 0 to 1.

        Columns are found by name; their order and further columns do not matter. Missing values are allowed.
        Raises DataError when a column is missing, is not numeric, or holds an infinity.
        """
        values = matrix(data, self.features)
        return self._probabilities(values) if len(values) else np.empty(0, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write the model into `folder`, which is made. The same training gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder / self.weights_file)
        header = ModelHeader(
            kind=self.kind, features=self.features, label=self.label, architecture=self._architecture(),
            weights_digest=digest_of(folder / self.weights_file))
        text = json.dumps(header.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False)
        (folder / HEADER).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Model":
        """Read a model of any kind.

        Raises ArtifactError when a file is missing, damaged or does not belong there, or the kind is unknown.
        That the folder as a whole is the right one is not known here: whoever fetched it has verified its digest first.
        """
        model_class, header, weights = checked(folder)
        return model_class._read(folder / model_class.weights_file, weights, header)

    @abstractmethod
    def _probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (n, features) in, shape (n,) out; n is at least 1."""

    @abstractmethod
    def _architecture(self) -> dict[str, JsonValue]:
        """What beside the weights is needed to rebuild the model."""

    @abstractmethod
    def _write(self, path: Path) -> None:
        """Write the weights."""

    @classmethod
    @abstractmethod
    def _read(cls, path: Path, weights: bytes, header: ModelHeader) -> Self:
        """Rebuild the model from its weights; `path` is for messages. Raises ArtifactError when they do not fit the header."""


def checked(folder: Path) -> tuple[type[Model], ModelHeader, bytes]:
    """Give the class, header and weights of a saved model; digest and format of just these bytes were checked, nothing parsed.

    Raises ArtifactError as Model.load does, and for weights in another format than the kind's, such as a pickle.
    """
    header = read_header(folder)
    if header.kind not in KINDS:
        raise ArtifactError(f"{folder}: model kind '{header.kind}' is unknown; {nearest(header.kind, KINDS)}. "
                            "Was it saved by a newer Airgate?")
    module, name = KINDS[header.kind].split(":")
    model_class = cast("type[Model]", getattr(import_module(module), name))
    path = folder / model_class.weights_file
    _only(folder, {HEADER, path.name})
    weights = path.read_bytes()
    if digests.of_bytes(weights) != header.weights_digest:
        raise ArtifactError(f"{path}: not the weights that {HEADER} names, {header.weights_digest[:19]}. "
                            "They are damaged, or of two models; take the folder again from where it was saved.")
    formats.check(weights, path, {model_class.weights_format})
    return model_class, header, weights


def matrix(data: pd.DataFrame, columns: list[str]) -> NDArray[np.float64]:
    """The columns as numbers, shape (n, len(columns)), missing values as NaN.

    Raises DataError when a column is missing, is not numeric, or holds an infinity.
    """
    missing = [name for name in columns if name not in data.columns]
    if missing:
        raise DataError(f"the data lack {len(missing)} of the model's {len(columns)} columns: "
                        f"{', '.join(missing[:5])}; {nearest(missing[0], map(str, data.columns))}. "
                        "Does features() give all of them?")
    try:
        values = data[columns].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        wrong = [f"{name} ({data[name].dtype})" for name in columns if not pd.api.types.is_numeric_dtype(data[name])]
        raise DataError(f"a model takes numbers, but these columns are not numeric: {', '.join(wrong[:5])}. "
                        "Turn them into numbers in features(), or leave them out there.") from None
    infinite = [name for name, bad in zip(columns, np.isinf(values).any(axis=0), strict=True) if bad]
    if infinite:
        raise DataError(f"infinite values in {', '.join(infinite[:5])}. Allowed: finite numbers or missing values.")
    return values


def read_header(folder: Path) -> ModelHeader:
    """Read and check `airgate_model.json`. Raises ArtifactError."""
    try:
        with (folder / HEADER).open("rb") as file:
            raw = file.read(HEADER_BYTES + 1)
        if len(raw) > HEADER_BYTES:
            raise ArtifactError(f"{folder / HEADER}: more than {HEADER_BYTES} bytes. It must be as Model.save() wrote it.")
        return ModelHeader.model_validate_json(raw)
    except FileNotFoundError:
        raise ArtifactError(f"{folder}: no {HEADER}, so this is no Airgate model. "
                            "Save models with Model.save().") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ArtifactError(f"{folder / HEADER}: {where}: {first['msg']}. "
                            "It must be as Model.save() wrote it.") from None


def _only(folder: Path, expected: set[str]) -> None:
    """A folder holds the files of its kind and nothing else: an extra file has no meaning we could vouch for."""
    found = {path.name for path in folder.iterdir()}
    if found != expected or any(path.is_symlink() or not path.is_file() for path in folder.iterdir()):
        extra, missing = sorted(found - expected), sorted(expected - found)
        raise ArtifactError(
            f"{folder}: a model folder holds exactly the plain files {', '.join(sorted(expected))}; "
            f"missing: {', '.join(missing) or 'none'}; not allowed: {', '.join(extra) or 'links and folders'}.")
