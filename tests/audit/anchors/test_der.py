import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.audit.anchors.der import sort_certificates


def sequence(*members: bytes, tag: int = 0x30) -> bytes:
    data = b"".join(members)
    length = len(data).to_bytes(2)
    return bytes([tag]) + (bytes([0x82]) + length if len(data) > 127 else length[1:]) + data


def response(certificates: list[bytes], tag: int = 0xA0) -> bytes:
    """The shape of a TimeStampResp (RFC 3161) around SignedData (RFC 5652, 5.1)."""
    number, nothing = b"\x02\x01\x03", sequence(tag=0x31)
    signed = sequence(number, nothing, sequence(number), sequence(*certificates, tag=tag), nothing)
    return sequence(sequence(number), sequence(b"\x06\x01\x2a", sequence(signed, tag=0xA0)))


@given(st.lists(st.binary(max_size=200)))
def test_certificates_are_sorted_and_nothing_else_changes(contents):
    certificates = [sequence(content, tag=0x30) for content in contents]
    assert sort_certificates(response(certificates)) == response(sorted(certificates))


@given(st.binary(max_size=100))
def test_other_bytes_come_back_as_they_are(data):
    assert sort_certificates(data) == data


@given(st.integers(0), st.binary(min_size=1, max_size=3))
def test_damaged_bytes_lose_nothing(position, garbage):
    whole = response([sequence(b"b" * 150), sequence(b"a")])
    position %= len(whole)
    damaged = whole[:position] + garbage + whole[position + len(garbage):]
    assert sorted(sort_certificates(damaged)) == sorted(damaged)


@pytest.mark.parametrize("tag", [0xA1, 0x31])
def test_without_certificates_there_is_nothing_to_sort(tag):
    other = response([b"\x02\x01\x02", b"\x02\x01\x01"], tag)
    assert sort_certificates(other) == other
