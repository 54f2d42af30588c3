"""Is this version what the records say, and may it be where it is? Signature, digests, request, approvals, stage.

Everything is read from the audit log and held against signatures of trusted keys; the log alone or MLflow alone is not enough.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgate import settings
from airgate.audit import canonical_json, signed
from airgate.audit.event import AuditEvent
from airgate.audit.subjects import ERASED
from airgate.contracts.promotion import Approval, PromotionRequest
from airgate.contracts.stages import ARCHIVED
from airgate.errors import AirgateError, PromotionError, SignatureError
from airgate.governance import stages
from airgate.governance.stages import Move
from airgate.lifecycle import sign
from airgate.signatures import keys, statement
from airgate.signatures.keys import Keyring
from airgate.signatures.statement import Promotion, Registration, Statement

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore
    from airgate.registry.versions import Registry

APPROVALS = 2


@dataclass(frozen=True)
class Check:
    """One question, its answer, and a sentence about it."""

    name: str
    passed: bool
    said: str


@dataclass
class Verification:
    """What was found about a version. `stage` is the one it was asked about, None for a version that needs to be in none.

    `registration` and `promotion` are the statements that verified.
    """

    model: str
    version: str
    stage: str | None
    checks: list[Check] = field(default_factory=list)
    registration: Statement | None = None
    promotion: Statement | None = None

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def lines(self) -> list[str]:
        """One line a check: 'ok      signature  signed by production+1a2b3c4d'."""
        width = max(len(check.name) for check in self.checks)
        return [f"{'ok' if check.passed else 'FAILED':6}  {check.name.ljust(width)}  {check.said}" for check in self.checks]

    def require(self) -> "Verification":
        """Give itself. Raises PromotionError with what failed, when something did."""
        failed = [f"{check.name}: {check.said}" for check in self.checks if not check.passed]
        if failed:
            where = f" may not be used as {self.stage}" if self.stage else " does not verify"
            raise PromotionError(f"{self.model} version {self.version}{where}: {'; '.join(failed)}")
        return self

    def note(self, name: str, ask: "Callable[[], str]") -> None:
        """Answer one question: `ask` gives the sentence, or raises an AirgateError that is it."""
        try:
            self.checks.append(Check(name, True, ask()))
        except AirgateError as error:
            self.checks.append(Check(name, False, str(error)))


def verify_version(log: "AuditStore", keyring: Keyring, model: str, version: str, *, stage: str | None = None,
                   registry: "Registry | None" = None, files: Mapping[str, str] | None = None) -> Verification:
    """Verify a version by the log and the trusted keys.

    With `stage`, that the newest recorded move, which is signed, put it there, by a promotion that is signed too and that two
    people approved. With `registry`,
    that MLflow says the same. With `files`, the manifest of its files as they were fetched, that they are the signed ones.
    Raises AuditError when the log cannot be read; what does not verify is in the answer.
    """
    found = Verification(model, version, stage)
    found.note("registration", lambda: _registration(log, keyring, found))
    if found.registration is not None:
        found.note("record", lambda: _record(log, found.registration))
    if stage is not None:
        _verify_stage(log, keyring, found, stage)
    if registry is not None:
        found.note("mlflow", lambda: _mlflow(registry, found))
    if files is not None:
        found.note("files", lambda: _files(found, files))
    return found


def _registration(log: "AuditStore", keyring: Keyring, found: Verification) -> str:
    envelope = signed.envelope_of(signed.registration_of(log, found.model, found.version, keyring))
    if envelope is None:
        raise SignatureError(sign.unsigned(found.model, found.version))
    said = _statement(envelope, keyring, found)
    if not isinstance(said.predicate, Registration):
        raise SignatureError("what was signed as a registration is none.")
    found.registration = said
    return f"signed by {_keyid(envelope)}, {len(said.files)} files, {said.model_digest}"


def _record(log: "AuditStore", said: Statement | None) -> str:
    """The step's own record must say what was signed."""
    assert said is not None and isinstance(said.predicate, Registration)  # noqa: S101  for the type checker
    about = said.predicate
    stored = log.get(about.register_event)
    if stored is None and signed.is_expired(log, about.register_event):
        return f"registered by event {about.register_event}, whose contents have expired; the signature keeps what it said"
    if stored is None:
        raise SignatureError(f"the audit log does not have event {about.register_event}, on which the registration stands.")
    event, facts = stored.event, stored.event.body.get("facts")
    if event.kind != "task.succeeded" or event.source != "operator" or not isinstance(facts, dict):
        raise SignatureError(f"event {about.register_event} is no record of a step's success, so nothing was registered by it.")
    told = (event.model, str(facts.get("model_version")), facts.get("model_digest"))
    if told != (about.model, about.version, about.model_digest):
        raise SignatureError(f"event {about.register_event} is about {told[0]} version {told[1]} with digest {told[2]}.")
    where = f"run {event.task.run_id} of {event.task.dag_id}" if event.task else "a step"
    return f"registered by {where}, event {stored.seq} of the log"


