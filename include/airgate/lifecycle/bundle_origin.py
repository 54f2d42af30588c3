"""Where a version that was not trained here came from, by this installation's own log."""

from airgate import settings
from airgate.audit.event import Actor
from airgate.contracts import digests
from airgate.contracts.bundle import ImportedFrom
from airgate.contracts.payloads import Candidate
from airgate.contracts.runs import dag_id
from airgate.lifecycle import recording


def origin_of(candidate: Candidate) -> ImportedFrom | None:
    """What was verified of the bundle that a candidate came in; None of one that was trained here.

    Names of erased people read 'erased:...'. Raises AuditError when the log cannot be read.
    """
    if candidate.flow != "bundle_import":
        return None
    found = recording.store().events(kind="bundle.imported", model=candidate.model, run_id=candidate.training_run,
                                     dag_id=dag_id(candidate.model, "bundle_import"))
    bodies = [ImportedFrom.model_validate(item.event.body) for item in found]
    return next((body for body in bodies if body.model_digest == candidate.digest), None)


def trained_by(candidate: Candidate) -> list[Actor]:
    """Who trained it at the source, by the source's word; nobody for one that was trained here."""
    origin = origin_of(candidate)
    people = origin.people if origin else []
    return [Actor(kind="user", name=person.name) for person in people if person.role == "trained"]


def stored_at(digest: str) -> str:
    """The URL of an artifact in this installation's store, by its digest."""
    return digests.place_in(settings.load().artifact_store, digest)
