"""A signature that OpenSSF's model signing verifies: `model_signing verify key FOLDER --signature FILE --public_key KEY`.

Its format is a Sigstore bundle v0.3 around the same DSSE and in-toto, with one subject for the folder and the files in the
predicate (https://github.com/ossf/model-signing-spec, https://model_signing/signature/v1.0). It takes keys on NIST's curves
only, never Ed25519: so this is an export under a key of its own, and nothing of Airgate's is decided by it.
"""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from airgate.contracts import in_toto
from airgate.contracts.in_toto import PAYLOAD_TYPE
from airgate.errors import ConfigError
from airgate.signatures import dsse
from airgate.signatures.private_key import load_any

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MADE_BY = "`openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt` makes one"


def bundle(name: str, files: Mapping[str, str], key: str) -> dict[str, Any]:
    """Sign a model's manifest {relative path: 'sha256:...'} under the P-256 key 'file:PATH' or 'env:VARIABLE'.

    `name` is what the model is called in it. Gives the bundle's JSON. Raises ConfigError for a key that is not P-256.
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = load_any(key, "--key", _MADE_BY)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise ConfigError(f"--key: {key} holds no key on the curve P-256, which model signing asks for; {_MADE_BY}")
    payload = _payload(name, files)
    signature = private.sign(dsse.pae(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hashlib.sha256(public).hexdigest()}, "tlogEntries": []},
        "dsseEnvelope": {"payload": b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE,
                         "signatures": [{"sig": b64encode(signature).decode(), "keyid": ""}]},
    }


def _payload(name: str, files: Mapping[str, str]) -> bytes:
    """The statement: files in the order of their names, and as subject SHA-256 over their digests' bytes in that order."""
    digests = {path: files[path].removeprefix("sha256:") for path in sorted(files)}
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests.values())).hexdigest()
    predicate = {
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
        "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in digests.items()]}
    return in_toto.statement([{"name": name, "digest": {"sha256": root}}], PREDICATE_TYPE, predicate)
