"""Bytes under a data key, as a stream: AES-256-GCM, segment by segment, in bounded memory.

The form is that of Tink's streaming AEAD AES256_GCM_HKDF_1MB, so that Google's public library reads what we write:

    byte 0x28 (the header's length), salt (32 bytes), nonce prefix (7 bytes), segments of 1 MiB, the first with the header

Each segment is sealed under HKDF-SHA256(data key, salt, info=about) with the nonce: prefix, segment number (4 bytes,
big-endian), 1 for the last segment and else 0. So none can be changed, moved, left out or added, and no end be cut off.
Sources: https://developers.google.com/tink/streaming_aead/aes_gcm_hkdf_streaming; Hoang, Reyhanitabar, Rogaway, Vizár,
"Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (CRYPTO 2015), STREAM; NIST SP 800-38D; RFC 5869.
"""

from __future__ import annotations

import os
from typing import Protocol

from airgate.errors import ArtifactError

KEY_BYTES = 32
SALT_BYTES = 32
PREFIX_BYTES = 7
TAG_BYTES = 16
HEADER_BYTES = 1 + SALT_BYTES + PREFIX_BYTES
SEGMENT_BYTES = 1 << 20


class EnvelopeError(ArtifactError):
    """Encrypted bytes are not those that were written, or the key is another one."""


class Source(Protocol):
    """What bytes are read from. It gives fewer than it is asked for at its end only, as files do."""

    def read(self, size: int, /) -> bytes:
        """Give the next bytes."""


class Sink(Protocol):
    """What bytes are written to: a file, a hash, or both."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


def new_header() -> bytes:
    """Draw salt and nonce prefix of a new envelope, 40 bytes. The salt also names the envelope's data key."""
    return bytes([HEADER_BYTES]) + os.urandom(SALT_BYTES + PREFIX_BYTES)


def read_header(source: Source) -> bytes:
    """Take the header off an encrypted stream. Raises EnvelopeError when it does not begin as an envelope does."""
    header = source.read(HEADER_BYTES)
    if len(header) != HEADER_BYTES or header[0] != HEADER_BYTES:
        raise EnvelopeError("not an envelope of Airgate's: it does not begin with a header of 40 bytes")
    return header


def key_id(header: bytes) -> str:
    """The name of the data key: the salt, 64 hex digits."""
    return header[1:1 + SALT_BYTES].hex()


def sealed_size(size: int) -> int:
    """How many bytes an envelope of `size` plain bytes has."""
    segments = -(-(size + HEADER_BYTES) // (SEGMENT_BYTES - TAG_BYTES)) if size else 1
    return HEADER_BYTES + size + segments * TAG_BYTES


def encrypt(source: Source, target: Sink, data_key: bytes, header: bytes, about: bytes, *,
            segment: int = SEGMENT_BYTES) -> None:
    """Write header and all of `source` encrypted to `target`.

    `data_key` has 32 bytes and serves for one envelope. `about` is bound to the bytes and not stored: who reads must know it
    (the artifact's digest). `segment` is the length of an encrypted segment.
    """
    seal = _Segments(data_key, header, about)
    target.write(header)
    part = source.read(segment - HEADER_BYTES - TAG_BYTES)
    while True:
        # A segment is the last one when nothing follows it; an empty source is one empty segment.
        following = source.read(segment - TAG_BYTES)
        target.write(seal.closed(part, last=not following))
        if not following:
            return
        part = following


def decrypt(source: Source, target: Sink, data_key: bytes, header: bytes, about: bytes, *,
            segment: int = SEGMENT_BYTES) -> None:
    """Write to `target` what the rest of `source`, after its header, holds. What was written when it raises is to be thrown away.

    Raises EnvelopeError when a byte was changed, cut off or added, or key or `about` are others.
    """
    opened = _Segments(data_key, header, about)
    part = source.read(segment - HEADER_BYTES)
    while True:
        following = source.read(segment)
        target.write(opened.open(part, last=not following))
        if not following:
            return
        part = following


class _Segments:
    """One envelope's cipher and the number of the segment that is next."""

    def __init__(self, data_key: bytes, header: bytes, about: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if len(data_key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes, this one {len(data_key)}")
        salt = header[1:1 + SALT_BYTES]
        self._cipher = AESGCM(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=about).derive(data_key))
        self._prefix = header[1 + SALT_BYTES:]
        self._number = 0

    def closed(self, plain: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last), plain, None)

    def open(self, sealed: bytes, *, last: bool) -> bytes:
        from cryptography.exceptions import InvalidTag

        number = self._number
        try:
            return self._cipher.decrypt(self._nonce(last), sealed, None)
        except InvalidTag:
            raise EnvelopeError(f"segment {number} does not open: it was changed, cut off or moved after it was written, or it "
                                "is another artifact's") from None

    def _nonce(self, last: bool) -> bytes:
        nonce = self._prefix + self._number.to_bytes(4, "big") + bytes([last])
        self._number += 1
        return nonce
