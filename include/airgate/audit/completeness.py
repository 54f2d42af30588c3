"""Whether everything that Airflow says happened is in the log. A pure comparison; the account is a Protocol."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from airgate.audit.entry import StoredEvent
from airgate.audit.event import Kind, TaskRef

# Which kinds of event answer for a try that ended so; the first is the kind that is added where none is there.
ANSWERS: dict[str, tuple[Kind, ...]] = {
    "success": ("task.succeeded",),
    "failed": ("task.failed", "task.retrying"),
    "skipped": ("task.skipped",),
    "upstream_failed": ("task.upstream_failed",),
    "removed": ("task.skipped",),
}


@dataclass(frozen=True)
class TaskTry:
    """What Airflow says of one try. `state` is Airflow's word; times are UTC, None where Airflow has none."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    state: str | None
    start: datetime | None
    end: datetime | None
    operator: str | None

    @property
    def task(self) -> TaskRef:
        """The try as events name it."""
        return TaskRef(
            dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id, map_index=self.map_index,
            try_number=self.try_number,
        )


@dataclass(frozen=True)
class MissingRecord:
    """A try that ended and has no event; `kind` is the event that is missing."""

    attempt: TaskTry
    kind: Kind

    def line(self) -> str:
        """Say in one line which event is missing."""
        at = self.attempt
        mapped = f"[{at.map_index}]" if at.map_index >= 0 else ""
        task = f"{at.dag_id} {at.run_id} {at.task_id}{mapped} try {at.try_number}"
        return f"{task}: Airflow says {at.state}, no {self.kind}"


class AirflowAccount(Protocol):
    """Airflow's own word about what happened."""

    def tries(self, since: datetime | None = None) -> Iterator[TaskTry]:
        """Give every try of every task instance changed since then (all, if None). Raises AuditError on failure."""
        ...


def missing(tries: Iterable[TaskTry], events: Iterable[StoredEvent]) -> list[MissingRecord]:
    """Name the tries that ended and that no event answers for, in the order given. Running tries are not missing.

    A `manual.change` whose body.state is the try's state answers too: then a person ended the try, and is on record.
    """
    answered: set[tuple[TaskRef, str]] = set()
    for stored in events:
        if stored.event.task is not None:
            answered.add((stored.event.task, stored.event.kind))
            if stored.event.kind == "manual.change":
                answered.add((stored.event.task, f"by hand: {stored.event.body.get('state')}"))
    found = []
    for attempt in tries:
        kinds = ANSWERS.get(attempt.state or "", ())
        wanted = {*kinds, f"by hand: {attempt.state}"}
        if kinds and not any((attempt.task, kind) in answered for kind in wanted):
            found.append(MissingRecord(attempt, kinds[0]))
    return found
