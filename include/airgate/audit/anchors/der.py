"""The order of a time stamp's certificates.

DER sorts the members of a SET (X.690, 11.6) and rfc3161-client insists on it. OpenSSL, and every service built on it, sends the
certificates in the order of the chain. Nothing signs that order (RFC 5652, 5.4), so sorting them changes no meaning.
"""

from typing import NamedTuple

_TO_CERTIFICATES = (0, 1, 1, 0, 3)  # TimeStampResp, timeStampToken, content, SignedData, certificates: the n-th member of each
_CERTIFICATES_TAG = 0xA0


class _Element(NamedTuple):
    start: int
    content: int
    end: int


def sort_certificates(response: bytes) -> bytes:
    """Give a TimeStampResp with its certificates in DER's order; bytes that are none come back as they are."""
    found = _Element(0, 0, len(response))
    try:
        for index in _TO_CERTIFICATES:
            found = _members(response, found)[index]
        if response[found.start] != _CERTIFICATES_TAG:
            return response
        certificates = [response[member.start:member.end] for member in _members(response, found)]
    except IndexError:
        return response
    return response[:found.content] + b"".join(sorted(certificates)) + response[found.end:]


def _members(data: bytes, parent: _Element) -> list[_Element]:
    """Split what stands in an element. Raises IndexError where that cannot be done."""
    members, at = [], parent.content
    while at < parent.end:
        length, content = data[at + 1], at + 2
        if length > 0x80:  # the length's own length, then the length
            content += length & 0x7F
            length = int.from_bytes(data[at + 2:content])
        elif length == 0x80:
            raise IndexError("of indefinite length, which DER has not")
        if content + length > parent.end:
            raise IndexError("longer than what it stands in")
        members.append(_Element(at, content, content + length))
        at = content + length
    return members
