"""Human answers: which of those that Airflow received are not on record."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import JsonValue

from airgate.audit.entry import StoredEvent
from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of, time_text
from airgate.audit.runs import DagRun, code_told
from airgate.audit.subjects import ERASED

ANSWERED = "approval.answered"
# The middleware writes when Airflow has answered, by the same clock, and after it waited for the store at most.
NEAR = timedelta(minutes=5)


@dataclass(frozen=True)
class HumanAnswer:
    """One person's answer to a human-in-the-loop task, as Airflow keeps it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    user: str
    user_id: str
    at: datetime
    chosen: tuple[str, ...]

    @property
    def event_id(self) -> UUID:
        """The id of the event that the sweep adds: a task instance has one answer at a time."""
        return event_id_of("manual.change", self.dag_id, self.run_id, self.task_id, self.map_index, ANSWERED, time_text(self.at))

    @property
    def task(self) -> TaskRef:
        """The task instance as an answer's event names it: a request names no try."""
        return TaskRef(dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id, map_index=self.map_index, try_number=0)

    def where(self) -> str:
        """The task instance, in words."""
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id} {self.run_id} {self.task_id}{mapped}"


@dataclass(frozen=True)
class MissingAnswer:
    """An answer that Airflow received and the log does not have."""

    answer: HumanAnswer

    @property
    def key(self) -> tuple[str, str]:
        """Its DAG and run id."""
        return self.answer.dag_id, self.answer.run_id

    @property
    def ended(self) -> datetime | None:
        """When it was given."""
        return self.answer.at

    def line(self) -> str:
        """Say in one line which event is missing; not by whom, for lines are kept where no key can erase a name."""
        return f"{self.answer.where()}: Airflow has an answer of {time_text(self.answer.at)}, no manual.change"

    def event(self, run: DagRun | None) -> AuditEvent:
        """Make the event that is missing.

        What the person typed stays in Airflow: without Airflow's own masker nobody could tell a secret in it.
        """
        said = self.answer
        body: dict[str, JsonValue] = {
            "change": ANSWERED, "dag_id": said.dag_id, "run_id": said.run_id, "state": None, "user_id": said.user_id,
            "request": json.dumps({"chosen_options": said.chosen}), "account": "airflow rest api"}
        return AuditEvent(
            event_id=said.event_id, kind="manual.change", occurred_at=said.at, actor=Actor(kind="user", name=said.user),
            task=said.task, source="sweep", recovered=True, code=code_told(run), body=body,
            personal={"user_id": said.user, "request": said.user})


def record_of(answer: HumanAnswer, events: Iterable[StoredEvent]) -> AuditEvent | None:
    """Find the event that answers for it: by the same person, about the same task instance, at about the same time.

    A person whose key was destroyed has no name left; then task and time must do.
    """
    for stored in events:
        event = stored.event
        if event.kind != "manual.change" or event.body.get("change") != ANSWERED or event.task != answer.task:
            continue
        same_person = event.actor.name == answer.user or event.actor.name.startswith(ERASED)
        if same_person and abs(event.occurred_at - answer.at) <= NEAR:
            return event
    return None


def contradicts(answer: HumanAnswer, event: AuditEvent) -> bool:
    """Whether the record says that another option was chosen than Airflow says. A record that cannot be read says nothing."""
    try:
        chosen = json.loads(str(event.body.get("request")))["chosen_options"]
        return sorted(chosen) != sorted(answer.chosen)
    except (ValueError, TypeError, KeyError):
        return False
