"""Artifacts under their SHA-256, `<root>/sha256/ab/abcdef...`. Nothing stored changes; all that is read is checked.

A model is a directory. Its files are stored one by one, its manifest last, under its own digest, which is the model's:
whoever can read the manifest can read every file that it names.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rfc8785
from pydantic import JsonValue

from airgate.contracts.calls import local_path
from airgate.contracts.step import ArtifactKind, ArtifactRef
from airgate.errors import ArtifactError
from airgate.steps.manifest import (
    digest_of,
    manifest,
    manifest_bytes,
    manifest_digest,
    parse_manifest,
    refuse_unless_plain,
)

__all__ = ["ArtifactStore", "DigestError", "digest_of", "manifest", "manifest_digest"]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DigestError(ArtifactError):
    """Bytes are not those that their digest names. Trying again gives the same bytes, so it does not help."""


class ArtifactStore:
    """A content-addressed store at an fsspec URL (file://, s3://, gs://, ...).

    Every `put_` gives the same ref for the same content, may be repeated and may run beside others. What could not be
    written whole is not visible.
    """

    def __init__(self, root: str) -> None:
        """`root` is a URL or a local path. Nothing is made or contacted yet."""
        self._folder = local_path(root)
        self.root = f"file://{self._folder}" if self._folder else root.rstrip("/")

    def put_file(self, path: Path, kind: ArtifactKind = "file", *, consume: bool = False) -> ArtifactRef:
        """Store one file; with `consume` the file is the caller's to give away, and is moved where that is cheaper.

        Raises ArtifactError when it is no plain file or the store cannot be written, DigestError when the store holds
        other bytes under its digest.
        """
        refuse_unless_plain(path)
        digest, size = digest_of(path), path.stat().st_size
        self._keep(path, digest, size, consume)
        return ArtifactRef(uri=self._uri(digest), digest=digest, kind=kind, size=size)

    def put_json(self, value: JsonValue) -> ArtifactRef:
        """Store a JSON value as its RFC 8785 bytes. Raises as put_file does, and ValueError for NaN or infinity."""
        return self._put_bytes(rfc8785.dumps(value), "json")

    def put_directory(self, path: Path) -> ArtifactRef:
        """Store a directory as a `model`; the ref's size is that of its files together.

        Raises ArtifactError when it is empty or holds a link or anything that is no file or folder; else as put_file.
        """
        files = manifest(path)
        if not files:
            raise ArtifactError(f"{path}: an empty directory cannot be stored. Write the model's files first.")
        total = 0
        for name, digest in files.items():
            size = (path / name).stat().st_size
            self._keep(path / name, digest, size, consume=False)
            total += size
        return self._put_bytes(manifest_bytes(files), "model").model_copy(update={"size": total})

    def fetch(self, ref: ArtifactRef, to: Path) -> Path:
        """Bring an artifact here and give its path: `to`, or for a single file of a local store the stored file itself.

        A model becomes the directory `to`. The caller must change nothing in what it is given.
        Raises DigestError that names uri, expected and found digest; ArtifactError when it is missing or elsewhere.
        """
        if ref.uri != self._uri(ref.digest):
            raise ArtifactError(f"{ref.uri}: not of this store, where {ref.digest} is {self._uri(ref.digest)}. All "
                                "steps of a run must use the same AIRGATE_ARTIFACT_STORE.")
        if ref.kind != "model":
            return self._fetch_file(ref.digest, to)
        listing = self._fetch_file(ref.digest, to.with_name(f".{to.name}.manifest"))
        for name, digest in parse_manifest(ref.uri, listing.read_bytes()).items():
            self._copy_out(digest, to / name)
        return to

    def fetch_copy(self, ref: ArtifactRef, to: Path) -> Path:
        """Like `fetch` for a single file, but what it gives is always `to`, which the caller may change."""
        path = self.fetch(ref, to)
        if path != to:
            with _writing(str(to), ref.size):
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)
        return to

    def _put_bytes(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        uri = self._uri(digest)
        if self._folder is None:
            with _writing(uri, len(data)):
                filesystem, key = _remote(uri)
                if not filesystem.exists(key):
                    filesystem.pipe_file(key, data)
        elif not self._holds(digest):
            with _writing(uri, len(data)), _slot(self._folder, self._path(digest)) as slot:
                slot.write_bytes(data)
        return ArtifactRef(uri=uri, digest=digest, kind=kind, size=len(data))

    def _keep(self, path: Path, digest: str, size: int, consume: bool) -> None:
        """Put one file under its digest unless it is there."""
        uri = self._uri(digest)
        if self._folder is None:
            with _writing(uri, size):
                filesystem, key = _remote(uri)
                if not filesystem.exists(key) or filesystem.size(key) != size:
                    filesystem.put_file(str(path), key)
        elif not self._holds(digest):
            with _writing(uri, size), _slot(self._folder, self._path(digest)) as slot:
                if not (consume and _moved(path, slot)):
                    shutil.copyfile(path, slot)
                    # The file may have changed between its reading for the digest and for the copy.
                    _check(str(path), digest, digest_of(slot))

    def _holds(self, digest: str) -> bool:
        """Whether a local store has the content. Other bytes in its place are a fault or an attack: never repaired."""
        if not self._path(digest).exists():
            return False
        with _reading(self._uri(digest)):
            _check(self._uri(digest), digest, digest_of(self._path(digest)))
        return True

    def _fetch_file(self, digest: str, to: Path) -> Path:
        uri = self._uri(digest)
        if self._folder is not None:
            with _reading(uri):
                _check(uri, digest, digest_of(self._path(digest)))
            return self._path(digest)
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{uuid.uuid4().hex}")
        try:
            with _reading(uri):
                filesystem, key = _remote(uri)
                filesystem.get_file(key, str(partial))
            _check(uri, digest, digest_of(partial))
            return partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)

    def _copy_out(self, digest: str, to: Path) -> None:
        """Put one file of a model at its own path: a second name of the stored file where that is possible."""
        to.parent.mkdir(parents=True, exist_ok=True)
        path = self._fetch_file(digest, to)
        if path == to:
            return
        try:
            os.link(path, to)
        except OSError:  # another file system, or one without links
            with _writing(str(to), path.stat().st_size):
                shutil.copyfile(path, to)

    def _uri(self, digest: str) -> str:
        text = digest.removeprefix("sha256:")
        return f"{self.root}/sha256/{text[:2]}/{text}"

    def _path(self, digest: str) -> Path:
        text = digest.removeprefix("sha256:")
        return (self._folder or Path()) / "sha256" / text[:2] / text


def _check(uri: str, expected: str, found: str) -> None:
    if expected != found:
        raise DigestError(f"{uri}: expected {expected}, found {found}. They changed after they were stored: do not use "
                          "them. Find out what changed them, remove the file, and run the step that made them again.")


def _remote(uri: str) -> tuple[Any, str]:
    import fsspec  # a local store does without it

    filesystem, key = fsspec.url_to_fs(uri)
    return filesystem, key


def _moved(path: Path, to: Path) -> bool:
    """Move a file within its file system; False where the store is on another one."""
    try:
        path.replace(to)
    except OSError:
        return False
    return True


@contextmanager
def _slot(root: Path, target: Path) -> Iterator[Path]:
    """Give a hidden path in the store to write to; it becomes `target`, whole and durable, when the block ends well."""
    partial = root / "partial" / uuid.uuid4().hex
    partial.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.chmod(0o444)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(f"{uri}: not in the store. Was it removed? Run the step that made it again.") from None
    except ArtifactError:
        raise
    except Exception as error:  # each kind of store has its own errors, and few of them are OSErrors
        raise ArtifactError(f"{uri}: {_reason(error)}. Check that this process may read the artifact store.") from error


@contextmanager
def _writing(uri: str, size: int) -> Iterator[None]:
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:
        hint = "Check that the artifact store is there and that this process may write it."
        if isinstance(error, OSError) and error.errno in FULL:
            hint = "Make room there, or raise the quota."
        raise ArtifactError(f"{uri}: cannot be written: {_reason(error)}; {size} bytes are needed. {hint} Nothing "
                            "half-written was left.") from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
