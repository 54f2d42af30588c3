"""safetensors: a length, a JSON header, and the tensors one after another. https://huggingface.co/docs/safetensors"""

from itertools import pairwise
from math import prod
from typing import Any

from airgate.steps.formats.booster import strict_json
from airgate.steps.formats.reason import NotInFormat

MAX_HEADER = 100_000_000  # bytes; the format's own limit
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
         "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def check(data: bytes) -> None:
    """Raise NotInFormat unless the header is sound and its tensors cover the rest of the file exactly, without gap or overlap."""
    size = int.from_bytes(data[:8], "little")
    if size > min(MAX_HEADER, len(data) - 8):
        raise NotInFormat(f"no safetensors: the header would have {size} bytes, of {len(data)} in the file (limit {MAX_HEADER})")
    header = strict_json(data[8 : 8 + size])
    if not isinstance(header, dict):
        raise NotInFormat("no safetensors: the header is no JSON object")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise NotInFormat("safetensors whose __metadata__ holds something else than texts")
    spans = sorted(_span(name, tensor) for name, tensor in header.items())
    ends = [(0, 0), *spans, (len(data) - 8 - size,) * 2]
    if any(before[1] != after[0] for before, after in pairwise(ends)):
        raise NotInFormat(f"safetensors whose tensors do not cover the {len(data) - 8 - size} bytes after the header exactly: "
                          "some are missing, hidden or shared")


def _span(name: str, tensor: Any) -> tuple[int, int]:
    """Where a tensor begins and ends, once its type and shape ask for just so many bytes."""
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise NotInFormat(f"safetensors whose entry {name[:40]!r} is not dtype, shape and data_offsets")
    offsets, shape, bits = tensor["data_offsets"], tensor["shape"], _BITS.get(str(tensor["dtype"]))
    if bits is None:
        raise NotInFormat(f"safetensors whose tensor {name[:40]!r} is of the unknown type {tensor['dtype']!r:.40}")
    if not (_sizes(offsets) and len(offsets) == 2 and _sizes(shape) and prod(shape) * bits == (offsets[1] - offsets[0]) * 8):
        raise NotInFormat(f"safetensors whose tensor {name[:40]!r} has not the bytes that its shape asks for")
    return offsets[0], offsets[1]


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(type(one) is int and 0 <= one < 2**63 for one in value)
