"""The key that signs checkpoints: Ed25519 (RFC 8032), from a file or an environment variable, never from the database.

A Kubernetes secret reaches a process as one of these two: mounted as a file, or as a variable by `secretKeyRef`.
"""

import os
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airgate.audit.verifier import VerifierKey
from airgate.errors import ConfigError, nearest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SOURCES = ("file", "env")
_MADE_BY = "`airgate audit keygen FILE` makes one"


@dataclass(frozen=True)
class Signer:
    """A private key and the name that its signatures carry."""

    public: VerifierKey
    _private: "Ed25519PrivateKey" = field(repr=False)

    def signature_line(self, text: bytes) -> bytes:
        """Sign a note's text and give the line that goes below it (C2SP signed-note)."""
        signature = self.public.hash + self._private.sign(text)
        return f"\u2014 {self.public.name} {b64encode(signature).decode()}\n".encode()


def load(source: str | None, name: str) -> Signer:
    """Read the key that AIRGATE_AUDIT_KEY names: 'file:PATH' or 'env:VARIABLE', in PEM (PKCS #8, not encrypted).

    `name` is the log's origin. Raises ConfigError, which shows nothing of the key, when there is none that can sign.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = _text(source)
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"AIRGATE_AUDIT_KEY: {source} holds no private key in PEM without a password; {_MADE_BY}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"AIRGATE_AUDIT_KEY: {source} holds a key that is not Ed25519; {_MADE_BY}")
    return signer_of(key, name)


def signer_of(key: "Ed25519PrivateKey", name: str) -> Signer:
    """Make a signer of a private key. Raises ConfigError for a name that no note can carry."""
    if not name or any(char.isspace() or char == "+" for char in name):
        raise ConfigError(f"AIRGATE_AUDIT_ORIGIN is '{name}'; it names the log in every checkpoint: some text without spaces "
                          "and '+', like a URL without scheme: audit.example.org/airgate")
    return Signer(VerifierKey.of(name, key.public_key().public_bytes_raw()), key)


def write_new(path: Path) -> None:
    """Draw a key and write it in PEM, mode 0600. Raises ConfigError where a file is there already, which is left alone."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    text = Ed25519PrivateKey.generate().private_bytes(*form)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; a key is never overwritten. Name another file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _text(source: str | None) -> bytes:
    if not source:
        raise ConfigError("no key signs the audit log's checkpoints: set AIRGATE_AUDIT_KEY to file:PATH or env:VARIABLE; "
                          f"{_MADE_BY}")
    kind, separator, place = source.partition(":")
    if not separator or kind not in _SOURCES:
        # Not the text itself: it might be the key.
        raise ConfigError(f"AIRGATE_AUDIT_KEY must be file:PATH or env:VARIABLE; {nearest(kind if separator else '', _SOURCES)}")
    if kind == "env":
        if place not in os.environ:
            raise ConfigError(f"AIRGATE_AUDIT_KEY names the variable {place}, which is not set")
        return os.environ[place].encode()
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise ConfigError(f"AIRGATE_AUDIT_KEY names the file {place}, which cannot be read: {error.strerror}") from None
