"""The key that signs checkpoints: Ed25519 (RFC 8032), from a file or an environment variable, never from the database."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgate.audit.verifier import VerifierKey
from airgate.errors import ConfigError
from airgate.signatures.private_key import load_ed25519, write_new

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Signer", "load", "signer_of", "write_new"]
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
    if not source:
        raise ConfigError("no key signs the audit log's checkpoints: set AIRGATE_AUDIT_KEY to file:PATH or env:VARIABLE; "
                          f"{_MADE_BY}")
    return signer_of(load_ed25519(source, "AIRGATE_AUDIT_KEY", _MADE_BY), name)


def signer_of(key: "Ed25519PrivateKey", name: str) -> Signer:
    """Make a signer of a private key. Raises ConfigError for a name that no note can carry."""
    if not name or any(char.isspace() or char == "+" for char in name):
        raise ConfigError(f"AIRGATE_AUDIT_ORIGIN is '{name}'; it names the log in every checkpoint: some text without spaces "
                          "and '+', like a URL without scheme: audit.example.org/airgate")
    return Signer(VerifierKey.of(name, key.public_key().public_bytes_raw()), key)
