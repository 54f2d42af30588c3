"""A folder as an anchor: on another machine's file system, a write-once share, a disk that is taken away."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from airgate.audit.anchors.base import NOTE_LIMIT, AnchorError, file_name, refuse_length, refuse_other, size_of
from airgate.audit.anchors.url import AnchorUrl


class DirectoryAnchor:
    """One file a checkpoint, read-only, on the disk before `put` returns, visible only when it is whole."""

    def __init__(self, name: str, folder: Path) -> None:
        """`folder` must be there: made by us it could be the empty place where a disk should have been mounted."""
        self.name = name
        self._folder = folder

    @classmethod
    def of(cls, url: AnchorUrl) -> Self:
        """Take `file:///path`. Raises ConfigError."""
        url.allow(())
        return cls(url.name, url.folder())

    def put(self, size: int, note: bytes) -> bytes:
        """Write the note unless it is there; the receipt is b"". Raises AnchorError as Anchor.put says."""
        refuse_length(self.name, note)
        path = self._folder / file_name(size)
        with self._explained("write", path):
            if not os.path.lexists(path):
                self._write(path, note)
            refuse_other(self.name, size, self._read(path), note)
            # Also when it was there: the one who wrote it may have died before this line.
            _sync(path)
            _sync(self._folder)
        return b""

    def notes(self) -> dict[int, bytes]:
        """Read every note; files with other names are not ours. Raises AnchorError."""
        with self._explained("read", self._folder):
            sizes = sorted(size for path in self._folder.iterdir() if (size := size_of(path.name)) is not None)
        found = {size: self._held(size) for size in sizes}
        return {size: note for size, note in found.items() if note is not None}

    def check(self, size: int, note: bytes, receipt: bytes) -> None:
        """Compare with the file. Raises AnchorError."""
        refuse_other(self.name, size, self._held(size), note)

    def _held(self, size: int) -> bytes | None:
        path = self._folder / file_name(size)
        with self._explained("read", path):
            self._folder.stat()  # a folder that is gone is no folder without this note
            return self._read(path) if os.path.lexists(path) else None

    def _read(self, path: Path) -> bytes:
        # A link could point at what changes later, and a pipe would keep us waiting.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise AnchorError(f"the anchor {self.name}: {path.name} is no plain file; find out who put it there")
            return refuse_length(self.name, file.read(NOTE_LIMIT + 1))

    def _write(self, path: Path, note: bytes) -> None:
        partial = path.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
                file.write(note)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces what is there.
            os.link(partial, path)
        except FileExistsError:
            pass  # another process was first; the caller compares
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, verb: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AnchorError(f"the anchor {self.name}: cannot {verb} {path} ({error.strerror or error}). The folder must be "
                              "there, on a file system that has hard links, with space left, and this process must be allowed "
                              f"to {verb} in it; Airgate does not make it, for it may be the place of a disk that is not "
                              "mounted") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
