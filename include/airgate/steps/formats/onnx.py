"""ONNX: a protobuf message. It is walked without a library, because what matters is what it points to: nothing outside itself.

A tensor may name a file beside the model, any file; an operator may be one that a shared library must bring. Both are refused.
Sources: https://protobuf.dev/programming-guides/encoding/ and onnx.proto of ONNX 1.23 (field numbers never change).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from airgate.steps.formats.reason import NotInFormat

DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
_DEPTH = 100  # protobuf's own limit
_ONCE = {1, 2, 3, 4, 5, 6, 7}
_MODEL_FIELDS = _ONCE | {8, 14, 20, 25, 26}
# Fields that hold messages, as far as tensors lie in them or domains.
_MESSAGES = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 9: "opset", 11: "attribute", 12: "value"},
    "opset": {}, "tensor": {}, "value": {},
}
# (message, field) -> what is said of it.
_OUTSIDE = {("tensor", 13): "a tensor that lies in another file (external_data)",
            ("tensor", 14): "a tensor that lies in another file (data_location)"}
_USED = {("opset", 1), ("node", 7)}
_DEFINED = ("function", 10)


@dataclass
class _Seen:
    """What the walk met: fields of the top, domains of operators that are used, and of functions that the model defines."""

    fields: set[int] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)


def check(data: bytes) -> None:
    """Raise NotInFormat unless this is a whole ONNX model of standard operators that points to nothing outside itself."""
    seen = _Seen()
    _walk(memoryview(data), "model", 0, seen)
    if not {1, 7, 8} <= seen.fields <= _MODEL_FIELDS:
        raise NotInFormat("protobuf, but no ONNX model: that has ir_version, graph and opset_import, and nothing that ONNX does "
                          "not know")
    foreign = sorted(seen.used - DOMAINS - seen.defined)
    if foreign:
        raise NotInFormat(f"ONNX with operators of the domain {foreign[0][:60]!r}, which need code from elsewhere; known are "
                          f"{', '.join(sorted(DOMAINS - {''}))}")


def _walk(data: memoryview, message: str, depth: int, seen: _Seen) -> None:
    if depth > _DEPTH:
        raise NotInFormat(f"ONNX nested more than {_DEPTH} deep")
    for number, value in _fields(data):
        if depth == 0:
            if number in seen.fields & _ONCE:
                raise NotInFormat(f"two ONNX models in one file: field {number} stands twice")
            seen.fields.add(number)
        # An explicit zero is DEFAULT, the tensor's own bytes.
        if (message, number) in _OUTSIDE and value != 0:
            raise NotInFormat(f"ONNX with {_OUTSIDE[message, number]}; save it in one file")
        if (message, number) in _USED:
            seen.used.add(_text(value))
        elif (message, number) == _DEFINED:
            seen.defined.add(_text(value))
        inner = _MESSAGES[message].get(number)
        if inner is not None:
            if isinstance(value, int):
                raise NotInFormat(f"protobuf, but no ONNX model: field {number} of its {message} is a number")
            _walk(value, inner, depth + 1, seen)


def _text(value: "memoryview | int") -> str:
    return str(value) if isinstance(value, int) else bytes(value).decode("utf-8", "backslashreplace")


def _fields(data: memoryview) -> Iterator[tuple[int, "memoryview | int"]]:
    """Give the number and value of each field: bytes, or a number (fixed-width ones count as 1, nobody asks for them)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >= 1 << 32:  # the largest tag; beyond it some readers take the lower bits
            raise NotInFormat("protobuf with a field number that is not allowed")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
            yield number, 1
        elif wire == 2:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size
        else:
            raise NotInFormat(f"protobuf with the wire type {wire}, which ONNX does not use")
        if at > len(data):
            raise NotInFormat("ONNX that is cut off")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    found = 0
    for index in range(10):
        if at + index >= len(data):
            raise NotInFormat("ONNX that is cut off")
        byte = data[at + index]
        found |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return found, at + index + 1
    raise NotInFormat("protobuf with a number of more than ten bytes")