def verify_promotion(log: "AuditStore", keyring: Keyring, move: Move) -> Verification:
    """Verify what a recorded promotion to a stage stands on, whether or not its version is there now: for a way back to it.

    Raises AuditError when the log cannot be read; what does not verify is in the answer.
    """
    found = Verification(str(move.event.model), str(move.body.to_version), move.body.stage)
    found.note("registration", lambda: _registration(log, keyring, found))
    if found.registration is not None:
        found.note("record", lambda: _record(log, found.registration))
    _verify_move(log, keyring, found, move)
    return found


def _verify_stage(log: "AuditStore", keyring: Keyring, found: Verification, stage: str) -> None:
    now = stages.read(log, found.model)
    state = now.state(stage)
    found.note("stage", lambda: _stage(state, found, now.archived))
    if state.moved is not None and state.version == found.version:
        _verify_move(log, keyring, found, state.moved)


def _verify_move(log: "AuditStore", keyring: Keyring, found: Verification, move: Move) -> None:
    request_digest = move.body.request_digest
    found.note("promotion", lambda: _promotion(log, keyring, found, move.body.stage, request_digest))
    said = found.promotion
    if said is not None:
        found.note("approvals", lambda: _approvals(log, said, str(request_digest)))
    found.note("move", lambda: f"signed by {_keyid(signed.check_move(log, move, keyring))}")


def _stage(state: stages.StageState, found: Verification, archived: Collection[str]) -> str:
    if state.version != found.version or state.moved is None:
        there = f"version {state.version}" if state.version else "no version"
        raise PromotionError(f"{state.stage} holds {there} by the audit log.")
    if found.version in archived and state.stage != ARCHIVED:
        raise PromotionError(f"it is archived, and was moved to {state.stage} all the same: Airgate moves no archived version.")
    if found.registration is not None and state.digest != found.registration.model_digest:
        raise PromotionError(f"the move was for files of digest {state.digest}, signed were {found.registration.model_digest}.")
    return f"in {state.stage} by the {state.moved.line()}"


def _promotion(log: "AuditStore", keyring: Keyring, found: Verification, stage: str, request_digest: str | None) -> str:
    envelope = signed.envelope_of(signed.promotion_of(log, found.model, found.version, request_digest, keyring))
    if envelope is None:
        raise SignatureError(sign.unsigned(found.model, found.version, "promotion"))
    said = _statement(envelope, keyring, found)
    if not isinstance(said.predicate, Promotion) or said.predicate.stage != stage:
        raise SignatureError(f"what was signed is no promotion to {stage}.")
    if found.registration is not None and said.files != found.registration.files:
        raise SignatureError("the promotion was signed for other files than the registration.")
    found.promotion = said
    return f"signed by {_keyid(envelope)}"


