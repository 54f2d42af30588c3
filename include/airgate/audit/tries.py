"""Task tries: which of those that ended, as Airflow tells it, no event answers for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from airgate.audit.entry import StoredEvent
from airgate.audit.event import AuditEvent, Kind, TaskRef, event_id_for, task_event
from airgate.audit.runs import SWEEP, DagRun, code_told

# Which kinds of event answer for a try that ended so; the first is the kind that is added where none is there. A log that has
# a success beside a failure is no contradiction: a step records its success first, and a worker that is killed before Airflow
# hears of it leaves a try that Airflow fails. Then the failure is added, and both stay.
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
    dag_version: str | None = None

    @property
    def task(self) -> TaskRef:
        """The try as events name it."""
        return TaskRef(
            dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id, map_index=self.map_index,
            try_number=self.try_number,
        )

    def answer_ids(self) -> list[UUID]:
        """Give the ids of the events that would answer for it; none for a try that has not ended."""
        return [event_id_for(self.dag_id, self.run_id, self.task_id, self.try_number, self.map_index, kind)
                for kind in ANSWERS.get(self.state or "", ())]


@dataclass(frozen=True)
class MissingTry:
    """A try that ended and has no event; `kind` is the event that is missing.

    `doubt` says why what Airflow tells cannot be so by what the log has; None where its word is as good as any.
    """

    attempt: TaskTry
    kind: Kind
    doubt: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its DAG and run id."""
        return self.attempt.dag_id, self.attempt.run_id

    @property
    def ended(self) -> datetime | None:
        """When it ended."""
        return self.attempt.end

    def line(self) -> str:
        """Say in one line which event is missing."""
        return f"{self._where()}: Airflow says {self.attempt.state}, no {self.kind}"

    def finding(self) -> str | None:
        """Say in one line what cannot be explained about it."""
        return self.doubt and f"{self._where()}: Airflow says {self.attempt.state}; {self.doubt}"

    def event(self, run: DagRun | None) -> AuditEvent:
        """Make the event that is missing, as far as Airflow's account tells it; the actor is the run's."""
        at = self.attempt
        body = {"state": at.state, "operator": at.operator, "account": "airflow rest api", "dag_version": at.dag_version}
        actor = run.actor if run else SWEEP  # a run that was deleted a moment ago
        return task_event(self.kind, at.task, actor=actor, source="sweep", occurred_at=at.end or at.start or datetime.now(UTC),
                          recovered=True, code=code_told(run), body=body)

    def _where(self) -> str:
        at = self.attempt
        mapped = f"[{at.map_index}]" if at.map_index >= 0 else ""
        return f"{at.dag_id} {at.run_id} {at.task_id}{mapped} try {at.try_number}"


def missing(tries: Iterable[TaskTry], events: Iterable[StoredEvent]) -> list[MissingTry]:
    """Name the tries that ended and that no event answers for, in the order given. Running tries are not missing.

    A `manual.change` whose body.state is the try's state answers too: then a person ended the try, and is on record.
    """
    answered: set[tuple[TaskRef, str]] = set()
    for stored in events:
        event = stored.event
        if event.task is not None:
            answered.add((event.task, event.kind))
            if event.kind == "manual.change":
                answered.add((event.task, f"by hand: {event.body.get('state')}"))
            if event.kind == "task.started" and event.source == "operator":
                answered.add((event.task, "step"))
    found = []
    for attempt in tries:
        kinds = ANSWERS.get(attempt.state or "", ())
        wanted = {*kinds, f"by hand: {attempt.state}"}
        if kinds and not any((attempt.task, kind) in answered for kind in wanted):
            said = {kind for task, kind in answered if task == attempt.task}
            found.append(MissingTry(attempt, kinds[0], _doubt(attempt, said)))
    return found


def _doubt(attempt: TaskTry, said: set[str]) -> str | None:
    """Why a success cannot be so. Every other outcome can be the work of a scheduler, or of a killed worker."""
    if attempt.state != "success":
        return None
    if said & {"task.failed", "task.retrying"}:
        return "the log says that it failed, and nobody is on record who marked it"
    if "step" in said:
        return "a step records its success before Airflow hears of it, this one did not, and nobody is on record who marked it"
    return None
