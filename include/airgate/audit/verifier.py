"""Verify an exported audit log: one file that needs Python 3.11 and `cryptography`, and nothing of Airgate's.

    python verifier.py EXPORT [--key VKEY|FILE]... [--anchor FOLDER]...

It implements docs/audit-format.md and shares no code with what wrote the log, so that an error there is not repeated here.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HASH_BYTES = 32
NOTE_LIMIT = 64 * 1024  # bytes; a note has a few hundred
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")

# ------------------------------------------------------------------------------------------------ notes
# A checkpoint is a signed note: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint. Its text has the lines origin,
# size, root, and two of ours: `previous` (not in a log's first) and `time`. See section 5 of the format.

_ED25519 = b"\x01"
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_SIGNATURES = 100
_SIGNATURE_MARK = "\u2014 "


@dataclass(frozen=True)
class VerifierKey:
    """A public key with a name, in C2SP's form. `hash` are 4 bytes that name it, `public` the 32 bytes of Ed25519 (RFC 8032)."""

    name: str
    hash: bytes
    public: bytes

    @classmethod
    def of(cls, name: str, public: bytes) -> "VerifierKey":
        """Give the key of this name. Raises ValueError for a name that cannot stand in a note, or other than 32 bytes."""
        if not _KEY_NAME.fullmatch(name):
            raise ValueError(f"a key's name is {name[:80]!r}; allowed: text without spaces and '+'")
        if len(public) != 32:
            raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(public)}")
        return cls(name, sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4], public)

    @classmethod
    def parse(cls, vkey: str) -> "VerifierKey":
        """Read `NAME+HASH+BASE64(0x01 || public key)`. Raises ValueError, saying what is wrong with it."""
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3:
            raise ValueError(f"{vkey[:120]!r} is no verifier key; one reads NAME+HASH+BASE64")
        data = _base64(parts[2], "the verifier key")
        if data[:1] != _ED25519:
            raise ValueError(f"the verifier key {parts[0][:80]!r} is not of kind 1, which is Ed25519")
        key = cls.of(parts[0], data[1:])
        if key.hash.hex() != parts[1]:
            raise ValueError(f"the verifier key {key.name!r} says that its hash is {parts[1][:80]!r}; it is {key.hash.hex()}")
        return key

    def text(self) -> str:
        """Write the key as `parse` reads it."""
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


@dataclass(frozen=True)
class Note:
    """A checkpoint. `root` is that of the first `size` leaves, `previous` the SHA-256 of the note before, None in the first.

    `text` are the bytes that are signed, `raw` the whole note; `signatures` are (key name, key hash of 4 bytes, signature).
    """

    origin: str
    size: int
    root: bytes
    previous: bytes | None
    time: str
    text: bytes
    signatures: list[tuple[str, bytes, bytes]]
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Note":
        """Read a note; no signature is verified. Raises ValueError, saying which line is wrong."""
        if len(raw) > NOTE_LIMIT:
            raise ValueError(f"it has {len(raw)} bytes; a checkpoint has {NOTE_LIMIT} at most")
        try:
            whole = raw.decode()
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None
        if any((char < " " and char != "\n") or char == "\x7f" for char in whole):
            raise ValueError("it holds control characters")
        text, empty_line, rest = whole.partition("\n\n")
        if not empty_line or not rest.endswith("\n"):
            raise ValueError("it has no signature lines after an empty line, or ends within a line")
        origin, size, root, previous, time = _fields(text.split("\n"))
        signatures = [_signature(line) for line in rest[:-1].split("\n")[: _MAX_SIGNATURES + 1]]
        if len(signatures) > _MAX_SIGNATURES:
            raise ValueError(f"it has more than {_MAX_SIGNATURES} signatures")
        return cls(origin, size, root, previous, time, (text + "\n").encode(), signatures, raw)

    def signed_by(self, key: VerifierKey) -> bool:
        """Say whether this key signed the note. Several signatures by one key count only if every one is right."""
        found = [value for name, key_hash, value in self.signatures if (name, key_hash) == (key.name, key.hash)]
        return bool(found) and all(_verifies(key.public, value, self.text) for value in found)

    def digest(self) -> bytes:
        """Give what the next note's `previous` must be: SHA-256 over all bytes."""
        return sha256(self.raw).digest()


def _fields(lines: list[str]) -> tuple[str, int, bytes, bytes | None, str]:
    previous = None
    if len(lines) == 5:
        word, _, value = lines.pop(3).partition(" ")
        if word != "previous":
            raise ValueError("its fourth line does not begin with 'previous '")
        previous = _hash(value, "its line 'previous'")
    if len(lines) != 4:
        raise ValueError("its text has not the lines origin, size, root, previous (not in the first) and time")
    origin, size, root, time = lines
    if not origin or origin != origin.strip():
        raise ValueError("its first line, the origin, is empty or has spaces around it")
    if not _SIZE.fullmatch(size):
        raise ValueError(f"its second line, the size, is {size[:40]!r}; allowed: a whole number below 10^19")
    if not time.startswith("time ") or not TIME.fullmatch(time[5:]):
        raise ValueError("its last line of text is not 'time YYYY-MM-DDTHH:MM:SS.ffffffZ'")
    return origin, int(size), _hash(root, "its third line, the root,"), previous, time[5:]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, value = line.removeprefix(_SIGNATURE_MARK).partition(" ")
    if not line.startswith(_SIGNATURE_MARK) or not _KEY_NAME.fullmatch(name):
        raise ValueError("a signature line does not read '\u2014 KEY_NAME BASE64'")
    data = _base64(value, "a signature")
    if len(data) < 5:
        raise ValueError("a signature is too short")
    return name, data[:4], data[4:]


def _hash(text: str, what: str) -> bytes:
    data = _base64(text, what)
    if len(data) != HASH_BYTES:
        raise ValueError(f"{what} has {len(data)} bytes; a SHA-256 has {HASH_BYTES}")
    return data


def _base64(text: str, what: str) -> bytes:
    """Decode; there is one spelling for each value (RFC 4648, 3.5), so that no bit of a note is free to change."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError(f"{what} is base64 with stray bits")
    return data


def _verifies(public: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
