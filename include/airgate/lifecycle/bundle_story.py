"""What an audit log tells of a version: how it was made, measured and judged. The same reading serves both ends of a bundle, the
source before it writes one and the destination before it takes one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from airgate.audit.entry import StoredEvent
from airgate.audit.event import AuditEvent, Kind
from airgate.contracts import digests
from airgate.contracts.bundle import ImportedFrom
from airgate.contracts.payloads import Candidate, Verdict
from airgate.contracts.standard_steps import COMPARE, REGISTER, REGISTER_IMPORTED
from airgate.contracts.step import ArtifactRef
from airgate.errors import BundleError, SignatureError
from airgate.signatures import statement
from airgate.signatures.keys import Keyring

# Every event of these kinds that speaks of the version goes along, so that a refusal cannot be left behind.
DECISIONS: tuple[Kind, ...] = (
    "gate.verdict", "promotion.requested", "promotion.approved", "promotion.refused", "stage.moving", "stage.moved",
    "stage.reverted", "stage.reviewed", "model.signed", "registry.changed", "bundle.imported", "drift.verdict")
# What a step gave: the bytes that its event names by digest and place.
Output = Callable[[ArtifactRef], bytes]


@dataclass(frozen=True)
class Story:
    """A version by its log. `files` is the signed manifest of its folder, `source` where MLflow keeps it by the same signature
    (None where that does not say), `registered` and `verdict` are events of the log.

    The others are as in `ImportedFrom`; `evaluation` is where the evaluation lies.
    """

    candidate: Candidate
    files: dict[str, str]
    source: str | None
    registered: AuditEvent
    verdict: AuditEvent
    evaluation: ArtifactRef
    data_check: str | None
    gates_at_training: str | None
    compared_with: str | None


def read(events: Iterable[StoredEvent], model: str, version: str, keys: Keyring, output: Output) -> Story:
    """Read the story of a version from its events, in any order; names may be sealed. `keys` are those that may sign for it.

    Raises BundleError: 'incomplete' when the events do not tell it, 'other model' when they tell of another one.
    """
    ours = [item.event for item in sorted(events, key=lambda item: item.seq) if item.event.model == model]
    try:
        return _read(ours, model, version, keys, output)
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise BundleError("tampered", f"an event about {model} version {version} is not as Airgate writes it: "
                          f"{str(error).splitlines()[0][:200]}") from None


def register_event(events: Iterable[AuditEvent], model: str, version: str, keys: Keyring) -> str:
    """The id of the event of the step that registered the version, by its signature. Raises BundleError as `read` does."""
    said = _registration(list(events), model, version, keys).predicate
    return said.register_event if isinstance(said, statement.Registration) else ""


def _read(ours: Sequence[AuditEvent], model: str, version: str, keys: Keyring, output: Output) -> Story:
    said = _registration(ours, model, version, keys)
    about = said.predicate if isinstance(said.predicate, statement.Registration) else None
    wanted = about.register_event if about else ""
    registered = next((event for event in ours if str(event.event_id) == wanted
                       and event.kind == "task.succeeded" and event.source == "operator"), None)
    if registered is None or registered.task is None:
        raise _incomplete(f"the event of the step that registered {model} version {version} is not in the log")
    ref = ArtifactRef.model_validate(registered.body["output"])
    candidate = Candidate.model_validate_json(_checked(output(ref), ref))
    if (candidate.model, candidate.version, candidate.digest) != (model, version, said.model_digest):
        raise BundleError("other model", f"what was registered is {candidate.model} version {candidate.version} with the digest "
                          f"{candidate.digest}; what was signed is {model} version {version} with {said.model_digest}")
    verdict = _verdict(ours, candidate)
    of_its_flow = _of_import if registered.body["function"] == REGISTER_IMPORTED else _of_training
    source = (about.source or None) if about else None
    return Story(candidate, dict(said.files), source, registered, verdict, **of_its_flow(ours, registered, verdict, candidate))


def _registration(ours: Sequence[AuditEvent], model: str, version: str, keys: Keyring) -> statement.Statement:
    """The statement that was signed at the version's registration; the newest that verifies, for keys may have been replaced."""
    signed = [event for event in ours if event.kind == "model.signed" and event.version == version
              and event.body.get("statement") == "registration"]
    if not signed:
        raise _incomplete(f"{model} version {version} was never signed: `airgate model sign {model}@{version}` signs a version "
                          "that an older release registered")
    said, why = None, ""
    for event in reversed(signed):
        try:
            said = statement.verify(event.body.get("envelope"), keys)
            break
        except SignatureError as error:
            why = why or str(error)
    if said is None:
        raise BundleError("untrusted key", f"the signature of {model} version {version} does not count: {why}")
    if (said.predicate.model, said.predicate.version) != (model, version):
        raise BundleError("other model", f"the signature is of {said.predicate.model} version {said.predicate.version}, not of "
                          f"{model} version {version}")
    if not isinstance(said.predicate, statement.Registration):
        raise _incomplete(f"what was signed of {model} version {version} is its promotion, not its registration")
    return said


