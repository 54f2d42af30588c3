"""A DAG run as Airflow tells of it: who or what started it, and the `run.ended` event that each of its ends leaves."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from airgate.audit.event import Actor, AuditEvent, CodeRef, Source, event_id_of, time_text
from airgate.contracts.runs import retrained_by

ENDED = ("success", "failed")
SWEEP = Actor(kind="system", name="audit sweep")
_NAME_LIMIT = 250


@dataclass(frozen=True)
class DagRun:
    """One DAG run. `state` and `run_type` are Airflow's words; times are UTC, None where Airflow has none.

    `user` is who triggered it, `assets` whose events did; `bundle_version` is the commit of its DAG bundle and `dag_version`
    the id of Airflow's DAG version, where there are any.
    """

    dag_id: str
    run_id: str
    state: str
    run_type: str
    user: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    logical_date: datetime | None = None
    bundle_version: str | None = None
    dag_version: str | None = None
    assets: tuple[str, ...] = ()

    @property
    def ended_id(self) -> UUID:
        """The id of the event of this end."""
        return ended_id(self, self.state)

    @property
    def actor(self) -> Actor:
        """Who or what started it."""
        return actor_of(self.dag_id, self.run_type, self.user, self.assets, self.run_id)


@dataclass(frozen=True)
class MissingRun:
    """A run that ended, and the log has no `run.ended` of that end."""

    run: DagRun

    @property
    def key(self) -> tuple[str, str]:
        """Its DAG and run id."""
        return self.run.dag_id, self.run.run_id

    @property
    def ended(self) -> datetime | None:
        """When it ended."""
        return self.run.end

    def line(self) -> str:
        """Say in one line which event is missing."""
        return f"{self.run.dag_id} {self.run.run_id}: Airflow says the run ended as {self.run.state}, no run.ended"

    def event(self, run: DagRun | None) -> AuditEvent:
        """Make the event, as far as Airflow tells it; `run` is the run read by itself, with its assets."""
        return run_ended(self.run, "sweep", code_told(run or self.run), actor=(run or self.run).actor, recovered=True,
                         account="airflow rest api")


def ended_id(run: DagRun, state: str) -> UUID:
    """Give the id of the event of this end, had it this state.

    A run that is cleared ends again, at another time; one that is marked by hand after its end keeps the time and changes
    its state. The callback and the REST API know both to the microsecond.
    """
    return event_id_of(run.dag_id, run.run_id, "run.ended", state, time_text(run.end) if run.end else "")


def run_ended(run: DagRun, source: Source, code: CodeRef, *, actor: Actor | None = None, recovered: bool = False,
              **more: Any) -> AuditEvent:
    """Make the `run.ended` event. A run's conf is left out: it may hold secrets, and its steps record what they were asked."""
    body = {"dag_id": run.dag_id, "run_id": run.run_id, "state": run.state, "run_type": run.run_type,
            "logical_date": time_text(run.logical_date) if run.logical_date else None,
            "start": time_text(run.start) if run.start else None, "dag_version": run.dag_version, **more}
    return AuditEvent(event_id=run.ended_id, kind="run.ended", occurred_at=run.end or datetime.now(UTC),
                      actor=actor or run.actor, source=source, code=code, recovered=recovered, body=body)


def actor_of(dag_id: str, run_type: str, user: str | None, assets: Iterable[str] = (), run_id: str = "") -> Actor:
    """Who or what started a run: for a run by hand the user, else what made it start; a backfill has its user's name.

    A task of another DAG that starts a run hands on the user of its own; where that has none, Airflow does not tell which task
    it was. The actor is then the system: the model's retraining where the run's name says so, else `operator_triggered`.
    """
    if run_type == "backfill":
        return Actor(kind="backfill", name=_name(user or dag_id))
    if run_type == "scheduled":
        return Actor(kind="schedule", name=_name(dag_id))
    if run_type == "asset_triggered":
        return Actor(kind="asset", name=_name(", ".join(sorted(set(assets))) or dag_id))
    if user:
        return Actor(kind="user", name=_name(user))
    by = retrained_by(dag_id, run_id) if run_type == "operator_triggered" else None
    return Actor(kind="system", name=_name(by or run_type))


def code_told(run: DagRun | None) -> CodeRef:
    """Which code ran, where Airflow tells it. The sweep's own would be a false statement."""
    return CodeRef(commit=(run and run.bundle_version) or "unknown", image="unknown")


def _name(text: str) -> str:
    return text.replace("\x00", "")[:_NAME_LIMIT] or "unknown"