def _approvals(log: "AuditStore", said: Statement, request_digest: str) -> str:
    """The leaves that were signed must be in the log, and be two people's agreement to this very request."""
    about = said.predicate
    assert isinstance(about, Promotion)  # noqa: S101  for the type checker
    request = _cited(log, about.request, "promotion.requested")
    asked = PromotionRequest.model_validate(request.body)
    if (asked.model, asked.version, asked.model_digest, asked.to_stage) != (
            about.model, about.version, about.model_digest, about.stage):
        raise SignatureError(f"the request is about {asked.model} version {asked.version} to {asked.to_stage}.")
    # A request digests its people's names; after one of them was erased only those who signed and approved vouch for it.
    if ERASED not in " ".join(asked.requesters) and asked.digest() != request_digest:
        raise SignatureError(f"the request's digest is {asked.digest()}, and the stage was moved for {request_digest}.")
    approvals = [Approval.model_validate(_cited(log, leaf, "promotion.approved").body) for leaf in about.approvals]
    wrong = [approval.role for approval in approvals if approval.request_digest != request_digest]
    if wrong:
        raise SignatureError(f"the approval by {', '.join(wrong)} was given for another request.")
    late = [approval.role for approval in approvals if approval.at > asked.expires_at]
    if late:
        raise SignatureError(f"the approval by {', '.join(late)} was given after the request had expired.")
    people, roles = {approval.person or approval.user for approval in approvals}, {approval.role for approval in approvals}
    if len(people) < APPROVALS or len(roles) < APPROVALS:
        raise SignatureError(f"{len(people)} person in {len(roles)} role(s) approved; two people in two roles must.")
    asking = people & {requester.partition(":")[2] for requester in asked.requesters}
    if asking:
        raise SignatureError(f"{', '.join(sorted(asking))} asked for the promotion and approved it too.")
    return f"approved by {' and '.join(f'{one.user} ({one.role})' for one in approvals)}"


def _cited(log: "AuditStore", leaf: str, kind: str) -> AuditEvent:
    """The event whose leaf was signed, as the log has it."""
    try:
        event_id = str(canonical_json.loads(leaf.encode())["event"]["event_id"])
        found, event = log.entry(event_id), log.get(event_id)
    except (ValueError, TypeError, KeyError):
        raise SignatureError(f"what was signed as {kind} is no leaf of an audit log.") from None
    if found is None or event is None:
        raise SignatureError(f"the audit log no longer has event {event_id} ({kind}), which was signed.")
    if found[1] != leaf.encode():
        raise SignatureError(f"event {event_id} ({kind}) is not as it was signed. Run `airgate audit verify`.")
    if event.event.kind != kind:
        raise SignatureError(f"event {event_id} is {event.event.kind}; {kind} was expected.")
    return event.event


def _mlflow(registry: "Registry", found: Verification) -> str:
    there = registry.version(found.model, found.version)
    digest = found.registration.model_digest if found.registration else None
    if there.digest != digest:
        raise PromotionError(f"MLflow's tag airgate.digest is {there.digest}, signed was {digest}.")
    if found.stage is None:
        return "has the version and its digest"
    alias = registry.live(found.model, found.stage)
    if alias is None or alias.version != found.version:
        called = f"version {alias.version}" if alias else "no version"
        raise PromotionError(f"MLflow calls {called} {found.stage}. Did somebody move the alias? Run the DAG registry_guard.")
    return f"has the version, its digest, and the alias {found.stage}"


def _files(found: Verification, files: Mapping[str, str]) -> str:
    if found.registration is None:
        raise SignatureError("there is no signature to hold the files against.")
    statement.check_files(found.registration, files)
    return f"{len(files)} files are those that were signed"


def _statement(envelope: dict[str, Any], keyring: Keyring, found: Verification) -> Statement:
    said = statement.verify(envelope, keyring, environment=settings.load().environment)
    if (said.predicate.model, said.predicate.version) != (found.model, found.version):
        raise SignatureError(f"the signature is of {said.predicate.model} version {said.predicate.version}.")
    return said


def _keyid(envelope: Mapping[str, Any]) -> str:
    return ", ".join(str(one.get("keyid")) for one in envelope.get("signatures", []))


def trusted() -> Keyring:
    """The keys that count in this installation. Raises ConfigError when there is none."""
    return keys.trusted(settings.load())