def _verdict(ours: Sequence[AuditEvent], candidate: Candidate) -> AuditEvent:
    """The newest verdict about the version; it must be a pass."""
    verdicts = [event for event in ours if event.kind == "gate.verdict" and event.version == candidate.version]
    if not verdicts:
        raise _incomplete(f"{candidate.model} version {candidate.version} has not met the gates yet: run its validation first")
    verdict = Verdict.model_validate(verdicts[-1].body)
    if not verdict.passed:
        failed = ", ".join(gate.name for gate in verdict.gates if not gate.passed)
        raise _incomplete(f"{candidate.model} version {candidate.version} did not pass its gates: {failed}")
    if verdict.candidate != candidate:
        raise BundleError("other model", f"the gates judged the model {verdict.candidate.digest}, not {candidate.digest}")
    return verdicts[-1]


def _of_training(ours: Sequence[AuditEvent], registered: AuditEvent, verdict: AuditEvent, candidate: Candidate) -> dict[str, Any]:
    """What the runs of training and validation recorded, of a version that was made in this installation."""
    if registered.body["function"] != REGISTER:
        raise _incomplete(f"{candidate.model} version {candidate.version} was registered by {registered.body['function']}; only "
                          f"{REGISTER} and {REGISTER_IMPORTED} register what can be carried on")
    training = [event for event in ours if _run(event) == _run(registered) and event.source == "operator"]
    check = _newest(training, "task.succeeded", "check")
    begun = _newest(training[::-1], "task.started", "train")
    digest = Verdict.model_validate(verdict.body).evaluation_digest
    measured = next((event for event in reversed(ours) if _run(event) == _run(verdict) and event.kind == "task.succeeded"
                     and event.source == "operator" and event.body.get("function") == COMPARE
                     and _body(event)["output"]["digest"] == digest), None)
    if measured is None:
        raise _incomplete(f"the event of the evaluation {digest} is not in the log")
    asked = _body(measured)["parameters"]
    if asked["candidate"]["digest"] != candidate.digest:
        raise BundleError("other model", f"the evaluation is of the model {asked['candidate']['digest']}, not {candidate.digest}")
    return {
        "evaluation": ArtifactRef.model_validate(measured.body["output"]),
        "data_check": _body(check)["attachments"].get("data_check.json") if check else None,
        "gates_at_training": begun.body["gates_hash"] if begun else None,
        "compared_with": (asked.get("production") or {}).get("digest"),
    }


def _of_import(ours: Sequence[AuditEvent], registered: AuditEvent, verdict: AuditEvent, candidate: Candidate) -> dict[str, Any]:
    """What this installation verified when it took the version itself from a bundle."""
    taken = next((event for event in ours if event.kind == "bundle.imported" and _run(event) == _run(registered)), None)
    if taken is None:
        raise _incomplete(f"the record of the import of {candidate.model} version {candidate.version} is not in the log")
    imported = ImportedFrom.model_validate(taken.body)
    if imported.model_digest != candidate.digest:
        raise BundleError("other model", f"what was imported is the model {imported.model_digest}, not {candidate.digest}")
    root, _, _ = imported.bundle.uri.rpartition("/sha256/")
    place = ArtifactRef(uri=digests.place_in(root, imported.evaluation), digest=imported.evaluation, kind="json", size=0)
    return {"evaluation": place, "data_check": imported.data_check, "gates_at_training": imported.gates_at_training,
            "compared_with": imported.compared_with}


def _newest(events: Sequence[AuditEvent], kind: Kind, task_id: str) -> AuditEvent | None:
    return next((event for event in reversed(events)
                 if event.kind == kind and event.task is not None and event.task.task_id == task_id), None)


def _body(event: AuditEvent) -> dict[str, Any]:
    return dict(event.body)


def _run(event: AuditEvent) -> tuple[str, str] | None:
    return (event.task.dag_id, event.task.run_id) if event.task else None


def _checked(data: bytes, ref: ArtifactRef) -> bytes:
    found = digests.of_bytes(data)
    if found != ref.digest:
        raise BundleError("tampered", f"what the registering step gave has the digest {found}, the log says {ref.digest}")
    return data


def _incomplete(what: str) -> BundleError:
    return BundleError("incomplete", what)
