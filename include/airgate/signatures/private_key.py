"""Private keys from a file or an environment variable, never from a database. Ed25519 (RFC 8032), in PEM (PKCS #8).

A Kubernetes secret reaches a process as one of these two: mounted as a file, or as a variable by `secretKeyRef`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgate.errors import ConfigError, nearest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SOURCES = ("file", "env")


def load_ed25519(source: str, setting: str, made_by: str) -> "Ed25519PrivateKey":
    """Read the key that `setting` names as `source`: 'file:PATH' or 'env:VARIABLE'.

    `made_by` says what makes a key, for the message. Raises ConfigError, which shows nothing of the key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = load_any(source, setting, made_by)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{setting}: {source} holds a key that is not Ed25519; {made_by}")
    return key


def load_any(source: str, setting: str, made_by: str) -> Any:
    """Read a private key of any kind. Raises ConfigError as `load_ed25519` does."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = read_source(source, setting)
    try:
        return load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{setting}: {source} holds no private key in PEM without a password; {made_by}") from None


def read_source(source: str, setting: str) -> bytes:
    """Give the bytes that 'file:PATH' or 'env:VARIABLE' names. Raises ConfigError."""
    kind, separator, place = source.partition(":")
    if not separator or kind not in _SOURCES:
        # Not the text itself: it might be the key.
        raise ConfigError(f"{setting} must be file:PATH or env:VARIABLE; {nearest(kind if separator else '', _SOURCES)}")
    if kind == "env":
        if place not in os.environ:
            raise ConfigError(f"{setting} names the variable {place}, which is not set")
        return os.environ[place].encode()
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting} names the file {place}, which cannot be read: {error.strerror}") from None


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
