"""skops: a ZIP archive of a JSON schema and NumPy arrays. https://skops.readthedocs.io/en/stable/persistence.html

Loading one makes objects of the types that its schema names, so each must be known: those that skops itself trusts, and
REVIEWED. The archive is read in memory, entry by entry, with a bound on everything.
"""

import io
import re
import struct
import warnings
import zipfile
import zlib
from itertools import pairwise

from airgate.steps.formats.booster import strict_json
from airgate.steps.formats.disguise import object_array, runs_code
from airgate.steps.formats.reason import NotInFormat

MAX_ENTRIES = 65_535
MAX_UNPACKED = 2 << 30  # bytes, of all entries together; also of all that the schema names, each time it does
MAX_SCHEMA = 256 << 20
MAX_RATIO = 100  # unpacked to packed, over all
_NAME = re.compile(r"schema\.json|[A-Za-z0-9_-]{1,64}\.npy")
# Types beyond those that skops trusts. Read what a type's constructor and __setstate__ do before you add it.
REVIEWED: frozenset[str] = frozenset()


def check(data: bytes) -> None:
    """Raise NotInFormat unless this is a bounded archive of arrays and a schema whose types are all reviewed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_archive(archive, data)
            for entry in archive.infolist():
                if entry.filename != "schema.json":
                    _check_array(entry.filename, _read(archive, entry))
            _check_references(archive)
    except NotInFormat:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise NotInFormat(f"a damaged ZIP archive ({str(error)[:100]})") from None
    _check_types(data)


def _check_archive(archive: zipfile.ZipFile, data: bytes) -> None:
    """Names, sizes and places, before anything is unpacked."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    odd = next((name for name in names if not _NAME.fullmatch(name)), None)
    if odd is not None or "schema.json" not in names:
        raise NotInFormat(_no_skops(archive, odd))
    if len(entries) > MAX_ENTRIES or len(set(names)) != len(names):
        raise NotInFormat(f"skops with one name twice, or with more than {MAX_ENTRIES} entries")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1 for entry in entries):
        raise NotInFormat("skops with entries that are encrypted or packed in an unusual way")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > min(MAX_UNPACKED, MAX_RATIO * len(data)):
        raise NotInFormat(f"an archive bomb: {len(data)} bytes that would unfold to {unpacked}; allowed are {MAX_RATIO} times "
                          f"as many, and {MAX_UNPACKED}")
    places = [(0, 0), *sorted(_place(entry, data) for entry in entries), (archive.start_dir,) * 2]
    if any(before[1] != after[0] for before, after in pairwise(places)) or data[-22:-18] != b"PK\5\6":
        raise NotInFormat("a ZIP archive whose entries share bytes, or with something hidden before, between or after them")


def _place(entry: zipfile.ZipInfo, data: bytes) -> tuple[int, int]:
    """Where an entry begins, with its header (APPNOTE.TXT 4.3.7), and ends."""
    at = entry.header_offset
    name, extra = struct.unpack_from("<2H", data, at + 26)
    return at, at + 30 + name + extra + entry.compress_size


def _no_skops(archive: zipfile.ZipFile, name: str | None) -> str:
    """Say what an archive of something else is."""
    for entry in archive.infolist()[:1000]:
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            continue
        with archive.open(entry) as file:
            head = file.read(65536)
        if entry.filename.endswith((".pkl", ".pickle")) or runs_code(head):
            return f"a ZIP archive that holds a pickle, {entry.filename[:60]!r} (as torch.save writes)"
        if object_array(head):
            return f"a ZIP archive that holds a pickle: {entry.filename[:60]!r} is a NumPy array of objects"
    found = f"it holds {name[:60]!r}" if name is not None else "it holds no schema.json"
    return f"a ZIP archive, but no skops file of a schema and plain arrays: {found}"


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Unpack no more than the directory says; the CRC is checked at the end."""
    with archive.open(entry) as file:
        found = file.read(entry.file_size)
        if len(found) != entry.file_size or file.read(1):
            raise NotInFormat(f"skops whose entry {entry.filename} has another size than the directory says")
    return found


def _check_array(name: str, data: bytes) -> None:
    """One array in NumPy's NPY form, of numbers or texts, exactly as long as its header says."""
    from numpy.lib import format as npy

    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings(action="error"):  # of headers that only old programs write
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file)
    except Exception as error:  # noqa: BLE001 - whatever a forged header makes Python's parser and NumPy stumble over
        raise NotInFormat(f"skops whose entry {name} is no NumPy array ({str(error)[:60]})") from None
    if dtype.hasobject:
        raise NotInFormat(f"skops whose entry {name} is a pickle: a NumPy array of objects")
    size = dtype.itemsize
    for one in shape:
        size *= one
    if size != len(data) - file.tell() or any(one < 0 for one in shape):
        raise NotInFormat(f"skops whose entry {name} has not the bytes that its shape asks for")


def _check_references(archive: zipfile.ZipFile) -> None:
    """skops reads an array again each time that the schema names it: bound what that adds up to, before it does."""
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if sizes["schema.json"] > MAX_SCHEMA:
        raise NotInFormat(f"skops with a schema of {sizes['schema.json']} bytes; allowed are {MAX_SCHEMA}")
    waiting, total = [strict_json(_read(archive, archive.getinfo("schema.json")))], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            file = value.get("file")
            total += sizes.get(file, 0) if isinstance(file, str) else 0
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    if total > MAX_UNPACKED:
        raise NotInFormat(f"an archive bomb: its schema names arrays of {total} bytes in all; allowed are {MAX_UNPACKED}")


def _check_types(data: bytes) -> None:
    """Ask skops, which makes no object and imports no type for that."""
    from skops.io import get_untrusted_types  # type: ignore[import-untyped]

    try:
        unknown = sorted(set(get_untrusted_types(data=data)) - REVIEWED)
    except Exception as error:  # noqa: BLE001 - whatever a forged schema makes skops stumble over
        raise NotInFormat(f"skops with a schema that cannot be read ({type(error).__name__}: {str(error)[:80]})") from None
    if unknown:
        raise NotInFormat(f"skops with types that nobody reviewed: {', '.join(unknown[:5])}")
