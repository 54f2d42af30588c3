"""The envelope: Tink reads and writes the same bytes, NIST's cipher is the one below, and no change goes unseen."""

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.encryption import envelope
from airgate.encryption.envelope import EnvelopeError

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "tink_streaming_vectors.json").read_text())["cases"]
SEGMENT = 128
KEY = bytes(range(32))


def sealed(plain: bytes, about: bytes = b"a", key: bytes = KEY, segment: int = SEGMENT, header: bytes | None = None) -> bytes:
    target = io.BytesIO()
    envelope.encrypt(io.BytesIO(plain), target, key, header or envelope.new_header(), about, segment=segment)
    return target.getvalue()


def opened(data: bytes, about: bytes = b"a", key: bytes = KEY, segment: int = SEGMENT) -> bytes:
    source, target = io.BytesIO(data), io.BytesIO()
    envelope.decrypt(source, target, key, envelope.read_header(source), about, segment=segment)
    return target.getvalue()


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_what_tink_wrote_is_read_and_written_the_same(case):
    plain = (b"airgate " * 2000)[:case["plain_size"]]
    about, key, data = case["about"].encode(), bytes.fromhex(case["key"]), base64.b64decode(case["sealed"])
    assert opened(data, about, key, case["segment"]) == plain
    assert sealed(plain, about, key, case["segment"], header=data[:envelope.HEADER_BYTES]) == data


def test_the_cipher_below_gives_the_published_bytes():
    """The GCM specification (McGrew, Viega, 2005), appendix B, test case 14: AES-256, one block of zeros."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    found = AESGCM(bytes(32)).encrypt(bytes(12), bytes(16), None)
    assert found.hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"


@given(st.binary(max_size=5 * SEGMENT), st.binary(max_size=80))
def test_what_was_sealed_opens(plain, about):
    assert opened(sealed(plain, about), about) == plain


@pytest.mark.parametrize("size", [SEGMENT - 57, SEGMENT - 56, SEGMENT - 55, 2 * SEGMENT - 73, 2 * SEGMENT - 72, 2 * SEGMENT - 71])
def test_the_edges_of_segments(size):
    data = sealed(bytes(size))
    segments = 1 if size <= SEGMENT - 56 else 2 if size <= 2 * SEGMENT - 72 else 3
    assert len(data) == envelope.HEADER_BYTES + size + segments * envelope.TAG_BYTES
    assert opened(data) == bytes(size)


@given(st.binary(max_size=3 * SEGMENT), st.data())
def test_no_changed_bit_goes_unseen(plain, data):
    good = bytearray(sealed(plain))
    good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(EnvelopeError):
        opened(bytes(good))


@given(st.binary(max_size=3 * SEGMENT), st.data())
def test_no_cut_and_no_addition_goes_unseen(plain, data):
    good = sealed(plain)
    cut = data.draw(st.integers(0, len(good) - 1))
    with pytest.raises(EnvelopeError):
        opened(good[:cut])
    with pytest.raises(EnvelopeError):
        opened(good + data.draw(st.binary(min_size=1, max_size=2 * SEGMENT)))


def test_segments_cannot_change_places_or_leave():
    good = sealed(bytes(4 * SEGMENT))
    first, second, third = good[:SEGMENT], good[SEGMENT:2 * SEGMENT], good[2 * SEGMENT:3 * SEGMENT]
    for data in (first + third + second + good[3 * SEGMENT:], first + third + good[3 * SEGMENT:], first, first + second):
        with pytest.raises(EnvelopeError, match="does not open: it was changed, cut off or moved"):
            opened(data)


def test_another_key_and_another_artifact_do_not_open():
    good = sealed(b"plain", b"sha256:aa")
    with pytest.raises(EnvelopeError, match="segment 0 does not open"):
        opened(good, b"sha256:ab")
    with pytest.raises(EnvelopeError, match="segment 0 does not open"):
        opened(good, b"sha256:aa", bytes(32))


def test_two_envelopes_of_one_content_share_no_bytes_and_no_name():
    one, two = sealed(b"x" * 64), sealed(b"x" * 64)
    assert envelope.key_id(one) != envelope.key_id(two) and one[40:] != two[40:]
    assert envelope.key_id(one) == one[1:33].hex()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(EnvelopeError):
        opened(data)


def test_what_is_no_envelope_says_so():
    with pytest.raises(EnvelopeError, match="does not begin with a header of 40 bytes"):
        opened(b"PAR1")


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a data key has 32 bytes, this one 16"):
        sealed(b"", key=bytes(16))


def test_memory_is_bounded():
    """A source of 64 MiB is never asked for more than a segment, nor is the sink given more."""
    class Zeros(io.RawIOBase):
        left, most = 64 << 20, 0

        def read(self, size=-1):
            assert 0 < size <= envelope.SEGMENT_BYTES
            taken = min(size, self.left)
            self.left -= taken
            return bytes(taken)

    class Count:
        total = 0

        def write(self, data):
            assert len(data) <= envelope.SEGMENT_BYTES
            self.total += len(data)

    count = Count()
    envelope.encrypt(Zeros(), count, KEY, envelope.new_header(), b"a")
    assert count.total == 40 + (64 << 20) + 65 * 16
