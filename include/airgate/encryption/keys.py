"""The keys that wrap data keys, from a file, an environment variable or a key management service (KMS).

AIRGATE_STORE_KEYS names them, never holds them: `file:PATH`, `env:VARIABLE` or `kms:MODULE:FACTORY?ARGUMENT`; several are
separated by commas. The first key of the first source wraps what is written; all of them open what was written before. A
Kubernetes secret is a file or a variable to a process.

A file or variable holds one key a line, name and 32 random bytes in base64: `2026-01 q83vEjR...=`. Empty lines and lines that
begin with # may stand between.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from airgate import settings
from airgate.encryption.envelope import KEY_BYTES
from airgate.errors import ConfigError, nearest

SOURCES = ("file", "env", "kms")
# Steps see few variables (contracts/fork_protocol.py); these are among them.
VARIABLE_PREFIX = "AIRGATE_STORE_KEY"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NONCE_BYTES = 12
_MADE_BY = "`airgate store keygen FILE NAME` makes one"


class WrongKeyError(ConfigError):
    """A data key cannot be opened: the key that wrapped it is not here, or is another one."""


@runtime_checkable
class KeyService(Protocol):
    """Who wraps data keys: the keys of a file, or a cloud's KMS, which needs to offer no more than this.

    `data_key_id` must be bound to what is wrapped, so that one wrapped key cannot stand for another.
    """

    @property
    def current(self) -> str:
        """Name of the key that wraps now."""

    def holds(self, name: str) -> bool:
        """Whether this service has, or may have, the key of that name."""

    def wrap(self, data_key: bytes, data_key_id: str) -> bytes:
        """Wrap a data key with the current key. Raises ArtifactError when the service cannot be reached."""

    def unwrap(self, name: str, wrapped: bytes, data_key_id: str) -> bytes:
        """Give the data key. Raises WrongKeyError when the key does not open it, ArtifactError when nobody answers."""


class KeyRing:
    """Named keys of 32 bytes in this process's memory. Wrapping is AES-256-GCM with a random nonce, which goes first.

    One key may wrap 2**32 data keys (NIST SP 800-38D, 8.3); draw a new one long before.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """The first of `keys` is the current one. There must be one at least."""
        self._keys = dict(keys)
        self.current = next(iter(self._keys))

    def __repr__(self) -> str:
        """Names only."""
        return f"KeyRing({', '.join(self._keys)})"

    def holds(self, name: str) -> bool:
        """Whether the key is here."""
        return name in self._keys

    def names(self) -> list[str]:
        """The keys' names, the current one first."""
        return list(self._keys)

    def wrap(self, data_key: bytes, data_key_id: str) -> bytes:
        """Nonce (12 bytes), ciphertext, tag (16 bytes)."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self._keys[self.current]).encrypt(nonce, data_key, _about(data_key_id))

    def unwrap(self, name: str, wrapped: bytes, data_key_id: str) -> bytes:
        """Raises WrongKeyError."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._keys[name]).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _about(data_key_id))
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise WrongKeyError(f"the key '{name}' of AIRGATE_STORE_KEYS does not open it: here it is another key of that name, "
                                "or the wrapped data key was changed. Give the key that was in use then") from None


class KeySources:
    """Several services as one: the first wraps, whichever holds the key unwraps."""

    def __init__(self, services: Sequence[KeyService]) -> None:
        """Raises ConfigError when two key rings have a key of the same name."""
        self._services = list(services)
        names = self.names()
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"AIRGATE_STORE_KEYS: two sources hold a key named '{twice[0]}'; name each key once")

    @property
    def current(self) -> str:
        """The current key of the first source."""
        return self._services[0].current

    def holds(self, name: str) -> bool:
        """Whether one of them does."""
        return any(service.holds(name) for service in self._services)

    def names(self) -> list[str]:
        """The names of the keys in files and variables; a KMS does not list its own."""
        return [name for service in self._services if isinstance(service, KeyRing) for name in service.names()]

    def wrap(self, data_key: bytes, data_key_id: str) -> bytes:
        """With the first source."""
        return self._services[0].wrap(data_key, data_key_id)

    def unwrap(self, name: str, wrapped: bytes, data_key_id: str) -> bytes:
        """Raises WrongKeyError when none holds the key, and as the one that does."""
        for service in self._services:
            if service.holds(name):
                return service.unwrap(name, wrapped, data_key_id)
        raise WrongKeyError(f"it needs the key '{name}', which AIRGATE_STORE_KEYS does not hold; {nearest(name, self.names())}. "
                            "Add that key below the others: a key stays until `airgate store status` says that nothing needs it")


