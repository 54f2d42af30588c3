"""The formats a model may be kept in, told by the bytes and never by the name. None of them can run code when it is read.

A file is accepted when all of it, from the first byte to the last, is in one of these formats. Everything else is refused, so
pickles need not be recognised to be refused; they are, so that the message can say it. Nothing is executed, imported or
unpacked to disk on the way, and what is unpacked in memory is bounded.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, get_args

from airgate.errors import ArtifactError
from airgate.steps.formats import booster, onnx, safetensors, skops
from airgate.steps.formats.disguise import looks_like, runs_code
from airgate.steps.formats.reason import NotInFormat

Format = Literal["XGBoost JSON", "XGBoost UBJ", "safetensors", "ONNX", "skops"]
FORMATS: tuple[Format, ...] = get_args(Format)
_CHECKS: dict[Format, Callable[[bytes], None]] = {
    "XGBoost JSON": booster.check_json, "XGBoost UBJ": booster.check_ubj, "safetensors": safetensors.check, "ONNX": onnx.check,
    "skops": skops.check,
}


def check(data: bytes, where: Path | str, allowed: Collection[Format] = FORMATS) -> Format:
    """Give the format of a model file's bytes, all of which were checked. `where` is for the message.

    Parse these bytes afterwards, not the file again: it may have changed. Raises ArtifactError when they are in none of the
    allowed formats, when something is hidden before, between or after what the format knows, or when they are a pickle too.
    """
    found = _begins_like(data)
    try:
        if found is None:
            raise NotInFormat(looks_like(data))
        if found not in allowed:
            raise NotInFormat(f"{found}, where {' or '.join(sorted(allowed))} belongs")
        _CHECKS[found](data)
        if runs_code(data):
            raise NotInFormat(f"{found} and a pickle at once, made to be taken for either")
    except NotInFormat as error:
        raise ArtifactError(f"{where}: {error}. Allowed: {', '.join(sorted(allowed))}, which cannot run code when they are read. "
                            "Save the model anew in one of them (Model.save() does) and do not load this file.") from None
    return found


def _begins_like(data: bytes) -> Format | None:
    """The one format that these bytes can be in: their beginnings exclude each other."""
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= safetensors.MAX_HEADER:
        return "safetensors"
    if data[:2] == b"{L":
        return "XGBoost UBJ"
    if data[:1] == b"{":
        return "XGBoost JSON"
    if data[:4] == b"PK\3\4":
        return "skops"
    return "ONNX" if data[:1] == b"\x08" else None
