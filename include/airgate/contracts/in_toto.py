"""in-toto Statements v1: files by their digests, and what is said about them (https://github.com/in-toto/attestation).

They are signed as RFC 8785 writes them, so that one statement has one byte sequence.
"""

from collections.abc import Mapping
from typing import Any

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def payload(files: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """The bytes of a statement. `files` are {name: 'sha256:...'}; they are its subject, sorted by name."""
    subject = [{"name": name, "digest": {"sha256": files[name].removeprefix("sha256:")}} for name in sorted(files)]
    return statement(subject, predicate_type, predicate)


def statement(subject: list[dict[str, Any]], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """The same for a subject that is not every file."""
    import rfc8785

    return bytes(rfc8785.dumps({"_type": STATEMENT_TYPE, "subject": subject, "predicateType": predicate_type,
                                "predicate": dict(predicate)}))


def files_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The files that a statement's JSON values name. Raises KeyError or TypeError where they are none."""
    return {one["name"]: f"sha256:{one['digest']['sha256']}" for one in record["subject"]}
