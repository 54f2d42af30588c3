"""What is in MLflow's registry and no promotion put there, as records: `registry.changed`, and what of them still stands."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from airgate import redaction
from airgate.audit.event import Actor, AuditEvent, event_id_of

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

What = Literal["model.deleted", "version.deleted", "version.created", "version.replaced", "tags.changed", "alias.changed",
               "alias.created", "stage.set"]
# After one of these the version that was approved is not in MLflow any more.
GONE: tuple[What, ...] = ("model.deleted", "version.deleted", "version.replaced")
GUARD = Actor(kind="system", name="registry guard")
_TEXT, _ITEMS = 300, 40  # what others wrote into MLflow has no limit there; an event has


@dataclass(frozen=True)
class Change:
    """One difference between MLflow and the log.

    `subject` is what differs: a version, an alias, or "" for the model as a whole. `before` is what the log says should be
    there, `after` what MLflow has; None is nothing.
    """

    what: What
    model: str
    subject: str
    before: Any = None
    after: Any = None

    @property
    def version(self) -> str | None:
        """The version that it is about; of an alias the one that it names."""
        named = self.after or self.before if self.what.startswith("alias.") else self.subject
        return str(named) if named else None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from other changes of the same model, whatever it was changed to."""
        return self.what, self.subject

    def line(self) -> str:
        """Say in one line what was changed, from what to what."""
        return f"{self.model} {_text(self)}"


@dataclass(frozen=True)
class Recorded:
    """What the log says last of one subject: the change as it was found; `restored` when it was put back since."""

    event_id: str
    change: Change
    restored: bool

    def tells(self, change: Change) -> bool:
        """Whether this change is on record, and nobody has put it back since."""
        return not self.restored and self.change.after == shown(change.after)


Records = Mapping[tuple[str, str], Recorded]


def records(store: "AuditStore", model: str) -> Records:
    """Give the newest record of each kind and subject. Raises AuditError when the log cannot be read."""
    found: dict[tuple[str, str], Recorded] = {}
    for stored in store.events(model=model, kind="registry.changed"):
        body = stored.event.body
        change = Change(cast("What", body.get("what")), model, str(body.get("subject", "")), body.get("before"),
                        body.get("after"))
        found[change.key] = Recorded(str(stored.event.event_id), change, body.get("restored") is True)
    return found


def gone(on_record: Records, version: str) -> Recorded | None:
    """The record that a version is not in MLflow any more as it was registered, None while it is there."""
    found = [on_record.get((what, "" if what == "model.deleted" else version)) for what in GONE]
    return next((one for one in found if one is not None and not one.restored), None)


def found_event(change: Change, remedy: str, earlier: Recorded | None, **fields: Any) -> AuditEvent:
    """Make the record of a change that was found, before anything is done about it.

    Its id is made from the record before of the same subject: two guards that find one change write one record, and the
    same change a second time is a second record. `fields` are further fields of AuditEvent.
    """
    seen = _sha256(repr(shown(change.after)))
    last = earlier.event_id if earlier else ""
    event_id = event_id_of("registry.changed", change.model, change.what, change.subject, seen, last)
    return _event(event_id, change, {"remedy": remedy, "restored": False}, fields)


def restored_event(change: Change, remedy: str, found: str, **fields: Any) -> AuditEvent:
    """Make the record that a change was put back; `found` is the event id of the record that it was found."""
    return _event(event_id_of("registry.changed", "restored", found), change,
                  {"remedy": remedy, "restored": True, "found": found}, fields)


def shown(value: Any) -> Any:
    """What is recorded of a value out of MLflow: bounded, and without what looks like a secret."""
    if isinstance(value, str) and len(value) > _TEXT:
        return f"{redaction.masked(value[:_TEXT])}... ({len(value)} characters, sha256 {_sha256(value)})"
    if isinstance(value, Mapping):
        kept = {str(key)[:_TEXT]: shown(value[key]) for key in sorted(value)[:_ITEMS]}
        return redaction.masked(kept | ({"...": f"{len(value)} in all"} if len(value) > _ITEMS else {}))
    if isinstance(value, list | tuple):
        return [shown(item) for item in value[:_ITEMS]] + ([f"{len(value)} in all"] if len(value) > _ITEMS else [])
    return redaction.masked(value)


def _event(event_id: Any, change: Change, said: dict[str, Any], fields: dict[str, Any]) -> AuditEvent:
    body = {"what": change.what, "subject": change.subject, "before": shown(change.before), "after": shown(change.after), **said}
    return AuditEvent(event_id=event_id, kind="registry.changed", actor=GUARD, model=change.model, version=change.version,
                      body=body, **fields)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _text(change: Change) -> str:
    one, before, after = f"version {change.subject}", change.before, change.after
    there, put = (f"version {after}" if after else "no version"), (f"version {before}" if before else "none")
    return {
        "model.deleted": f"is not in MLflow any more under this name; the log knows {_count(before)} of its versions",
        "version.deleted": f"{one} was registered by the log's word, but MLflow no longer has it",
        "version.created": f"{one} is in MLflow, but no training on record registered it",
        "version.replaced": f"{one} in MLflow is another than the one that was registered: its source or its run differs",
        "tags.changed": f"{one}: {_tags(before, after)}",
        "alias.changed": f"{change.subject} is {there} in MLflow, the last move on record put {put} there",
        "alias.created": f"alias {change.subject} names version {after} in MLflow; it is none of Airgate's stages",
        "stage.set": f"{one} has MLflow's own stage {after}, which no promotion sets",
    }[change.what]


def _count(versions: Any) -> int:
    return len(versions) if isinstance(versions, list) else 0


def _tags(before: Any, after: Any) -> str:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return ""
    said = [f"{tag} is {_short(after.get(tag))} in MLflow, {_short(before.get(tag))} on record"
            for tag in sorted({*before, *after})]
    return "; ".join(said[:5]) + (f"; and {len(said) - 5} more" if len(said) > 5 else "")


def _short(value: Any) -> str:
    return "not set" if value is None else str(shown(value))[:100]
