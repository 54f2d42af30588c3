"""The digest of a folder, as both planes compute it: a manifest {relative path: file digest}, and SHA-256 over its bytes."""

from collections.abc import Mapping

from airgate.contracts import digests
from airgate.errors import ArtifactError


def manifest_bytes(files: Mapping[str, str]) -> bytes:
    """The manifest as RFC 8785 writes it: one byte sequence for one content. Raises ArtifactError for names that are no text."""
    import rfc8785

    try:
        return bytes(rfc8785.dumps(dict(files)))
    except rfc8785.CanonicalizationError as error:
        raise ArtifactError(f"a manifest cannot be written: {error}. Allowed: file names in Unicode.") from None


def manifest_digest(files: Mapping[str, str]) -> str:
    """SHA-256 of the manifest's RFC 8785 bytes, as 'sha256:...': the digest of a model."""
    return digests.of_bytes(manifest_bytes(files))
