"""What a step is told of a bundle, held against the audit log: it travels by XCom, and XComs can be overwritten by hand."""

from typing import Any
from uuid import UUID

from airgate.errors import BundleError
from airgate.runtime import record

# What of a `bundle.imported` record they are told. Names of people are none of their business.
TOLD = ("bundle", "model_digest", "candidate", "evaluation")


def told(event_id: UUID, body: dict[str, Any]) -> dict[str, Any]:
    """The argument's value, from the record of an import."""
    return {"event_id": str(event_id), **{name: body[name] for name in TOLD}}


def check_bundle(value: Any, model: str) -> None:
    """Raise BundleError unless the log has the record of this import, of this model, word for word."""
    try:
        found = record.patient_store().get(UUID(str(value["event_id"])))
    except (KeyError, TypeError, ValueError):
        found = None
    event = found.event if found else None
    known = event is not None and (event.kind, event.model) == ("bundle.imported", model)
    if event is None or not known or value != told(event.event_id, dict(event.body)):
        raise BundleError("tampered", f"this step was given a bundle that the audit log does not know as imported for {model}. "
                          "Was the XCom of the 'take' task changed by hand? Clear that task and let it run.")
