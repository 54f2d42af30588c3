"""The store's encrypted files, `<uri>.enc` beside where the plain file would lie. See airgate.encryption.at_rest."""

import hashlib
import os
import uuid
from pathlib import Path
from typing import BinaryIO

from airgate.contracts import small_files
from airgate.encryption.at_rest import KEYS, SUFFIX, AtRest, no_keys
from airgate.encryption.envelope import EnvelopeError, sealed_size
from airgate.encryption.keys import KeyService
from airgate.errors import ConfigError, DigestError
from airgate.steps.store_files import check, opened, reading, slot, writing


class SealedFiles:
    """What lies encrypted in one store. `keys` is None in a process that has none; then nothing can be read or written."""

    def __init__(self, root: str, keys: KeyService | None) -> None:
        """`root` is the store's URL. Nothing is contacted yet."""
        self._root = root
        self._at_rest = AtRest(root, keys) if keys is not None else None

    @property
    def active(self) -> bool:
        """Whether this process has keys, and so writes encrypted."""
        return self._at_rest is not None

    def refuse_plain(self, uri: str) -> None:
        """Raise ConfigError when a process without keys would write plain bytes into a store that is encrypted."""
        if small_files.exists(f"{self._root}/{KEYS}"):
            raise ConfigError(f"{uri}: this store is encrypted, and this process has no keys to write to it. Set "
                              "AIRGATE_STORE_KEYS (file:PATH, env:VARIABLE or kms:...) as it is set for the other processes.")

    def has(self, uri: str) -> bool:
        """Whether an artifact lies there encrypted."""
        return small_files.exists(uri + SUFFIX)

    def holds(self, uri: str, digest: str, size: int) -> bool:
        """Whether the content is there. A local store's is decrypted and compared, as plain files are; of others the size is."""
        if not self.has(uri):
            return False
        if small_files.local_path(uri) is None:
            filesystem, key = small_files.remote(uri + SUFFIX)
            return bool(filesystem.size(key) == sealed_size(size))
        self._copy_out(uri, digest, None)
        return True

    def put(self, source: BinaryIO, uri: str, digest: str, name: str) -> None:
        """Encrypt all of `source` and make it visible at once. `name` is the source's, for errors.

        Raises DigestError when it was changed after its digest was taken.
        """
        read = _Hashed(source)
        with slot(self._root, uri + SUFFIX) as path:
            with path.open("wb") as target:
                self._keys_for(uri).encrypt(read, target, digest)
            check(name, digest, read.finish())

    def fetch(self, uri: str, digest: str, to: Path) -> Path:
        """Decrypt an artifact to `to`, which no other account may read.

        Raises DigestError when its bytes are others, WrongKeyError when the keys here do not open it.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{uuid.uuid4().hex}")
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                self._copy_out(uri, digest, target, str(to))
            return partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)

    def _copy_out(self, uri: str, digest: str, target: BinaryIO | None, to: str = "") -> None:
        plain = _Hashed(target, to)
        try:
            with reading(uri), opened(uri + SUFFIX) as source:
                self._keys_for(uri).decrypt(source, plain, digest, uri)
        except EnvelopeError as error:
            raise DigestError(str(error)) from None
        check(uri, digest, plain.finish())

    def _keys_for(self, uri: str) -> AtRest:
        if self._at_rest is None:
            raise no_keys(uri)
        return self._at_rest


class _Hashed:
    """A file whose bytes are hashed as they are read or written; without a file they are hashed only."""

    def __init__(self, file: BinaryIO | None, name: str = "") -> None:
        self._file = file
        self._name = name
        self._hash = hashlib.sha256()
        self._size = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size) if self._file else b""
        self._hash.update(data)
        return data

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        if self._file:
            # An error of this file is none of the store that is read meanwhile.
            with writing(self._name, self._size):
                self._file.write(data)

    def finish(self) -> str:
        """Write what is still buffered and give the digest."""
        if self._file and self._size:
            with writing(self._name, self._size):
                self._file.flush()
        return "sha256:" + self._hash.hexdigest()
