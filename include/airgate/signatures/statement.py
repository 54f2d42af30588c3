"""What is said about a model's files, and signed: in-toto Statements v1 (https://github.com/in-toto/attestation).

The subject lists every file of the model's folder with its SHA-256; the predicate says on which record the statement stands.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from airgate.contracts import in_toto
from airgate.contracts.base import Contract
from airgate.contracts.in_toto import PAYLOAD_TYPE, STATEMENT_TYPE
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.step import Digest
from airgate.errors import SignatureError
from airgate.signatures import dsse
from airgate.signatures.keys import Keyring, PublicKey, Signer

REGISTRATION_TYPE = "https://airgate.io/predicates/registration/v1"
PROMOTION_TYPE = "https://airgate.io/predicates/promotion/v1"


class Registration(Contract):
    """A version was registered: by which training, as which version, with which tags.

    `register_event` is the audit log's event id of the step that registered it.
    """

    model: str
    version: str
    model_digest: Digest
    tags: dict[str, str]
    training_run: str
    mlflow_run_id: str
    source: str = Field(description="where MLflow keeps the version's files")
    register_event: str
    environment: str


class Promotion(Contract):
    """A request was approved: the leaves of the audit log that say so, as they are on record, names sealed."""

    model: str
    version: str
    model_digest: Digest
    stage: str
    request: str = Field(description="leaf text of promotion.requested")
    approvals: list[str] = Field(min_length=1, description="leaf texts of promotion.approved")
    environment: str


_TYPES: dict[str, type[Registration | Promotion]] = {REGISTRATION_TYPE: Registration, PROMOTION_TYPE: Promotion}


class Statement(Contract):
    """`files` is the manifest of a model's folder: {relative path: 'sha256:...'}."""

    files: dict[str, Digest] = Field(min_length=1)
    predicate: Registration | Promotion

    @property
    def model_digest(self) -> str:
        """The manifest's digest, by which the rest of Airgate names the model's bytes."""
        return manifest_digest(self.files)

    def payload(self) -> bytes:
        """The statement's RFC 8785 bytes, as they are signed."""
        kind = REGISTRATION_TYPE if isinstance(self.predicate, Registration) else PROMOTION_TYPE
        return in_toto.payload(self.files, kind, self.predicate.model_dump(mode="json"))

    @classmethod
    def parse(cls, payload: bytes) -> "Statement":
        """Read a statement's bytes, whose signature was verified. Raises SignatureError when they are none of ours."""
        try:
            record = json.loads(payload)
            if record["_type"] != STATEMENT_TYPE or record["predicateType"] not in _TYPES:
                raise ValueError(f"{record['_type']!r} with predicate {record['predicateType']!r}")
            files = in_toto.files_of(record)
            predicate = _TYPES[record["predicateType"]].model_validate(record["predicate"])
            statement = cls(files=files, predicate=predicate)
        except (ValueError, TypeError, KeyError, RecursionError, ValidationError) as error:
            raise SignatureError(f"what was signed is no statement about a model: {str(error)[:300]}. Allowed: in-toto "
                                 f"Statement v1 with predicate {' or '.join(_TYPES)}.") from None
        if len(files) != len(record["subject"]) or statement.payload() != payload:
            raise SignatureError("what was signed is a statement in another spelling than RFC 8785's, or names a file twice.")
        if statement.model_digest != statement.predicate.model_digest:
            raise SignatureError(f"the statement's files have digest {statement.model_digest}, and its predicate speaks of "
                                 f"{statement.predicate.model_digest}. Whoever signed it contradicts itself.")
        return statement


def sign(statement: Statement, signer: Signer) -> dsse.Envelope:
    """Sign a statement. Raises SignatureError when it speaks for another environment than the key."""
    check_voice(statement.predicate.environment, signer)
    return dsse.sign(statement.payload(), PAYLOAD_TYPE, signer)


def verify(envelope: Any, keys: Keyring, environment: str | None = None) -> Statement:
    """Verify an envelope (JSON values, or an Envelope) by one of the keys and give its statement. Nothing is read before.

    With `environment` it must speak for that one: what staging approved is not approved in production.
    Raises SignatureError when no trusted key signed it, it is no statement of ours, or its key is trusted for another
    environment than the one it speaks for.
    """
    payload, key = dsse.verify(envelope if isinstance(envelope, dsse.Envelope) else dsse.read(envelope), PAYLOAD_TYPE, keys)
    statement = Statement.parse(payload)
    check_speaker(statement.predicate.environment, key, environment)
    return statement


def check_voice(spoken_for: str, signer: Signer) -> None:
    """Let a key sign for its own environment alone. Raises SignatureError."""
    if spoken_for != signer.public.name:
        raise SignatureError(f"a key of '{signer.public.name}' cannot speak for '{spoken_for}'.")


def check_speaker(spoken_for: str, key: PublicKey, environment: str | None = None) -> None:
    """Hold the environment that a statement speaks for against its key's, and against `environment`. Raises SignatureError."""
    if spoken_for != key.name:
        raise SignatureError(f"the statement speaks for '{spoken_for}', and its key is trusted for '{key.name}' alone.")
    if environment is not None and key.name != environment:
        raise SignatureError(f"it was signed for '{key.name}', and this is '{environment}' (AIRGATE_ENVIRONMENT).")


def check_files(statement: Statement, files: Mapping[str, str]) -> None:
    """Hold a folder's manifest against the signed one. Raises SignatureError that names the files that differ."""
    signed = statement.files
    if signed == files:
        return
    changed = sorted(name for name in signed.keys() & files.keys() if signed[name] != files[name])
    missing, extra = sorted(signed.keys() - files.keys()), sorted(files.keys() - signed.keys())
    named = {"changed": changed, "missing": missing, "not signed": extra}
    said = "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in named.items() if names)
    about = statement.predicate
    raise SignatureError(f"{about.model} version {about.version}: the files are not those that were signed; {said}. Do not use "
                         "them: restore the version's files, or train again.")
