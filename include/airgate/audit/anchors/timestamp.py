"""An RFC 3161 time-stamp service as an anchor: somebody else signs that a checkpoint existed at a time.

The service keeps nothing; its signed answer, the receipt, is the proof. To check one by hand, with the receipt in
`receipt.tsr`, the checkpoint in `00000000000000000042.note` and the service's roots in `ca.pem`:

    openssl ts -verify -in receipt.tsr -data 00000000000000000042.note -CAfile ca.pem
    openssl ts -reply -in receipt.tsr -text        # the time, and who signed it
"""

import re
import ssl
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Self

from airgate.audit.anchors.base import AnchorError, file_name, refuse_length
from airgate.audit.anchors.der import sort_certificates
from airgate.audit.anchors.url import AnchorUrl

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse, VerifierBuilder

_SHA256 = "2.16.840.1.101.3.4.2.1"
_ANSWER_LIMIT = 256 * 1024  # bytes; an answer with its certificates has 2 to 10 thousand


class TimestampAnchor:
    """Asks for a time stamp over a note's SHA-256 (RFC 3161, section 2.4)."""

    def __init__(self, name: str, address: str, certificates: Path, login: tuple[str, str] | None = None,
                 timeout: float = 20.0) -> None:
        """`certificates`: a PEM file of the roots to trust. `timeout` in seconds: for connecting, and each wait."""
        self.name = name
        self._address, self._login, self._timeout = address, login, timeout
        self._certificates = certificates

    @classmethod
    def of(cls, url: AnchorUrl) -> Self:
        """Take `tsa+https://[user:password@]host/path?certificates=/path/to/ca.pem`. Raises ConfigError."""
        url.allow(("certificates",), login=True)
        if not url.host:
            raise url.error("names no host; write tsa+https://HOST/PATH?certificates=/path/to/ca.pem")
        if url.user and url.scheme == "tsa+http":
            raise url.error("would send a password in the clear; use tsa+https")
        certificates = Path(url.options.get("certificates", ""))
        if not certificates.is_absolute():
            raise url.error("does not say whom to trust; add ?certificates=/path/to/ca.pem, the absolute path of a PEM file with "
                            "the roots of the time-stamp service: without it a stamp of anybody would do")
        return cls(url.name, url.address(), certificates, (url.user, url.password) if url.user else None)

    def put(self, size: int, note: bytes) -> bytes:
        """Ask for a stamp, check it, and give the whole answer (a DER TimeStampResp). Raises AnchorError."""
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerifierBuilder

        file_name(size)  # refuses what is no size
        request = TimestampRequestBuilder().data(refuse_length(self.name, note)).hash_algorithm(HashAlgorithm.SHA256).build()
        receipt = self._ask(request.as_bytes())
        # With the nonce, or an old answer would do.
        self._verify(VerifierBuilder.from_request(request), size, note, receipt)
        return receipt

    def notes(self) -> dict[int, bytes]:
        """Give nothing: the service keeps no notes."""
        return {}

    def check(self, size: int, note: bytes, receipt: bytes) -> None:
        """Verify digest, signature, the signer's purpose and its chain at the time of the stamp. Raises AnchorError."""
        from rfc3161_client import VerifierBuilder

        self._verify(VerifierBuilder(), size, note, receipt)

    def _verify(self, verifier: "VerifierBuilder", size: int, note: bytes, receipt: bytes) -> None:
        for root in self._roots():
            verifier = verifier.add_root_certificate(root)
        try:
            answer = _decode(receipt)
            found = answer.tst_info.message_imprint
            if found.hash_algorithm.dotted_string != _SHA256 or found.message != sha256(note).digest():
                raise ValueError("it was given for another note")
            verifier.build().verify(answer, sha256(note).digest())
        except Exception as error:  # noqa: BLE001 - of changed bytes each library complains in its own way
            raise AnchorError(f"the anchor {self.name}: the receipt does not vouch for the checkpoint of size {size}: "
                              f"{_reason(error)}. Compare by hand: `openssl ts -verify -in RECEIPT -data "
                              f"{file_name(size)} -CAfile {self._certificates}`") from None

    def _roots(self) -> "list[Certificate]":
        from cryptography.x509 import load_pem_x509_certificates

        try:
            return list(dict.fromkeys(load_pem_x509_certificates(self._certificates.read_bytes())))
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else "it has no certificate in PEM form"
            raise AnchorError(f"the anchor {self.name}: cannot read the trusted roots in {self._certificates} ({said}); get the "
                              "root certificates from the time-stamp service and put them there") from None

    def _ask(self, request: bytes) -> bytes:
        import httpx

        answer = bytearray()
        try:
            with httpx.stream("POST", self._address, content=request, auth=self._login, timeout=self._timeout,
                              headers={"Content-Type": "application/timestamp-query"}) as response:
                for part in response.iter_bytes():
                    answer += part
                    if len(answer) > _ANSWER_LIMIT:
                        break
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            said = str(error) or type(error).__name__
            raise AnchorError(f"the anchor {self.name} cannot be reached ({said}); is the address right, and may this machine "
                              "reach it?") from None
        if response.status_code != 200 or len(answer) > _ANSWER_LIMIT:
            raise AnchorError(f"the anchor {self.name} answered with status {response.status_code} and no time stamp; is the "
                              "address that of a time-stamp service (RFC 3161 over HTTP), and are user and password right?")
        return bytes(answer)


def _decode(receipt: bytes) -> "TimeStampResponse":
    """Read a TimeStampResp. Raises ValueError when it is none, or a refusal."""
    from rfc3161_client import decode_timestamp_response

    try:
        answer = decode_timestamp_response(sort_certificates(receipt))
    except ValueError:
        raise ValueError("these bytes are no time-stamp response, or not all of one") from None
    if answer.status != 0:
        raise ValueError(f"the service refused (status {answer.status}): {'; '.join(answer.status_string) or 'no reason given'}")
    return answer


def _reason(error: Exception) -> str:
    """Give what an error says; of OpenSSL's stack, the one line meant for people."""
    text = str(error) or type(error).__name__
    said = re.search(r'data: "Verify error: ?([^"]+)"', text)
    return f"its certificates do not lead to a trusted root: {said[1]}" if said else text.rstrip(".")
