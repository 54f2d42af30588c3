"""What an anchor is, and what all of them share: the names of the files and the errors."""

import re
from hashlib import sha256
from typing import Protocol

from airgate.errors import AuditError

NOTE_LIMIT = 64 * 1024  # bytes; a note has a few hundred
_SIZE_LIMIT = 10**20
_NAME = re.compile(r"([0-9]{20})\.note")


class AnchorError(AuditError):
    """An anchor could not keep a checkpoint, could not be read, or does not vouch for what it was asked about."""


class Anchor(Protocol):
    """A place outside the audit database's reach that keeps signed checkpoints, or vouches for them."""

    name: str
    """The URL without user, password and options; 200 characters at most. For messages and for a database column."""

    def put(self, size: int, note: bytes) -> bytes:
        """Keep the checkpoint of a tree of `size` events and give the receipt: b"" where the place itself is the proof.

        The same note again changes nothing. Raises AnchorError when the place holds another note of this size, which is
        left as it is, or when it cannot keep this one.
        """

    def notes(self) -> dict[int, bytes]:
        """Give every note that the place holds, by size. Raises AnchorError when it cannot be read."""

    def check(self, size: int, note: bytes, receipt: bytes) -> None:
        """Raise AnchorError unless the place, or its receipt, vouches for exactly this note."""


def file_name(size: int) -> str:
    """Give the name of a checkpoint's file, the same at every anchor.

    >>> file_name(42)
    '00000000000000000042.note'

    Raises AnchorError for a number that is no size.
    """
    if not 0 <= size < _SIZE_LIMIT:
        raise AnchorError(f"a checkpoint's size is {size}; allowed: 0 to {_SIZE_LIMIT - 1}")
    return f"{size:020d}.note"


def size_of(name: str) -> int | None:
    """Give the size that a file's name says, or None for a file that is no checkpoint."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def refuse_length(anchor: str, note: bytes) -> bytes:
    """Give the note back. Raises AnchorError when it is empty or larger than any note can be."""
    if not 0 < len(note) <= NOTE_LIMIT:
        length = f"more than {NOTE_LIMIT}" if note else "no"
        raise AnchorError(f"the anchor {anchor} was given or holds a note of {length} bytes; a checkpoint has a few hundred: "
                          "this is something else")
    return note


def refuse_other(anchor: str, size: int, held: bytes | None, note: bytes) -> None:
    """Raise AnchorError unless `held` is the note: the place has none of this size (None), or another."""
    if held is None:
        raise AnchorError(f"the anchor {anchor} holds no checkpoint of size {size}: it was never put there, or somebody removed "
                          "it. If its receipt says that it was put, find out who could remove it")
    if held != note:
        raise AnchorError(
            f"the anchor {anchor} holds another checkpoint of size {size}: its sha256 is {_digest(held)}, that of the given "
            f"note {_digest(note)}. Nothing was overwritten. Either the log was rewritten, or somebody changed the anchor, or "
            "two logs share it. Keep both notes and compare them: a valid signature on both proves that the log was rewritten")


def _digest(note: bytes) -> str:
    return sha256(note).hexdigest()[:16] + "..."
