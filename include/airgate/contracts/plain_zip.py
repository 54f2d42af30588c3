"""The file format of bundles: a ZIP archive in its plainest form, written and read here with a bound on everything.

Any tool opens what is written. What is read must be in exactly this form, and then no byte of it is free: files are stored
uncompressed and one after another from the first byte on, names are plain, dates and attributes fixed, nothing stands before,
between or after. So there is no archive bomb, no link, no second file of a name, no name that leads out of a folder, and no two
programs see different contents. Layout: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central header),
4.3.16 (end record); without ZIP64, so that an archive has less than 4 GiB.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from airgate.errors import BundleError

MAX_BYTES = 2**32 - 1
MAX_FILES = 4096
MAX_NAME = 200
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_CHUNK = 1 << 20
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_STORED, _DEFLATED = 0, 8
_NEEDS, _MADE_BY = 10, 3 << 8 | 10  # version 1.0 of the format; on Unix, so that the attributes are a file's mode
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01, the first day that a ZIP archive knows
_PLAIN_FILE = 0o100644 << 16
_TYPE, _LINK, _FOLDER = 0o170000 << 16, 0o120000 << 16, 0o040000 << 16


@dataclass(frozen=True)
class Entry:
    """One file of an archive. `start` is where its header begins; `size` is in bytes, `crc` its CRC-32."""

    name: str
    size: int
    crc: int
    start: int

    @property
    def data(self) -> int:
        """Where its bytes begin."""
        return self.start + _LOCAL.size + len(self.name)

    @property
    def end(self) -> int:
        """Where what follows begins."""
        return self.data + self.size

    def local(self) -> bytes:
        """The header before its bytes."""
        return _LOCAL.pack(b"PK\3\4", _NEEDS, 0, _STORED, _TIME, _DATE, self.crc, self.size, self.size,
                           len(self.name), 0) + self.name.encode("ascii")

    def central(self) -> bytes:
        """Its header in the central directory."""
        return _CENTRAL.pack(b"PK\1\2", _MADE_BY, _NEEDS, 0, _STORED, _TIME, _DATE, self.crc, self.size, self.size,
                             len(self.name), 0, 0, 0, 0, _PLAIN_FILE, self.start) + self.name.encode("ascii")


def write(path: Path, files: Iterable[tuple[str, bytes | Path]]) -> list[Entry]:
    """Write an archive of (name, contents), in this order; give its entries. It appears when it is whole.

    Raises BundleError for what the format cannot hold, OSError where a file cannot be read or written; an archive that was
    there is then as it was.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:100]}.", delete=False) as file:
        place = Path(file.name)
        try:
            entries = [_put(file, name, contents) for name, contents in files]
            _refuse_names([entry.name for entry in entries])
            directory = b"".join(entry.central() for entry in entries)
            start = file.tell()
            _refuse_size(start + len(directory) + _END.size)
            file.write(directory + _end(len(entries), len(directory), start))
            file.flush()
            os.fsync(file.fileno())
            place.replace(path)
        finally:
            place.unlink(missing_ok=True)
    return entries


class Archive:
    """An archive that is open for reading and in form; its contents are not read yet."""

    def __init__(self, file: IO[bytes], entries: Mapping[str, Entry]) -> None:
        self._file, self.entries = file, entries

    def chunks(self, name: str) -> Iterator[bytes]:
        """Give a file's bytes, 1 MiB at a time. Raises BundleError when there is none, or when they have another CRC."""
        entry = self._entry(name)
        left, crc = entry.size, 0
        while left:
            self._file.seek(entry.end - left)
            chunk = self._file.read(min(left, _CHUNK))
            if not chunk:
                raise BundleError("truncated", f"{name} ends {left} bytes too early: the file was cut while it was read")
            left, crc = left - len(chunk), zlib.crc32(chunk, crc)
            yield chunk
        if crc != entry.crc:
            raise BundleError("tampered", f"the bytes of {name} have CRC-32 {crc:08x}, the archive says {entry.crc:08x}: they "
                              "were changed, or the medium is damaged. Ask for the bundle again")

    def read(self, name: str, limit: int) -> bytes:
        """Give a small file whole. Raises BundleError for one of more than `limit` bytes, and as `chunks` does."""
        size = self._entry(name).size
        if size > limit:
            raise BundleError("too large", f"{name} has {size} bytes; allowed are {limit}")
        return b"".join(self.chunks(name))

    def digest(self, name: str) -> str:
        """SHA-256 of a file's bytes, as 'sha256:...', in little memory. Raises as `chunks` does."""
        found = sha256()
        for chunk in self.chunks(name):
            found.update(chunk)
        return f"sha256:{found.hexdigest()}"

    def extract(self, name: str, to: Path) -> str:
        """Write a file to the new path `to` and give the digest of what was written. Raises as `chunks` does, and OSError."""
        found = sha256()
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("xb") as file:
            for chunk in self.chunks(name):
                found.update(chunk)
                file.write(chunk)
        return f"sha256:{found.hexdigest()}"

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise BundleError("tampered", f"{name} is not in the bundle, which has {len(self.entries)} files")
        return self.entries[name]


@contextmanager
def reading(path: Path) -> Iterator[Archive]:
    """Open an archive. Raises BundleError unless it is in exactly the form that `write` gives, OSError if it cannot be read."""
    with path.open("rb") as file:
        yield Archive(file, {entry.name: entry for entry in _entries(file)})


