"""The sweep: adds to the log what nobody could write - a killed worker, a task that never ran - as recovered events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby

from airgate.audit.completeness import AirflowAccount, MissingRecord, TaskTry, missing
from airgate.audit.event import Actor, AuditEvent, CodeRef, task_event
from airgate.audit.store import AuditStore

_ACTOR = Actor(kind="system", name="audit sweep")


@dataclass
class SweepReport:
    """What a sweep saw: how many tries, and which of them it added (`added`) or would have to add (see `compare`)."""

    tries: int = 0
    added: list[MissingRecord] = field(default_factory=list)


def compare(account: AirflowAccount, store: AuditStore, since: datetime | None = None) -> SweepReport:
    """Find what is missing and add nothing; `added` then lists what a sweep would add.

    Raises AuditError when the account or the store cannot be read.
    """
    return _walk(account, store, since, None)


def sweep(
    account: AirflowAccount, store: AuditStore, since: datetime | None = None, settle: timedelta = timedelta(0)
) -> SweepReport:
    """Add the event of every try that ended at least `settle` ago and has none. Doing it twice adds nothing more.

    `settle` leaves callbacks, which run after a state is sent, the time to write their fuller record.
    Raises AuditError when the account or the store cannot be used; what was added until then stays.
    """
    return _walk(account, store, since, settle)


def _walk(account: AirflowAccount, store: AuditStore, since: datetime | None, settle: timedelta | None) -> SweepReport:
    report = SweepReport()
    for (dag_id, run_id), tries in _by_run(account, since):
        report.tries += len(tries)
        due = tries if settle is None else [at for at in tries if _settled(at, settle)]
        found = missing(due, store.events(dag_id=dag_id, run_id=run_id))
        if settle is not None:
            for record in found:
                # Not `append`: a callback may write the same event between the reading and now, and its word is fuller.
                store.append_if_absent(recovered(record))
        report.added += found
    return report


def recovered(record: MissingRecord) -> AuditEvent:
    """Make the event that is missing, as far as Airflow's account tells it."""
    at = record.attempt
    body = {"state": at.state, "operator": at.operator, "account": "airflow rest api"}
    moment = at.end or at.start or datetime.now(UTC)
    # The sweep does not know which code ran the task; its own version would be a false statement.
    code = CodeRef(commit="unknown", image="unknown")
    return task_event(
        record.kind, at.task, actor=_ACTOR, source="sweep", occurred_at=moment, recovered=True, code=code, body=body
    )


def _settled(attempt: TaskTry, settle: timedelta) -> bool:
    return attempt.end is None or attempt.end <= datetime.now(UTC) - settle


def _by_run(account: AirflowAccount, since: datetime | None) -> Iterator[tuple[tuple[str, str], list[TaskTry]]]:
    ordered = sorted(account.tries(since), key=lambda at: (at.dag_id, at.run_id))
    for key, tries in groupby(ordered, key=lambda at: (at.dag_id, at.run_id)):
        yield key, list(tries)
