"""The envelope around what is signed: DSSE v1 (https://github.com/secure-systems-lab/dsse).

What is signed is not the payload but its pre-authentication encoding, which covers the payload's type too. A payload is
looked at only after a signature over it has verified.
"""

import binascii
from base64 import b64decode, b64encode
from typing import Any

from pydantic import Field, ValidationError

from airgate.contracts import digests
from airgate.contracts.base import Contract
from airgate.errors import SignatureError
from airgate.signatures.keys import Keyring, PublicKey, Signer

PAYLOAD_LIMIT = 4 * 1024 * 1024  # bytes of base64; a model's statement has some thousands
SIGNATURES_LIMIT = 8


class Signature(Contract):
    """`keyid` is a hint that proves nothing; `sig` are 64 bytes in base64."""

    keyid: str = Field(default="", max_length=500)
    sig: str = Field(max_length=500)


class Envelope(Contract):
    """A signed payload as JSON holds it. Unknown keys are refused, which DSSE leaves open: nothing in it is free to change."""

    payload: str = Field(max_length=PAYLOAD_LIMIT)
    payloadType: str = Field(max_length=200)
    signatures: list[Signature] = Field(min_length=1, max_length=SIGNATURES_LIMIT)

    def content(self) -> bytes:
        """The payload's bytes, whoever signed them. Raises SignatureError when they are not base64."""
        return _decoded(self.payload, "payload")

    def to_json(self) -> dict[str, Any]:
        """The envelope as JSON values; `read` takes it back."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 over the envelope's RFC 8785 bytes, as 'sha256:...'."""
        import rfc8785

        return digests.of_bytes(rfc8785.dumps(self.to_json()))


def read(value: Any) -> Envelope:
    """Read an envelope from its JSON values. Nothing is verified. Raises SignatureError when it is none."""
    try:
        return Envelope.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise SignatureError(f"this is no DSSE envelope: {where}: {first['msg']}. Allowed: payload, payloadType and signatures "
                             "of keyid and sig.") from None


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what a signature covers (DSSE v1, protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, signer: Signer) -> Envelope:
    """Sign a payload. The same payload and key give the same envelope."""
    signature = Signature(keyid=signer.public.keyid, sig=b64encode(signer.sign(pae(payload_type, payload))).decode())
    return Envelope(payload=b64encode(payload).decode(), payloadType=payload_type, signatures=[signature])


def verify(envelope: Envelope, payload_type: str, keys: Keyring) -> tuple[bytes, PublicKey]:
    """Give the payload and the trusted key that signed it.

    Raises SignatureError when the payload is of another type, or no trusted key signed it.
    """
    if envelope.payloadType != payload_type:
        raise SignatureError(f"the envelope holds {envelope.payloadType[:80]!r}; expected {payload_type!r}.")
    payload = envelope.content()
    signed = pae(payload_type, payload)
    for signature in envelope.signatures:
        value = _decoded(signature.sig, "signature")
        # The key that the hint names goes first; the others too, since a hint is not signed.
        for key in sorted(keys, key=lambda key: key.keyid != signature.keyid):
            if key.verifies(value, signed):
                return payload, key
    raise SignatureError(_why(envelope, keys))


def _why(envelope: Envelope, keys: Keyring) -> str:
    named = [signature.keyid[:80] for signature in envelope.signatures]
    known = {key.keyid for key in keys}
    if any(name in known for name in named):
        return (f"the signature by {', '.join(named)} does not fit the signed text: one of them was changed. Take the envelope "
                "again from where it was made.")
    return (f"signed by {', '.join(filter(None, named)) or 'an unnamed key'}, which is not trusted here; trusted: "
            f"{', '.join(sorted(known)) or 'none'}. If that key is to count here, add its public key to AIRGATE_MODEL_TRUST.")


def _decoded(text: str, what: str) -> bytes:
    """Decode base64; there is one spelling for each value (RFC 4648, 3.5), so no bit of an envelope is free to change."""
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(f"the envelope's {what} is not base64.") from None
    if b64encode(data).decode() != text:
        raise SignatureError(f"the envelope's {what} is base64 with stray bits.")
    return data
