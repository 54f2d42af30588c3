"""Erasing a person: the key goes, the ciphertexts stay, every proof still verifies.

GDPR (Regulation (EU) 2016/679), Article 17, gives the right to erasure. Its paragraph 3 (b) and (e) set it aside where the law
asks for the record, or for legal claims: that is a *hold*, and an erasure under hold is refused. Both are on record. The event
of an erasure names the subject's id alone, never the name.

A backup of the database still has the key. `airgate audit create`, which belongs after restoring one, destroys it again: what
the log says was erased stays erased (`erased_again`).
"""

from datetime import UTC, datetime

from sqlalchemy import Connection, update

from airgate.audit import subject_keys
from airgate.audit.event import Actor, AuditEvent, Kind, event_id_of, time_text
from airgate.audit.schema import SUBJECTS
from airgate.audit.store import AuditStore
from airgate.audit.subjects import Subject
from airgate.errors import AuditError, nearest


def erase(store: AuditStore, name: str, *, by: Actor, reason: str) -> str:
    """Destroy a subject's key and record it; give the subject's id. Needs the owner's rights.

    Raises AuditError when nobody of that name is on record, or, with the refusal on record, under legal hold.
    """
    subject = find(store, name)
    if subject.hold is not None:
        _record(store, "audit.erased", subject, by, {"erased": False, "reason": f"legal hold: {subject.hold}"})
        raise AuditError(f"'{name}' is under legal hold ({subject.hold}) and was not erased; the refusal is on record. "
                         "`airgate audit release` ends the hold")
    # The record first: were the key gone and the record lost, nobody could say why.
    _record(store, "audit.erased", subject, by, {"erased": True, "reason": reason})
    _set(store, subject, name=None, key=None, erased_at=time_text(datetime.now(UTC)))
    return subject.id


def hold(store: AuditStore, name: str, *, by: Actor, reason: str) -> str:
    """Put a subject under legal hold, on record; give the subject's id. Needs the owner's rights. Raises AuditError."""
    subject = find(store, name)
    _set(store, subject, hold=reason)
    _record(store, "audit.hold", subject, by, {"held": True, "reason": reason})
    return subject.id


def release(store: AuditStore, name: str, *, by: Actor, reason: str) -> str:
    """End a legal hold, on record; give the subject's id. Raises AuditError where there is none."""
    subject = find(store, name)
    if subject.hold is None:
        raise AuditError(f"'{name}' is under no legal hold")
    _record(store, "audit.hold", subject, by, {"held": False, "reason": reason})
    _set(store, subject, hold=None)
    return subject.id


def erased_again(store: AuditStore) -> list[str]:
    """Destroy keys that an older backup brought back, though the log says they were erased; give the subjects' ids."""
    bodies = [stored.event.body for stored in store.events(kind="audit.erased")]
    erased = {str(body.get("subject")) for body in bodies if body.get("erased") is True}
    back = [subject for subject in _everybody(store) if subject.id in erased and subject.key is not None and subject.hold is None]
    for subject in back:
        _set(store, subject, name=None, key=None, erased_at=time_text(datetime.now(UTC)))
    return [subject.id for subject in back]


def find(store: AuditStore, name: str) -> Subject:
    """Give the subject of that name. Raises AuditError, with the nearest name, where there is none."""
    subjects = [subject for subject in _everybody(store) if subject.name is not None]
    found = next((subject for subject in subjects if subject.name == name), None)
    if found is None:
        raise AuditError(f"the log speaks of nobody called '{name}'; {nearest(name, [str(one.name) for one in subjects])}")
    return found


def _everybody(store: AuditStore) -> list[Subject]:
    return store.database.transact(subject_keys.everybody, write=False)


def _set(store: AuditStore, subject: Subject, **values: object) -> None:
    def work(connection: Connection) -> int:
        # Only as it was found: somebody may have put it under hold, or erased it, meanwhile.
        query = update(SUBJECTS).where(SUBJECTS.c.id == subject.id, SUBJECTS.c.name == subject.name)
        query = query.where(SUBJECTS.c.hold == subject.hold if subject.hold is not None else SUBJECTS.c.hold.is_(None))
        return connection.execute(query.values(**values)).rowcount

    if store.database.transact(work, write=True) != 1:
        raise AuditError(f"the subject {subject.id} was changed by somebody else meanwhile: look, and try again")


def _record(store: AuditStore, kind: Kind, subject: Subject, by: Actor, body: dict[str, object]) -> None:
    now = datetime.now(UTC)
    store.append(AuditEvent.model_validate({
        "event_id": event_id_of(kind, subject.id, time_text(now)), "kind": kind, "occurred_at": now, "actor": by,
        "source": "cli", "body": {"subject": subject.id, **body},
        # What somebody typed, often about the subject: under the key of who typed it.
        "personal": {"reason": by.name}}))
