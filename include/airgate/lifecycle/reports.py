"""The evidence a request names: found by the audit log when the request is made, read again by digest when it is applied."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airgate.audit.event import AuditEvent
from airgate.contracts import digests
from airgate.contracts.payloads import Verdict
from airgate.contracts.promotion import PromotionRequest
from airgate.contracts.runs import dag_id
from airgate.encryption import at_rest
from airgate.encryption.envelope import EnvelopeError
from airgate.errors import MissingArtifactError, PromotionError
from airgate.lifecycle import recording
from airgate.lifecycle.bundle_origin import stored_at
from airgate.lifecycle.verdict import data_check_of

if TYPE_CHECKING:
    from airgate.audit.entry import StoredEvent

GATES = "gates"
FAIRNESS = "fairness.json"  # as a step attaches it
# What a report is called before a person.
CALLED = {GATES: "gate verdict", "evaluation": "evaluation", "data_check": "data check", "fairness": "fairness report",
          "drift": "drift report"}


def collect(event: AuditEvent, verdict: Verdict) -> dict[str, str]:
    """Digests by name of what approvers are to judge by; `event` is the verdict's. See PromotionRequest.reports.

    Raises PromotionError when the log has no data check of the training (of an imported version: when none came with it),
    without which there is nothing to judge.
    """
    data_check = data_check_of(verdict.candidate)
    if data_check is None:
        raise PromotionError(f"the audit log has no data check of training run {verdict.candidate.training_run!r}: nobody can be "
                             f"asked to agree to unchecked data. Run {dag_id(verdict.candidate.model, 'training')} again.")
    found = {GATES: _leaf(str(event.event_id)), "evaluation": verdict.evaluation_digest, "data_check": data_check,
             "fairness": _fairness(event, verdict), "drift": _drift(verdict.candidate.model)}
    return {name: digest for name, digest in found.items() if digest}


def problems(request: PromotionRequest) -> list[str]:
    """Read every report again and say which is not what the request names. Empty when all are.

    Raises ArtifactError when the store cannot be read at all: that is no answer, and may be better in a minute.
    """
    found = []
    for name, digest in request.reports.items():
        called = CALLED.get(name, name)
        actual = _leaf(request.verdict_event) if name == GATES else _stored(digest)
        if actual is None:
            found.append(f"the {called} that the request names, {digest[:19]}, is gone")
        elif actual != digest:
            found.append(f"the {called} changed after the request was made: it has digest {actual[:19]}, the request names "
                         f"{digest[:19]}")
    return found


def _leaf(event_id: str) -> str | None:
    """Digest of an event's bytes in the log; None when they are gone."""
    entry = recording.store().entry(event_id)
    return digests.of_bytes(entry[1]) if entry else None


def _stored(digest: str) -> str | None:
    """Digest of the bytes that the artifact store holds under `digest` (see airgate.steps.store); None when there are none."""
    try:
        raw = at_rest.read_bytes(stored_at(digest))
    except MissingArtifactError:
        return None
    except EnvelopeError:
        return "(none, is damaged)"
    return digests.of_bytes(raw)


def _drift(model: str) -> str | None:
    """The newest drift report, whichever version it was about: how the incoming rows look now."""
    found = recording.newest("drift.verdict", model)
    digest = found.body.get("report_digest") if found else None
    return str(digest) if digest else None


def _fairness(event: AuditEvent, verdict: Verdict) -> str | None:
    """The fairness report that a step of the validation or of the training (the import) attached, if there is one."""
    runs = [(dag_id(verdict.candidate.model, verdict.candidate.flow), verdict.candidate.training_run)]
    runs += [(event.task.dag_id, event.task.run_id)] if event.task else []
    log = recording.store()
    return attached((item for dag, run in runs for item in log.events(kind="task.succeeded", dag_id=dag, run_id=run)), FAIRNESS)


def attached(events: "Iterable[StoredEvent]", name: str) -> str | None:
    """Digest of the newest file of this name that a step attached, by its own operator's record; None where none did."""
    for item in sorted(events, key=lambda item: item.seq, reverse=True):
        files = item.event.body.get("attachments")
        if (item.event.kind, item.event.source) == ("task.succeeded", "operator") and isinstance(files, dict) and name in files:
            return str(files[name])
    return None
