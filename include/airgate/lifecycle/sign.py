"""Signing a version: when it was registered, and when its promotion was approved. The key is here, never in a step.

What is signed is made from records alone: the register step's success event, the leaves of request and approvals.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.audit import signed
from airgate.audit.event import AuditEvent, TaskRef, event_id_of
from airgate.audit.signed import claim_of
from airgate.audit.stage_chain import Move
from airgate.contracts import digests
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate
from airgate.contracts.promotion import PromotionRequest
from airgate.contracts.runs import dag_id
from airgate.contracts.step import ArtifactRef
from airgate.contracts.version_tags import version_tags
from airgate.encryption import at_rest
from airgate.errors import PromotionError, SignatureError
from airgate.lifecycle import recording
from airgate.lifecycle.candidate import REGISTER_TASK
from airgate.lifecycle.data_read import check_data
from airgate.signatures import dsse, keys, stage_move, statement
from airgate.signatures.statement import Promotion, Registration, Statement

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore


class SignOperator(BaseOperator):
    """Signs what this run's `register` task registered, and only then lets the candidate be known.

    Gives the Candidate payload. A retry meets the signature that was made before.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Record `model.signed`. Raises SignatureError when this run registered nothing, GateError when the version names other
        data than was read for it, ConfigError without a key."""
        log = recording.store()
        registered = recording.newest_success(context["ti"].dag_id, REGISTER_TASK, run_id=context["ti"].run_id)
        if registered is None:
            raise SignatureError(f"the audit log has no success of '{REGISTER_TASK}' from this run, so there is nothing to sign. "
                                 "A task that was marked by hand registers nothing: clear it and let it run.")
        candidate = candidate_in(registered)
        if context["ti"].dag_id == dag_id(self.spec.name, "training"):  # what an import names, its bundle's signature vouches for
            check_data(candidate)
        event = sign_registration(log, registered, **recording.by(context))
        self.log.info("version %s is signed by %s", event.version, event.body["key"])
        payload: dict[str, Any] = candidate.model_dump(mode="json")
        recording.emit(context, self.outlets, payload)
        return payload


def candidate_in(registered: AuditEvent) -> Candidate:
    """What a register step gave, read by the digest in its success event. Raises ArtifactError."""
    return Candidate.model_validate(recording.output_of(registered))


def sign_registration(log: "AuditStore", registered: AuditEvent, **fields: Any) -> AuditEvent:
    """Sign the version that a register step's success event is about, and record it.

    `fields` are those of the event: actor, source, task, code. Raises SignatureError when the log does not know the files,
    ArtifactError when the store lost them, ConfigError without a key.
    """
    task, facts = registered.task, registered.body.get("facts")
    if task is None or registered.source != "operator" or registered.kind != "task.succeeded":
        raise SignatureError(f"event {registered.event_id} is no record of a register step. Name the event of the step itself.")
    candidate, source = candidate_in(registered), facts.get("model_source") if isinstance(facts, dict) else None
    about = Registration(
        model=candidate.model, version=candidate.version, model_digest=candidate.digest,
        tags=version_tags(digest=candidate.digest, gates_hash=candidate.gates_hash, data_revision=candidate.data_revision,
                          data_hash=candidate.data_hash, window=candidate.window, dag_id=task.dag_id, training_run=task.run_id),
        training_run=candidate.training_run, mlflow_run_id=candidate.mlflow_run_id, source=str(source or ""),
        register_event=str(registered.event_id), environment=settings.load().environment)
    said = Statement(files=_files(log, candidate, task), predicate=about)
    return record_statement(log, said, str(registered.event_id), **fields)


def sign_promotion(context: Any, log: "AuditStore", request_event: AuditEvent, approvals: Sequence[AuditEvent]) -> AuditEvent:
    """Sign that a request was approved, before the stage moves, and record it. Twice gives the event that was recorded first.

    `request_event` is `promotion.requested`, `approvals` are its `promotion.approved` events as they were recorded.
    Raises PromotionError when the version's registration was never signed or its signature does not verify, ConfigError
    without a key.
    """
    return promotion_signature(log, request_event, approvals, **recording.by(context))


def promotion_signature(log: "AuditStore", request_event: AuditEvent, approvals: Sequence[AuditEvent],
                        **fields: Any) -> AuditEvent:
    """The same for whoever is no task; `fields` are those of the event. Raises as `sign_promotion` does."""
    request, now = PromotionRequest.model_validate(request_event.body), settings.load()
    registered = registration(log, request.model, request.version)
    if registered.model_digest != request.model_digest:
        raise PromotionError(f"the request is about files of digest {request.model_digest}, and {request.model} version "
                             f"{request.version} was signed with {registered.model_digest}. Ask again for the version as it is.")
    about = Promotion(
        model=request.model, version=request.version, model_digest=request.model_digest, stage=request.to_stage,
        request=_leaf(log, request_event), approvals=[_leaf(log, approval) for approval in approvals],
        environment=now.environment)
    asked = str(request_event.event_id)
    more = {"stage": request.to_stage, "request_event": asked, "request_digest": _digest(request, approvals)}
    return record_statement(log, Statement(files=registered.files, predicate=about), asked, more, **fields)


def registration(log: "AuditStore", model: str, version: str) -> Statement:
    """The verified statement about a version's registration. Raises PromotionError when there is none that verifies."""
    now = settings.load()
    envelope = signed.envelope_of(signed.registration_of(log, model, version))
    if envelope is None:
        raise PromotionError(unsigned(model, version))
    try:
        said = statement.verify(envelope, keys.trusted(now), environment=now.environment)
    except SignatureError as error:
        raise PromotionError(f"{model} version {version}: the signature of its registration does not count: {error}") from None
    if (said.predicate.model, said.predicate.version) != (model, version) or not isinstance(said.predicate, Registration):
        raise PromotionError(f"the log's signature of {model} version {version} speaks of {said.predicate.model} version "
                             f"{said.predicate.version}. Was the log changed? Run `airgate audit verify`.")
    return said


