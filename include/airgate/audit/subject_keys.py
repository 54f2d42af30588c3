"""The table of people's keys: found by name to seal, by id to open, made when somebody is first spoken of."""

import secrets
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from airgate.audit.schema import SUBJECTS
from airgate.audit.subjects import Subject, Subjects

_LOOKUP = 500


def for_names(connection: Connection, names: Iterable[str]) -> Subjects:
    """Give the subjects of these names; who is new gets a key of 32 random bytes. Call within a write transaction."""
    wanted = sorted(names)
    found = _found(connection, SUBJECTS.c.name, wanted)
    there = {subject.name for subject in found}
    new = [name for name in wanted if name not in there]
    if new:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        rows = [{"id": str(uuid4()), "name": name, "key": secrets.token_bytes(32)} for name in new]
        connection.execute(insert(SUBJECTS).on_conflict_do_nothing(), rows)  # another writer may have come first
        found += _found(connection, SUBJECTS.c.name, new)
    return Subjects(by_name={subject.name: subject for subject in found if subject.name})


def known(connection: Connection, names: Iterable[str]) -> Subjects:
    """Give those of these subjects who have a key already."""
    found = _found(connection, SUBJECTS.c.name, sorted(names))
    return Subjects(by_name={subject.name: subject for subject in found if subject.name})


def for_ids(connection: Connection, ids: Iterable[str]) -> Subjects:
    """Give the subjects of these ids, erased ones too."""
    return Subjects(by_id={subject.id: subject for subject in _found(connection, SUBJECTS.c.id, sorted(ids))})


def everybody(connection: Connection) -> list[Subject]:
    """Give all subjects, erased ones too."""
    return [_subject(row) for row in connection.execute(select(SUBJECTS).order_by(SUBJECTS.c.name))]


def _found(connection: Connection, column: Any, values: list[str]) -> list[Subject]:
    found: list[Subject] = []
    for start in range(0, len(values), _LOOKUP):
        rows = connection.execute(select(SUBJECTS).where(column.in_(values[start : start + _LOOKUP])))
        found += [_subject(row) for row in rows]
    return found


def _subject(row: Any) -> Subject:
    return Subject(str(row.id), row.name, bytes(row.key) if row.key is not None else None, row.hold)
