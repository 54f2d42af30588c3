"""The keys behind statements about models. A key's name is the environment it speaks for: 'production', 'staging'.

Public keys are written as C2SP verifier keys, NAME+HASH+BASE64 (https://c2sp.org/signed-note), as the audit log's are. The
name stands in the trust list and not only in the statement, so staging's key cannot speak for production.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from airgate.errors import ConfigError
from airgate.settings import Settings
from airgate.signatures.private_key import load_ed25519

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MADE_BY = "`airgate model keygen FILE` makes one"
_ED25519 = b"\x01"
_NAME = re.compile(r"[^\s+,\x00-\x1f\x7f]+")
MAX_KEYS = 1000


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key (`raw`, 32 bytes) and the environment it speaks for."""

    name: str
    raw: bytes = field(repr=False)

    @classmethod
    def parse(cls, vkey: str) -> "PublicKey":
        """Read `NAME+HASH+BASE64(0x01 || raw)`. Raises ConfigError that says what is wrong with it."""
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3 or not _NAME.fullmatch(parts[0]):
            raise ConfigError(f"{vkey[:120]!r} is no public key; one reads NAME+HASH+BASE64, as `airgate model key` prints it")
        try:
            data = b64decode(parts[2], validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if data[:1] != _ED25519 or len(data) != 33 or b64encode(data).decode() != parts[2]:
            raise ConfigError(f"the public key of {parts[0][:80]!r} is damaged or not Ed25519. Copy it again from "
                              "`airgate model key` of that installation")
        key = cls(parts[0], data[1:])
        if key.hash != parts[1]:
            raise ConfigError(f"the public key of {key.name[:80]!r} says that its hash is {parts[1][:80]!r}; it is {key.hash}. "
                              "Was its name changed? A key speaks for one environment only")
        return key

    @property
    def hash(self) -> str:
        """Eight hex digits that tell keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).hexdigest()[:8]

    @property
    def keyid(self) -> str:
        """How a signature names its key: NAME+HASH."""
        return f"{self.name}+{self.hash}"

    def text(self) -> str:
        """Write the key as `parse` reads it."""
        return f"{self.keyid}+{b64encode(_ED25519 + self.raw).decode()}"

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Say whether this key made the signature (RFC 8032) over these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


Keyring = tuple[PublicKey, ...]


@dataclass(frozen=True)
class Signer:
    """A private key and its public half."""

    public: PublicKey
    _private: "Ed25519PrivateKey" = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """Give 64 bytes: the Ed25519 signature, the same for the same data."""
        return self._private.sign(data)


def signer(source: str | None, name: str) -> Signer:
    """Read the key that AIRGATE_MODEL_KEY names, 'file:PATH' or 'env:VARIABLE'; `name` is AIRGATE_ENVIRONMENT.

    Raises ConfigError, which shows nothing of the key, when there is none that can sign.
    """
    if not source:
        raise ConfigError("no key signs models: set AIRGATE_MODEL_KEY to file:PATH or env:VARIABLE; " + MADE_BY)
    return signer_of(load_ed25519(source, "AIRGATE_MODEL_KEY", MADE_BY), name)


def signer_of(key: "Ed25519PrivateKey", name: str) -> Signer:
    """Make a signer of a private key. Raises ConfigError for a name that no public key can carry."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"AIRGATE_ENVIRONMENT is '{name}'; it names the key that signs models: some text without spaces, "
                          "',' and '+', such as production")
    return Signer(PublicKey(name, key.public_key().public_bytes_raw()), key)


def parse_trust(text: str) -> Keyring:
    """Read AIRGATE_MODEL_TRUST: public keys apart by spaces, commas or line breaks, or 'file:PATH' to a file of them.

    In a file, what follows a '#' is a comment. Raises ConfigError.
    """
    if text.startswith("file:"):
        path = Path(text.removeprefix("file:"))
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"AIRGATE_MODEL_TRUST names the file {path}, which cannot be read: {error}") from None
        text = "\n".join(line.partition("#")[0] for line in lines)
    words = re.split(r"[\s,]+", text.strip())
    if len(words) > MAX_KEYS:
        raise ConfigError(f"AIRGATE_MODEL_TRUST has {len(words)} keys; allowed: at most {MAX_KEYS}")
    try:
        return tuple(dict.fromkeys(PublicKey.parse(word) for word in words if word))
    except ConfigError as error:
        raise ConfigError(f"AIRGATE_MODEL_TRUST: {error}") from None


def trusted(now: Settings) -> Keyring:
    """The keys whose signatures count here: those of AIRGATE_MODEL_TRUST, and the installation's own where it holds one.

    Raises ConfigError when there is none, or one cannot be read.
    """
    own: Sequence[PublicKey] = (signer(now.model_key, now.environment).public,) if now.model_key else ()
    keys = tuple(dict.fromkeys((*own, *parse_trust(now.model_trust))))
    if not keys:
        raise ConfigError("no key is trusted, so no model can be verified: set AIRGATE_MODEL_TRUST to the public keys whose "
                          "signatures count here (`airgate model key` prints an installation's), or AIRGATE_MODEL_KEY")
    return keys


def for_steps(now: Settings) -> dict[str, str]:
    """The variables by which a step verifies what it loads: public keys and the environment, never a private key.

    Empty where no key is configured; then a step that loads a version refuses it. Raises ConfigError as `trusted` does.
    """
    if not now.model_key and not now.model_trust:
        return {}
    return {"AIRGATE_MODEL_TRUST": inline(trusted(now)), "AIRGATE_ENVIRONMENT": now.environment}


def inline(keys: Keyring) -> str:
    """Write keys as AIRGATE_MODEL_TRUST takes them, for a step's environment."""
    return " ".join(key.text() for key in keys)