def unsigned(model: str, version: str, what: str = "registration") -> str:
    """The message for a version that was never signed. A command that makes a promotion count is not handed out lightly."""
    if what == "promotion":
        return (f"{model} version {version} is not signed ({what}), and every promotion since release 0.3.0 is. Did Airgate make "
                "it? Look at the stage.moved on record, its request and its approvals, and ask those who approved; then promote "
                "anew. What a promotion of release 0.2.0 needs stands under 'Signing' in docs/platform.md.")
    return (f"{model} version {version} is not signed ({what}): it is from release 0.2.0 or earlier, or its 'sign' task did not "
            f"run. If it is to be used, look at its record and run `airgate model sign {model}@{version}`.")


def record_statement(log: "AuditStore", said: Statement, about: str, more: dict[str, Any] | None = None,
                     **fields: Any) -> AuditEvent:
    """Sign a statement and record it, once for each thing it is about (an event id) and each key; give the event of the log.

    `more` goes into the event's body. Raises ConfigError without a key, AuditError when the log fails.
    """
    signer, predicate = own_signer(), said.predicate
    kind = "registration" if isinstance(predicate, Registration) else "promotion"
    body = {"statement": kind, "model_digest": predicate.model_digest, **(more or {})}
    return _record(log, statement.sign(said, signer), about, body, model=predicate.model, version=predicate.version, **fields)


def sign_move(log: "AuditStore", move: Move, **fields: Any) -> AuditEvent:
    """Sign a move that is on record, once more or, of release 0.2.0, for the first time. Raises as `record_statement` does."""
    signer, event = own_signer(), move.event
    envelope = move_envelope(str(event.model), claim_of(move), event.body, signer)
    body = {"statement": "move", "model_digest": move.body.model_digest, "move": move.event_id}
    return _record(log, envelope, move.event_id, body, model=event.model, version=move.body.to_version or move.body.from_version,
                   **fields)


def move_envelope(model: str, claim: str, body: Mapping[str, Any], signer: keys.Signer | None = None) -> dsse.Envelope:
    """Sign a move by what its claim says. Raises ConfigError without a key."""
    signer = signer or own_signer()
    said = stage_move.SignedMove(model=model, claim=claim, move=stage_move.facts(body), environment=signer.public.name)
    return stage_move.sign(said, signer)


def own_signer() -> keys.Signer:
    """The key that signs here. Raises ConfigError when there is none."""
    now = settings.load()
    return keys.signer(now.model_key, now.environment)


def _record(log: "AuditStore", envelope: dsse.Envelope, about: str, body: dict[str, Any], **fields: Any) -> AuditEvent:
    # Nobody without the key knows the envelope, so nobody takes its id before.
    event_id = event_id_of("model.signed", body["statement"], about, envelope.digest())
    # Not masked: an envelope with a letter changed is no envelope.
    body |= {"envelope": envelope.to_json(), "envelope_digest": envelope.digest(), "key": own_signer().public.text()}
    log.append_if_absent(AuditEvent(event_id=event_id, kind="model.signed", occurred_at=datetime.now(UTC), body=body, **fields))
    found = log.get(event_id)
    assert found is not None  # noqa: S101  it was appended, now or before
    return found.event


def _files(log: "AuditStore", candidate: Candidate, task: TaskRef) -> dict[str, str]:
    """The manifest of the model's folder, by the reference that the train step left in the log."""
    for stored in log.events(kind="task.succeeded", dag_id=task.dag_id, run_id=task.run_id):
        output = stored.event.body.get("output")
        if stored.event.source == "operator" and isinstance(output, dict) and output.get("digest") == candidate.digest:
            return read_manifest(ArtifactRef.model_validate(output))
    raise SignatureError(f"no step of run {task.run_id} of {task.dag_id} stored a model of digest {candidate.digest}, so the log "
                         f"does not know the files of {candidate.model} version {candidate.version}. Train it again.")


def read_manifest(ref: ArtifactRef) -> dict[str, str]:
    """A model's manifest from the store. Raises ArtifactError when it is not there, SignatureError for other bytes."""
    raw = at_rest.read_bytes(ref.uri)
    if digests.of_bytes(raw) != ref.digest:
        raise SignatureError(f"{ref.uri}: not the manifest of digest {ref.digest}. Somebody changed it: do not sign it.")
    files = json.loads(raw)
    if not isinstance(files, dict) or manifest_digest(files) != ref.digest:
        raise SignatureError(f"{ref.uri}: not the manifest of a model, {ref.digest}. Is it a model's version?")
    return files


def _leaf(log: "AuditStore", event: AuditEvent) -> str:
    found = log.entry(event.event_id)
    if found is None:
        raise PromotionError(f"the audit log no longer has event {event.event_id} ({event.kind}), which is to be signed.")
    return found[1].decode()


def _digest(request: PromotionRequest, approvals: Sequence[AuditEvent]) -> str:
    """The request's digest as the approvals name it. Of an erased person's request it cannot be computed again."""
    named = {str(approval.body.get("request_digest")) for approval in approvals}
    if not named:
        raise PromotionError("nobody approved this request, so there is nothing to sign.")
    if len(named) > 1:
        raise PromotionError(f"the approvals are for {len(named)} different requests ({', '.join(sorted(named))}); this one is "
                             f"{request.digest()}.")
    return named.pop()