def _put(file: IO[bytes], name: str, contents: bytes | Path) -> Entry:
    """Write one file; its header last, when size and CRC are known."""
    _refuse_name(name)
    start, crc, size = file.tell(), 0, 0
    file.seek(_LOCAL.size + len(name), os.SEEK_CUR)
    for chunk in [contents] if isinstance(contents, bytes) else _chunks_of(contents):
        file.write(chunk)
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
        _refuse_size(start + size)
    end = file.tell()
    entry = Entry(name, size, crc, start)
    file.seek(start)
    file.write(entry.local())
    file.seek(end)
    return entry


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _end(count: int, size: int, start: int) -> bytes:
    return _END.pack(b"PK\5\6", 0, 0, count, count, size, start, 0)


def _entries(file: IO[bytes]) -> list[Entry]:
    """Read the headers; nothing is left over. In the order of what costs least, so that little is read of a bad file."""
    size = file.seek(0, os.SEEK_END)
    _refuse_size(size)
    count, start = _directory(file, size)
    file.seek(start)
    rest = file.read(size - _END.size - start)
    entries: list[Entry] = []
    for _ in range(count):
        entry, rest = _central(rest)
        entries.append(entry)
    if rest:
        raise _odd(f"{len(rest)} bytes stand between its directory and its end")
    _refuse_names([entry.name for entry in entries])
    expected = 0
    for entry in entries:
        if entry.start != expected:
            raise _odd(f"{entry.name} begins at byte {entry.start}, not at {expected}: something is hidden between the files, "
                       "or two of them share bytes")
        expected = entry.end
        file.seek(entry.start)
        # What lies beyond the directory's start cannot be equal, so this bounds sizes too.
        if entry.end > start or file.read(entry.data - entry.start) != entry.local():
            raise _odd(f"the header before {entry.name} differs from the one in the directory")
    if expected != start:
        raise _odd(f"its directory begins at byte {start}, not at {expected}")
    return entries


def _directory(file: IO[bytes], size: int) -> tuple[int, int]:
    """Number of files and start of the central directory, from the end record, which is the last thing in the file."""
    file.seek(max(0, size - _END.size))
    last = file.read(_END.size)
    if len(last) < _END.size or not last.startswith(b"PK\5\6"):
        raise BundleError("truncated", f"the file of {size} bytes does not end as a bundle does: it was cut off, something was "
                          "added at its end, or it is no bundle. Copy it again and compare the sizes")
    _, _, _, _, count, length, start, _ = _END.unpack(last)
    if count > MAX_FILES:
        raise BundleError("too large", f"it says that it holds {count} files; allowed are {MAX_FILES}")
    if last != _end(count, length, start) or start + length + _END.size != size:
        raise _odd("its end record does not fit the file")
    if length > MAX_FILES * (_CENTRAL.size + MAX_NAME):
        raise BundleError("too large", f"its directory has {length} bytes; allowed are {MAX_FILES * (_CENTRAL.size + MAX_NAME)}")
    return count, start


def _central(data: bytes) -> tuple[Entry, bytes]:
    """Read one header of the directory; give the entry and the rest. The common attacks are told apart here."""
    if len(data) < _CENTRAL.size or not data.startswith(b"PK\1\2"):
        raise _odd("its directory is cut off, or lists fewer files than it says")
    _, _, _, flags, method, _, _, crc, packed, size, length, extra, comment, _, _, mode, start = _CENTRAL.unpack_from(data)
    name = data[_CENTRAL.size : _CENTRAL.size + length].decode("ascii", "backslashreplace")
    _refuse_name(name)
    if mode & _TYPE in (_LINK, _FOLDER):
        what = "link" if mode & _TYPE == _LINK else "folder"
        raise BundleError("unsafe name", f"{name} is a {what}; a bundle holds plain files only")
    if method != _STORED:
        how = "compressed" if method == _DEFLATED else f"packed by method {method}"
        raise BundleError("too large", f"{name} is {how} and would unfold from {packed} to {size} bytes. Files in a bundle are "
                          "stored as they are, so that none can be larger than the bundle itself")
    if flags & 1:
        raise _odd(f"{name} is encrypted")
    entry = Entry(name, size, crc, start)
    header = entry.central()
    if not data.startswith(header):
        raise _odd(f"the directory's entry of {name} is not as Airgate writes it"
                   + (", but has an extra field or a comment" if extra or comment else ""))
    return entry, data[len(header) :]


def _refuse_name(name: str) -> None:
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise BundleError("unsafe name", f"it holds a file of the name {name[:80]!r}. Allowed: relative names of up to "
                          f"{MAX_NAME} letters, digits, '.', '_', '-' and '/', of which no part begins with '.' or '-'")


def _refuse_names(names: list[str]) -> None:
    if len(names) > MAX_FILES:
        raise BundleError("too large", f"it holds {len(names)} files; allowed are {MAX_FILES}")
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise BundleError("unsafe name", f"it holds {name} twice (where upper and lower case are one)")
        seen.add(name.casefold())
    clash = next((name for name in names for folder in _folders(name.casefold()) if folder in seen), None)
    if clash:
        raise BundleError("unsafe name", f"{clash} lies in a folder that is a file of the bundle too")


def _folders(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _refuse_size(size: int) -> None:
    if size > MAX_BYTES:
        raise BundleError("too large", f"it has more than {MAX_BYTES} bytes (4 GiB), which is all that a bundle can hold")


def _odd(what: str) -> BundleError:
    return BundleError("tampered", f"{what}: the file was changed, or Airgate did not write it. Ask for the bundle again")