def from_settings() -> KeySources | None:
    """The keys that AIRGATE_STORE_KEYS names; None where it is not set, and nothing is encrypted. Raises ConfigError."""
    return load(settings.load().store_keys)


def load(sources: str) -> KeySources | None:
    """Open the keys that a text as in AIRGATE_STORE_KEYS names; None for an empty one.

    Raises ConfigError, which shows nothing of a key, when a source is of no known kind or holds no sound keys.
    """
    named = references(sources)
    return KeySources([_open(kind, place) for kind, place in named]) if named else None


def references(sources: str) -> list[tuple[str, str]]:
    """Kind and place of each source, ("file", "/etc/keys"), without opening any.

    Raises ConfigError for what is no reference; that text is not repeated, for it might be a key.
    """
    found = []
    for source in filter(None, map(str.strip, sources.split(","))):
        kind, separator, place = source.partition(":")
        if not separator or kind not in SOURCES:
            raise ConfigError("AIRGATE_STORE_KEYS must be file:PATH, env:VARIABLE or kms:MODULE:FACTORY?ARGUMENT, several "
                              f"separated by commas, and never the key itself; {nearest(kind if separator else '', SOURCES)}")
        if kind == "env":
            _refuse_unless_seen(place)
        found.append((kind, place))
    return found


def parse(text: str, where: str) -> KeyRing:
    """Read key lines. Raises ConfigError with `where` and the line's number, and nothing of its content."""
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or not NAME.fullmatch(words[0]) or (key := _decoded(words[1])) is None:
            raise ConfigError(f"AIRGATE_STORE_KEYS: {where}, line {number}: not a key. Allowed: a name of letters, digits, '.', "
                              f"'_' and '-', a space, and {KEY_BYTES} random bytes in base64 (44 characters); {_MADE_BY}")
        if words[0] in keys:
            raise ConfigError(f"AIRGATE_STORE_KEYS: {where}, line {number}: a second key named '{words[0]}'; name each key once")
        keys[words[0]] = key
    if not keys:
        raise ConfigError(f"AIRGATE_STORE_KEYS: {where} holds no key; {_MADE_BY}")
    return KeyRing(keys)


def new_line(name: str) -> str:
    """Draw a key and give its line. Raises ConfigError for a name that is not allowed."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' names no key. Allowed: 1 to 64 letters, digits, '.', '_' and '-', such as 2026-01")
    return f"{name} {base64.b64encode(os.urandom(KEY_BYTES)).decode()}\n"


def _open(kind: str, place: str) -> KeyService:
    if kind == "kms":
        return _service(place)
    return parse(_variable(place) if kind == "env" else _file(place), f"{kind}:{place}")


def _refuse_unless_seen(name: str) -> None:
    if not name.startswith(VARIABLE_PREFIX) or not name.isidentifier() or name == "AIRGATE_STORE_KEYS":
        raise ConfigError(f"AIRGATE_STORE_KEYS names a variable that no step could see; its name must begin with "
                          f"{VARIABLE_PREFIX}, such as {VARIABLE_PREFIX}_RING")


def _variable(name: str) -> str:
    if name not in os.environ:
        raise ConfigError(f"AIRGATE_STORE_KEYS names the variable {name}, which is not set. In a pod it comes from the secret "
                          "that AIRGATE_STEPS_SECRET names")
    return os.environ[name]


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise ConfigError(f"AIRGATE_STORE_KEYS names the file {path}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"AIRGATE_STORE_KEYS: file:{path} is no text of key lines; {_MADE_BY}") from None


def _service(place: str) -> KeyService:
    """A KMS: whatever MODULE:FACTORY gives, called with the text after the question mark."""
    name, _, argument = place.partition("?")
    module, separator, factory = name.partition(":")
    try:
        if not separator:
            raise ImportError("no factory is named")
        service = getattr(import_module(module), factory)(argument)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"AIRGATE_STORE_KEYS: kms:{name} cannot be loaded: {error}. Allowed: kms:MODULE:FACTORY?ARGUMENT, "
                          "such as kms:airgate.encryption.aws_kms:AwsKms?alias/airgate") from None
    if not isinstance(service, KeyService):
        raise ConfigError(f"AIRGATE_STORE_KEYS: kms:{name} gave a {type(service).__name__}, which does not wrap keys. It must "
                          "offer what airgate.encryption.keys.KeyService says: current, holds, wrap, unwrap")
    return service


def _decoded(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _about(data_key_id: str) -> bytes:
    return f"airgate data key {data_key_id}".encode()
