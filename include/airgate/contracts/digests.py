"""How bytes are named everywhere: SHA-256 (FIPS 180-4), written 'sha256:' and 64 hex digits. And where a store keeps them."""

import hashlib
from pathlib import Path


def of_bytes(data: bytes) -> str:
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def of_file(path: Path) -> str:
    """The digest of a file's bytes, in little memory. Raises OSError."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def place_in(store: str, digest: str) -> str:
    """The URL of an artifact by its digest; `store` is AIRGATE_ARTIFACT_STORE.

    >>> place_in("s3://bucket/artifacts/", "sha256:abcdef")
    's3://bucket/artifacts/sha256/ab/abcdef'
    """
    text = digest.removeprefix("sha256:")
    return f"{store.rstrip('/')}/sha256/{text[:2]}/{text}"
