"""What a bundle says of itself: an in-toto Statement v1 whose subject is every file in it. docs/bundles.md has the format."""

import json
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from airgate.contracts import digests, in_toto
from airgate.contracts.base import Contract
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.payloads import Candidate
from airgate.contracts.step import ArtifactRef, Digest
from airgate.errors import BundleError

BUNDLE_TYPE = "https://airgate.io/predicates/bundle/v1"

MANIFEST = "bundle.json"  # the signed statement; it names all other files
MODEL, REPORTS, LOG = "model/", "reports/", "log/"
CANDIDATE, EVALUATION, DATA_CHECK = f"{REPORTS}candidate.json", f"{REPORTS}evaluation.json", f"{REPORTS}data_check.json"

Role = Literal["trained", "requested", "approved"]
Name = Annotated[str, Field(min_length=1, max_length=250)]


class NamedPerson(Contract):
    """Somebody who had a part in the version at the source. A claim of the source: its log holds the names encrypted."""

    role: Role
    name: Name


class BundleManifest(Contract):
    """Which version, from where, and for how long the bundle may be imported. The statement's predicate.

    `origin` names the source's audit log; `register_event` and `verdict_event` are event ids in it: the step that registered
    the version there, and the verdict of the gates that it passed there.
    """

    schema_version: Literal[1] = 1
    model: Name
    version: Name
    model_digest: Digest
    environment: Name
    origin: Name
    airgate: Name
    made_at: AwareDatetime
    expires_at: AwareDatetime
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$")
    register_event: Name
    verdict_event: Name
    people: list[NamedPerson] = Field(default=[], max_length=1000)


class BundleStatement(Contract):
    """`files` are all files of the bundle but the statement itself: {name: 'sha256:...'}."""

    files: dict[str, Digest] = Field(min_length=1)
    manifest: BundleManifest

    def payload(self) -> bytes:
        """The RFC 8785 bytes that are signed."""
        return in_toto.payload(self.files, BUNDLE_TYPE, self.manifest.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """SHA-256 over the signed bytes: what the log names a bundle by."""
        return digests.of_bytes(self.payload())

    @property
    def model_files(self) -> dict[str, Digest]:
        """The manifest of the model's folder: {path in it: digest}."""
        return {name.removeprefix(MODEL): digest for name, digest in self.files.items() if name.startswith(MODEL)}

    @classmethod
    def parse(cls, payload: bytes) -> "BundleStatement":
        """Read a statement whose signature was verified. Raises BundleError when it is none, or contradicts itself."""
        try:
            record = json.loads(payload)
            if (record["_type"], record["predicateType"]) != (in_toto.STATEMENT_TYPE, BUNDLE_TYPE):
                raise ValueError(f"it is {str(record['predicateType'])[:100]!r}, not {BUNDLE_TYPE}")
            statement = cls(files=in_toto.files_of(record), manifest=BundleManifest.model_validate(record["predicate"]))
        except (ValueError, TypeError, KeyError, RecursionError, ValidationError) as error:
            raise _malformed(f"{MANIFEST} is not the statement of a bundle of format 1: {_first(error)}") from None
        if statement.payload() != payload:
            raise _malformed(f"{MANIFEST} is not written as RFC 8785 has it, or names a file twice")
        found = manifest_digest(statement.model_files)
        if found != statement.manifest.model_digest:
            raise BundleError("other model", f"the files under {MODEL} have the digest {found}, and the bundle speaks of a model "
                              f"with {statement.manifest.model_digest}: they are those of another version")
        return statement


class ImportedFrom(Contract):
    """Body of `bundle.imported`: what was verified of a bundle, so that nothing after it must open the bundle again.

    `bundle` is the file in the artifact store, `statement` the digest of what was signed, `key` the key that signed it,
    `log_keys` those that the source's log was verified by. From the source's log: `candidate` (the version as it was registered
    there), `evaluation`, `data_check`, `gates_at_training` (hash of the thresholds when the training began), and
    `compared_with`, the digest of the model that was in production there when the version was measured; None where none was.
    """

    bundle: ArtifactRef
    statement: Digest
    nonce: str
    environment: str
    origin: str
    key: str
    log_keys: list[str]
    checkpoint: int
    made_at: AwareDatetime
    source_version: str
    model_digest: Digest
    candidate: Candidate
    evaluation: Digest
    data_check: Digest | None
    gates_at_training: Digest | None
    compared_with: Digest | None
    people: list[NamedPerson] = []


def _malformed(what: str) -> BundleError:
    return BundleError("tampered", f"{what}. Is it from a newer release? Then upgrade this installation first")


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)[:200] or type(error).__name__
