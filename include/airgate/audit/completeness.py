"""Completeness: is everything that Airflow and MLflow say happened in the log? What the comparisons share.

`runs`, `tries`, `answers` and `versions` know one kind of thing each; `sweep` walks through all of them. What an account tells
and the log lacks is a missing record, which can be added. What cannot be told is a finding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Select, select

from airgate import settings
from airgate.audit.answers import HumanAnswer, MissingAnswer
from airgate.audit.event import AuditEvent, CodeRef, event_id_of
from airgate.audit.runs import SWEEP, DagRun, MissingRun
from airgate.audit.schema import EVENTS
from airgate.audit.tries import MissingTry, TaskTry

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

Missing = MissingRun | MissingTry | MissingAnswer
BATCH = 500
T = TypeVar("T")


class AirflowAccount(Protocol):
    """Airflow's own word about what happened. `since` leaves out what was last changed before it. All raise AuditError."""

    def runs(self, since: datetime | None = None) -> Iterator[DagRun]:
        """Give every DAG run that ended; its assets may be left out."""
        ...

    def run(self, dag_id: str, run_id: str) -> DagRun | None:
        """Give one DAG run with its assets, None when there is none any more."""
        ...

    def tries(self, since: datetime | None = None) -> Iterator[TaskTry]:
        """Give every try of every task instance."""
        ...

    def answers(self, since: datetime | None = None) -> Iterator[HumanAnswer]:
        """Give every answer that a person gave and Airflow still holds."""
        ...


@dataclass(frozen=True)
class Finding:
    """Something that the log cannot explain, said in one line; `model` and `version` where it is about one."""

    line: str
    model: str | None = None
    version: str | None = None

    def event(self, now: datetime) -> AuditEvent:
        """Make the alarm that puts it on record: one a day (UTC) for each content, as long as it is found.

        So one that was resolved and comes back is on record again, and an hourly sweep does not fill the log.
        """
        day = now.astimezone(UTC).date().isoformat()
        return AuditEvent(
            event_id=event_id_of("audit.alarm", "unexplained", self.line, day), kind="audit.alarm", occurred_at=now, actor=SWEEP,
            model=self.model, version=self.version, source="sweep", code=CodeRef(commit=settings.load().code_version),
            body={"alarm": "unexplained", "what": self.line})


def recorded(store: "AuditStore", ids: Iterable[UUID]) -> set[UUID]:
    """Give those of the ids that the log has; an event whose contents expired is still there. Raises AuditError."""
    found: set[UUID] = set()
    for batch in batches(ids):
        query = select(EVENTS.c.event_id).where(EVENTS.c.event_id.in_([str(event_id) for event_id in batch]))
        found.update(UUID(row) for row in store.database.transact(partial(_texts, query), write=False))
    return found


def _texts(query: Select[tuple[str]], connection: Connection) -> list[str]:
    return [str(text) for text in connection.scalars(query)]


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Give the items in lists of `size`, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
