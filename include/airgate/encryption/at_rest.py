"""Artifacts encrypted at rest: `<uri>.enc` is an envelope, `<store>/keys/ab/<id>.json` its wrapped data key.

The digest that names an artifact stays that of its plain bytes, so signatures, manifests and deduplication hold. A
rotation rewrites the small files under `keys/` and nothing else.
"""

from __future__ import annotations

import base64
import os
from io import BytesIO
from typing import Literal

from pydantic import Base64Bytes, ValidationError

from airgate.contracts import small_files
from airgate.contracts.base import Contract
from airgate.encryption import envelope
from airgate.encryption.envelope import EnvelopeError, Sink, Source
from airgate.encryption.keys import KeyService, WrongKeyError, from_settings
from airgate.errors import MissingArtifactError

SUFFIX = ".enc"
KEYS = "keys"


class WrappedKey(Contract):
    """A data key as it is stored: wrapped, with the name of the key that wrapped it."""

    schema_version: Literal[1] = 1
    key: str
    wrapped: Base64Bytes


class AtRest:
    """Encrypts what goes to one store and decrypts what comes from it. `root` is the store's URL or path."""

    def __init__(self, root: str, keys: KeyService) -> None:
        """Nothing is contacted yet."""
        self.root = root.rstrip("/")
        self.keys = keys

    def encrypt(self, source: Source, target: Sink, about: str) -> None:
        """Encrypt `source` under a new data key, which is kept, wrapped, before the first byte of `target` is written.

        `about` (the artifact's digest) is bound to the bytes. Raises ArtifactError when the store or the KMS does not take it.
        """
        header, data_key = envelope.new_header(), os.urandom(envelope.KEY_BYTES)
        name = envelope.key_id(header)
        small_files.write_bytes(key_url(self.root, name), wrapped_key(self.keys, data_key, name))
        envelope.encrypt(source, target, data_key, header, about.encode())

    def decrypt(self, source: Source, target: Sink, about: str, where: str) -> None:
        """Write the plain bytes to `target`; what was written when it raises is to be thrown away.

        `where` names the artifact in errors. Raises EnvelopeError when the bytes were changed, WrongKeyError when the keys
        here do not open them, ArtifactError when the wrapped data key or the KMS is not there.
        """
        try:
            header = envelope.read_header(source)
            name = envelope.key_id(header)
            data_key = unwrapped(self.keys, self._wrapped(name, where), name)
            envelope.decrypt(source, target, data_key, header, about.encode())
        except EnvelopeError as error:
            raise EnvelopeError(f"{where}{SUFFIX}: {error}. Do not use it. Find out what changed it, remove the file, and run "
                                "the step that made it again.") from None
        except WrongKeyError as error:
            raise WrongKeyError(f"{where} cannot be decrypted: {error}.") from None

    def _wrapped(self, data_key_id: str, where: str) -> bytes:
        url = key_url(self.root, data_key_id)
        try:
            return small_files.read_bytes(url)
        except MissingArtifactError:
            raise MissingArtifactError(
                f"{where} cannot be decrypted: its wrapped data key {url} is gone. Restore that file from a backup of the store, "
                f"or remove {where}{SUFFIX} and run the step that made it again.") from None


def key_url(root: str, data_key_id: str) -> str:
    """Where a store keeps a wrapped data key."""
    return f"{root}/{KEYS}/{data_key_id[:2]}/{data_key_id}.json"


def wrapped_key(keys: KeyService, data_key: bytes, data_key_id: str) -> bytes:
    """A data key as the file that is stored of it. Raises ArtifactError when a KMS does not answer."""
    wrapped = base64.b64encode(keys.wrap(data_key, data_key_id))
    return WrappedKey(key=keys.current, wrapped=wrapped).model_dump_json().encode()


def unwrapped(keys: KeyService, document: bytes, data_key_id: str) -> bytes:
    """The data key out of its file. Raises WrongKeyError, EnvelopeError when the file is none, ArtifactError of a KMS."""
    found = read_wrapped(document, data_key_id)
    data_key = keys.unwrap(found.key, found.wrapped, data_key_id)
    if len(data_key) != envelope.KEY_BYTES:
        raise EnvelopeError(f"its data key {data_key_id[:16]} has {len(data_key)} bytes instead of {envelope.KEY_BYTES}")
    return data_key


def read_wrapped(document: bytes, data_key_id: str) -> WrappedKey:
    """Parse a wrapped key's file. Raises EnvelopeError."""
    try:
        return WrappedKey.model_validate_json(document)
    except ValidationError:
        raise EnvelopeError(f"{KEYS}/{data_key_id[:2]}/{data_key_id}.json holds no wrapped data key: it was changed, or a newer "
                            "release wrote it. Restore that file from a backup of the store") from None


def no_keys(uri: str) -> WrongKeyError:
    """The error for an encrypted artifact in a process without keys."""
    return WrongKeyError(f"{uri} is stored encrypted, and this process has no keys. Set AIRGATE_STORE_KEYS (file:PATH, "
                         "env:VARIABLE or kms:...) as it was set where the artifact was written.")


def read_bytes(uri: str, keys: KeyService | None = None) -> bytes:
    """Give the bytes of a single-file artifact as it was before it was encrypted, if it was. The caller compares the digest.

    `keys` are those of AIRGATE_STORE_KEYS unless given. Raises MissingArtifactError when nothing is there, EnvelopeError when
    encrypted bytes were changed, WrongKeyError when the keys here do not open them, ArtifactError when they cannot be read.
    """
    root, _, name = uri.rpartition("/sha256/")
    if not root or not small_files.exists(uri + SUFFIX):
        return small_files.read_bytes(uri)
    keys = keys or from_settings()
    if keys is None:
        raise no_keys(uri)
    plain = BytesIO()
    AtRest(root, keys).decrypt(BytesIO(small_files.read_bytes(uri + SUFFIX)), plain, f"sha256:{name[-64:]}", uri)
    return plain.getvalue()
