"""What every run of every DAG puts on record at its end: its state, and who or what started it.

A policy appends this function to each DAG. The scheduler asks for it when a run ends, and the DAG processor calls it, a
moment later. A run that a person marked by hand asks for none, and one whose tasks Airflow cannot name tells too little: what
is not written here, the audit sweep adds as recovered. Each end of a run has one event, whoever writes it first.
"""

import logging
from typing import TYPE_CHECKING, Any

from airgate.errors import AirgateError

if TYPE_CHECKING:
    from airgate.audit.event import AuditEvent

log = logging.getLogger(__name__)
SWEEP_ADDS = "The audit sweep adds what Airflow knows of it; until then the log is incomplete."


def on_run_ended(context: Any) -> None:
    """Record `run.ended`, for success and failure alike. If the log fails, the DAG processor's log says what is missing."""
    what = f"run.ended of {context['dag'].dag_id}, run {context.get('run_id')}"
    try:
        from airgate import settings
        from airgate.audit.delivery import NotRecorded
        from airgate.governance.callbacks import PATIENCE
        from airgate.runtime import record

        event = event_for(context)
        if event is None:
            log.warning("Not in the audit log: %s. Airflow did not say when it ended. %s", what, SWEEP_ADDS)
            return
        try:
            record.delivery(min(PATIENCE, settings.load().audit_patience)).append_if_absent(event)
        except NotRecorded as error:
            log.error("Not in the audit log yet: %s. %s.", what, error)
    except AirgateError as error:
        log.error("Not in the audit log: %s. %s. %s", what, error, SWEEP_ADDS)


def event_for(context: Any) -> "AuditEvent | None":
    """Make the event from a DAG callback's context; None where Airflow did not tell of the run itself.

    Raises ConfigError when the settings are wrong.
    """
    from airgate.audit.runs import ENDED, DagRun, run_ended
    from airgate.runtime import record

    run, ti = context.get("dag_run"), context.get("ti")
    if run is None or run.end_date is None or _word(run.state) not in ENDED:
        return None
    version = getattr(ti, "dag_version_id", None)
    ended = DagRun(
        dag_id=run.dag_id, run_id=run.run_id, state=_word(run.state), run_type=_word(run.run_type), start=run.start_date,
        end=run.end_date, logical_date=run.logical_date, dag_version=str(version) if version else None)
    return run_ended(ended, "callback", record.code_of(ti), actor=record.actor_of(run), reason=context.get("reason"))


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))
