"""Who asked for a promotion: everyone with a hand in the version, its verdict, or the run that asks. None of them may approve."""

from datetime import datetime
from typing import Any

from airgate.audit.event import PEOPLE, Actor, AuditEvent
from airgate.contracts.payloads import Candidate
from airgate.contracts.runs import RETRAINING_RUN, dag_id
from airgate.errors import PromotionError
from airgate.governance.identities import Identities
from airgate.lifecycle import recording
from airgate.lifecycle.bundle_origin import trained_by
from airgate.lifecycle.candidate import REGISTER_TASK


def who_asked(candidate: Candidate, verdict: AuditEvent, context: Any, who: Identities) -> list[str]:
    """Who started or changed the training, the validation and the runs that led here, posted the drift, started this run.

    Where an asset event that somebody posted may have started a run, whoever posted one then asked too. Of a version from
    another installation: who imported it, and who trained it there.

    Raises PromotionError when the log does not know the training, or nobody's name stands behind this run.
    """
    training = dag_id(candidate.model, candidate.flow)
    trained = recording.newest_success(training, REGISTER_TASK, run_id=candidate.training_run)
    if trained is None:
        raise PromotionError(f"the audit log has no training run {candidate.training_run!r}: nobody can say who trained "
                             f"{candidate.model} version {candidate.version}, so nobody can be kept from approving it.")
    found = [trained.actor, recording.actor_of(context), *trained_by(candidate)]
    runs = {(training, candidate.training_run), *_led_here(context)}
    if verdict.task is not None:
        runs.add((verdict.task.dag_id, verdict.task.run_id))
    hands = [actor for dag, run in runs for actor in recording.actors(dag, run)]
    drift = recording.by_id(candidate.training_run.removeprefix(RETRAINING_RUN))
    hands += [drift.actor] if drift is not None else []
    # A program approves nothing, so none needs to be kept from it.
    posters = [actor for actor in (*_judged_for(trained, verdict), *_posted(context, who)) if not who.is_service(actor.name)]
    return sorted({recording.actor_text(actor) for actor in (*found, *(one for one in (*hands, *posters) if one.kind in PEOPLE))})


def _led_here(context: Any) -> set[tuple[str, str]]:
    """The runs whose tasks gave the asset events that started this one."""
    return {(event.source_dag_id, event.source_run_id) for event in recording.triggers(context)
            if event.source_dag_id and event.source_run_id}


def _posted(context: Any, who: Identities) -> list[Actor]:
    """Whoever posted an asset event since the one that started this run, if no task gave it: Airflow does not say who did."""
    times = [event.timestamp for event in recording.triggers(context) if not event.source_task_id]
    if not times:
        return []
    found = recording.posters(min(times))
    if all(who.is_service(actor.name) for actor in found):
        raise PromotionError("an asset event that was posted by hand started this run, and the audit log has no person who "
                             "posted one since. Nobody could be kept from approving what nobody asked for: start this DAG "
                             "by hand.")
    return found


def _judged_for(trained: AuditEvent, verdict: AuditEvent) -> list[Actor]:
    """Whoever posted an asset event between the registration and the first task of the validation, which it may have started."""
    if verdict.task is None or (trained.task and verdict.task.run_id == trained.task.run_id):
        return []
    began: datetime = recording.began(verdict.task.dag_id, verdict.task.run_id) or verdict.occurred_at
    return recording.posters(trained.occurred_at, began, after=trained)
