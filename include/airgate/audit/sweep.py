"""The sweep: adds to the log what nobody could write - a killed worker, a task that never ran, a run marked by hand - as
recovered events, and an alarm for what it cannot explain.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TypeVar

from airgate import settings
from airgate.audit import answers as human
from airgate.audit import tries as attempts
from airgate.audit import versions
from airgate.audit.answers import HumanAnswer, MissingAnswer
from airgate.audit.completeness import AirflowAccount, Finding, Missing, batches, recorded
from airgate.audit.runs import ENDED, DagRun, MissingRun, ended_id
from airgate.audit.store import AuditStore
from airgate.audit.tries import MissingTry, TaskTry
from airgate.audit.versions import RegistryAccount

Ended = TypeVar("Ended", DagRun, TaskTry)


@dataclass
class SweepReport:
    """What a sweep saw: how much, what it added (`added`) or would have to add (see `compare`), what it cannot explain."""

    runs: int = 0
    tries: int = 0
    answers: int = 0
    versions: int = 0
    added: list[Missing] = field(default_factory=list)
    unexplained: list[Finding] = field(default_factory=list)

    def line(self) -> str:
        """Say in one line how much was compared."""
        return f"{self.runs} runs, {self.tries} task tries, {self.answers} answers, {self.versions} model versions compared"

    def verdict(self) -> Iterator[str]:
        """Say after a comparison whether the log is complete: what is missing, and what cannot be explained."""
        if not self.added and not self.unexplained:
            yield "completeness: ok"
        if self.added:
            yield f"completeness: MISSING {len(self.added)}"
            yield from (f"  {record.line()}" for record in self.added)
        yield from self.doubts()

    def doubts(self) -> Iterator[str]:
        """Say what cannot be explained; nothing where there is nothing."""
        if self.unexplained:
            yield f"completeness: UNEXPLAINED {len(self.unexplained)}"
            yield from (f"  {finding.line}" for finding in self.unexplained)


def compare(airflow: AirflowAccount, store: AuditStore, registry: RegistryAccount | None = None) -> SweepReport:
    """Find what is missing and what cannot be explained, and add nothing; `added` then lists what a sweep would add.

    Without a `registry` only Airflow is asked. Raises AuditError when an account or the store cannot be read.
    """
    report = SweepReport()
    report.added = list(_missing(airflow, store, None, report))
    _note_models(registry, store, report)
    return report


def sweep(airflow: AirflowAccount, store: AuditStore, registry: RegistryAccount | None = None, *,
          since: datetime | None = None, settle: timedelta = timedelta(0)) -> SweepReport:
    """Add the event of everything that ended at least `settle` ago and has none, and one alarm for each finding.

    MLflow is compared whole, whatever `since`, which leaves out what Airflow changed last before it. Doing it twice adds
    nothing more. `settle` leaves callbacks, which run after a state is sent, the time to write their fuller record. Raises
    AuditError when an account or the store cannot be used; what was added until then stays.
    """
    report = SweepReport()
    latest = datetime.now(UTC) - settle
    for record in _missing(airflow, store, since, report, latest):
        # Not `append`: a callback may write the same event between the reading and now, and its word is fuller.
        store.append_if_absent(record.event(airflow.run(*record.key)))
        report.added.append(record)
    _alarm(store, report.unexplained)
    told = len(report.unexplained)
    _note_models(registry, store, report)
    _alarm(store, report.unexplained[told:])
    return report


def _missing(airflow: AirflowAccount, store: AuditStore, since: datetime | None, report: SweepReport,
             latest: datetime | None = None) -> Iterator[Missing]:
    """Walk through Airflow's account; counts and findings go to the report as it goes."""
    for runs in batches(airflow.runs(since)):
        report.runs += len(runs)
        yield from _runs(store, _due(runs, latest), report)
    for tries in batches(airflow.tries(since)):
        report.tries += len(tries)
        yield from _tries(store, _due(tries, latest), report)
    for answers in batches(airflow.answers(since)):
        report.answers += len(answers)
        yield from _answers(store, [said for said in answers if latest is None or said.at <= latest], report)


def _runs(store: AuditStore, runs: Iterable[DagRun], report: SweepReport) -> Iterator[MissingRun]:
    runs = [run for run in runs if run.state in ENDED]
    there = recorded(store, (ended_id(run, state) for run in runs for state in ENDED))
    for run in runs:
        if run.ended_id in there:
            continue
        if any(ended_id(run, state) in there for state in ENDED) and not _marked(store, run):
            report.unexplained.append(Finding(
                f"{run.dag_id} {run.run_id}: Airflow says the run ended as {run.state}; the log says that this end had another "
                "state, and nobody is on record who marked it"))
        yield MissingRun(run)


def _marked(store: AuditStore, run: DagRun) -> bool:
    """Whether a person is on record who gave the run this state."""
    wanted = {"dag_id": run.dag_id, "run_id": run.run_id, "state": run.state}
    return any(wanted.items() <= stored.event.body.items() for stored in store.events(kind="manual.change"))


def _tries(store: AuditStore, tries: Iterable[TaskTry], report: SweepReport) -> Iterator[MissingTry]:
    wanted = [(at, ids) for at in tries if (ids := at.answer_ids())]
    there = recorded(store, (event_id for _, ids in wanted for event_id in ids))
    silent = sorted((at for at, ids in wanted if there.isdisjoint(ids)), key=_run_of)
    for (dag_id, run_id), group in groupby(silent, key=_run_of):
        for found in attempts.missing(group, store.events(dag_id=dag_id, run_id=run_id)):
            if line := found.finding():
                report.unexplained.append(Finding(line))
            yield found


def _answers(store: AuditStore, answers: list[HumanAnswer], report: SweepReport) -> Iterator[MissingAnswer]:
    there = recorded(store, (said.event_id for said in answers))
    for said in answers:
        if said.event_id in there:
            continue
        event = human.record_of(said, store.events(dag_id=said.dag_id, run_id=said.run_id, task_id=said.task_id,
                                                   kind="manual.change"))
        if event is None:
            yield MissingAnswer(said)
        elif human.contradicts(said, event):
            report.unexplained.append(Finding(f"{said.where()}: Airflow has another answer than event {event.event_id}"))


def _note_models(registry: RegistryAccount | None, store: AuditStore, report: SweepReport) -> None:
    if registry is None:
        return
    for model in versions.models_known(store, settings.load().models):
        count, findings = versions.judge(model, registry, store)
        # What was registered or moved between the two readings explains itself when both are taken again.
        still = versions.judge(model, registry, store)[1] if findings else []
        report.versions += count
        report.unexplained += [finding for finding in findings if finding in still]


def _alarm(store: AuditStore, findings: list[Finding]) -> None:
    for finding in findings:
        store.append_if_absent(finding.event(datetime.now(UTC)))


def _due(items: list[Ended], latest: datetime | None) -> list[Ended]:
    return [item for item in items if latest is None or item.end is None or item.end <= latest]


def _run_of(attempt: TaskTry) -> tuple[str, str]:
    return attempt.dag_id, attempt.run_id
