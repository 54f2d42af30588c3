"""Telling what a refused file is: most often a pickle, bare or wrapped. Never by loading it: opcodes are read, not run."""

import bz2
import io
import lzma
import pickletools
import re
import zlib

_HEAD = 65536  # bytes that are looked at within a wrapping
_OPCODES = 1_000_000
# A pickle runs code once it has found a name and then calls it; INST does both at once.
_FIND, _CALL = {"GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}, {"OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
_PACKED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x5d\0\0": "lzma", b"\x78\x01": "zlib", b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib", b"\x78\xda": "zlib", b"\x28\xb5\x2f\xfd": "Zstandard", b"\x04\x22\x4d\x18": "LZ4",
}
_KNOWN = {
    b"PK": "an empty or damaged ZIP archive", b"\x89HDF": "HDF5 (Keras writes it), which may name code",
    b"\x7fELF": "a program", b"MZ": "a program", b"#!": "a script", b"<": "XML or HTML",
}


def looks_like(data: bytes, depth: int = 0) -> str:
    """Say in a few words what these bytes are."""
    if not data:
        return "an empty file"
    if is_pickle(data):
        return "a pickle, which runs code when it is loaded"
    name = next((name for magic, name in _PACKED.items() if data.startswith(magic)), None)
    if name is not None:
        inner = _unpacked(data, name)
        return f"packed with {name}" + (f", and in it {looks_like(inner, depth + 1)}" if inner and depth < 4 else "")
    if data.startswith(b"\x93NUMPY"):
        return "a NumPy array of objects, which is a pickle" if object_array(data[:_HEAD]) else "a NumPy array, no model"
    if data[257:262] == b"ustar":
        return f"a tar archive, and in it {looks_like(data[512 : 512 + _HEAD], depth + 1)}" if depth < 4 else "a tar archive"
    known = next((text for magic, text in _KNOWN.items() if data.startswith(magic)), None)
    return known or f"in no known format (it begins with {data[:8].hex(' ')})"


def is_pickle(data: bytes) -> bool:
    """Whether these bytes begin with a pickle: of protocol 2 or later by its first opcode, of an older one by what it does."""
    return (data[:1] == b"\x80" and data[1:2] in {b"\1", b"\2", b"\3", b"\4", b"\5"}) or runs_code(data)


def runs_code(data: bytes) -> bool:
    """Whether pickle's machine, going through these bytes from the first, would call something.

    It runs opcode by opcode, so what comes after the call may be anything. No other file has a million sound opcodes.
    """
    found = False
    try:
        for count, (opcode, _, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if opcode.name == "INST" or (found and opcode.name in _CALL) or count > _OPCODES:
                return True
            found = found or opcode.name in _FIND
    except Exception:  # noqa: BLE001 - so it is none, or one that calls nothing; pickletools says so in many ways
        return False
    return False


def object_array(head: bytes) -> bool:
    """Whether this is a NumPy array (NPY form) whose type is or holds an object."""
    match = re.match(rb"\x93NUMPY..(?:..){1,2}\{[^}]*?'descr':\s*(.*?)\s*'fortran_order'", head, re.DOTALL)
    return match is not None and re.search(rb"'[|<>=]?O", match[1]) is not None


def _unpacked(data: bytes, name: str) -> bytes:
    """The first bytes of what is packed; b"" where it cannot be told. Never more than `_HEAD`."""
    try:
        if name == "gzip":
            return zlib.decompressobj(31).decompress(data, _HEAD)
        if name == "zlib":
            return zlib.decompressobj().decompress(data, _HEAD)
        if name == "bzip2":
            return bz2.BZ2Decompressor().decompress(data, _HEAD)
        if name in ("xz", "lzma"):
            return lzma.LZMADecompressor(memlimit=1 << 28).decompress(data, _HEAD)
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError):
        pass
    return b""
