"""Artifacts under their SHA-256, `<root>/sha256/ab/abcdef...`. Nothing stored changes; all that is read is checked.

A model is a directory. Its files are stored one by one, its manifest last, under its own digest, which is the model's:
whoever can read the manifest can read every file that it names.

With AIRGATE_STORE_KEYS set, files are written encrypted (airgate.encryption); those written plain before are still read.
Digests are those of the plain bytes either way.
"""

import os
import shutil
import uuid
from functools import cached_property
from io import BytesIO
from pathlib import Path

import rfc8785
from pydantic import JsonValue

from airgate.contracts import digests
from airgate.contracts.small_files import local_path, remote
from airgate.contracts.step import ArtifactKind, ArtifactRef
from airgate.encryption.at_rest import no_keys
from airgate.encryption.keys import KeyService, from_settings
from airgate.errors import ArtifactError, MissingArtifactError
from airgate.steps.manifest import (
    digest_of,
    manifest,
    manifest_bytes,
    manifest_digest,
    parse_manifest,
    refuse_unless_plain,
)
from airgate.steps.sealed import SealedFiles
from airgate.steps.store_files import check, reading, slot, writing

__all__ = ["ArtifactStore", "digest_of", "manifest", "manifest_digest"]


class ArtifactStore:
    """A content-addressed store at an fsspec URL (file://, s3://, gs://, ...).

    Every `put_` gives the same ref for the same content, may be repeated and may run beside others. What could not be
    written whole is not visible.
    """

    def __init__(self, root: str, keys: KeyService | None = None) -> None:
        """`root` is a URL or a local path, `keys` those of AIRGATE_STORE_KEYS unless given. Nothing is made or contacted yet."""
        self._folder = local_path(root)
        self.root = f"file://{self._folder}" if self._folder else root.rstrip("/")
        self._given_keys = keys

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
        """Bring an artifact here and give its path: `to`, or for a single file of a local, plain store the stored file itself.

        A model becomes the directory `to`. The caller must change nothing in what it is given, and see to it that `to`, which
        is plain, goes when the step ends.
        Raises DigestError that names uri, expected and found digest; ArtifactError when it is missing or elsewhere;
        WrongKeyError when it is encrypted and the keys here do not open it.
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
            with writing(str(to), ref.size):
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)
        return to

    @cached_property
    def _sealed(self) -> SealedFiles:
        return SealedFiles(self.root, self._given_keys or from_settings())

    def _put_bytes(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        digest = digests.of_bytes(data)
        uri = self._uri(digest)
        with writing(uri, len(data)):
            if not self._holds(digest, len(data)):
                if self._sealed.active:
                    self._sealed.put(BytesIO(data), uri, digest, uri)
                else:
                    with slot(self.root, uri) as path:
                        path.write_bytes(data)
        return ArtifactRef(uri=uri, digest=digest, kind=kind, size=len(data))

    def _keep(self, path: Path, digest: str, size: int, consume: bool) -> None:
        """Put one file under its digest unless it is there."""
        uri = self._uri(digest)
        with writing(uri, size):
            if self._holds(digest, size):
                return
            if self._sealed.active:
                with path.open("rb") as file:
                    self._sealed.put(file, uri, digest, str(path))
                if consume:
                    path.unlink()
            elif self._folder is None:
                filesystem, key = remote(uri)
                filesystem.put_file(str(path), key)
            else:
                self._keep_plain(path, uri, digest, consume)

    def _keep_plain(self, path: Path, uri: str, digest: str, consume: bool) -> None:
        with slot(self.root, uri) as place:
            if not (consume and _moved(path, place)):
                shutil.copyfile(path, place)
                # The file may have changed between its reading for the digest and for the copy.
                check(str(path), digest, digest_of(place))

    def _holds(self, digest: str, size: int) -> bool:
        """Whether the store has the content. Other bytes in its place are a fault or an attack: never repaired.

        All of a local file is read for that; of another store's the size is asked.
        """
        uri = self._uri(digest)
        if self._sealed.active:
            if self._sealed.holds(uri, digest, size):
                return True
        else:
            self._sealed.refuse_plain(uri)
        if self._folder is None:
            filesystem, key = remote(uri)
            return bool(filesystem.exists(key) and filesystem.size(key) == size)
        if not self._path(digest).exists():
            return False
        with reading(uri):
            check(uri, digest, digest_of(self._path(digest)))
        return True

    def _fetch_file(self, digest: str, to: Path) -> Path:
        uri = self._uri(digest)
        if self._folder is not None and self._path(digest).exists():
            with reading(uri):
                check(uri, digest, digest_of(self._path(digest)))
            return self._path(digest)
        if self._sealed.active and self._sealed.has(uri):
            return self._sealed.fetch(uri, digest, to)
        try:
            return self._download(uri, digest, to)
        except MissingArtifactError:
            if self._sealed.has(uri):
                raise no_keys(uri) from None
            raise

    def _download(self, uri: str, digest: str, to: Path) -> Path:
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{uuid.uuid4().hex}")
        try:
            with reading(uri):
                filesystem, key = remote(uri)
                filesystem.get_file(key, str(partial))
            check(uri, digest, digest_of(partial))
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
            with writing(str(to), path.stat().st_size):
                shutil.copyfile(path, to)

    def _uri(self, digest: str) -> str:
        return digests.place_in(self.root, digest)

    def _path(self, digest: str) -> Path:
        return local_path(self._uri(digest)) or Path()


def _moved(path: Path, to: Path) -> bool:
    """Move a file within its file system; False where the store is on another one."""
    try:
        path.replace(to)
    except OSError:
        return False
    return True
