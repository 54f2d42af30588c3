"""The hourly sweep: what Airflow and MLflow say happened is held against the log; what is missing is added, as recovered."""

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator

from airgate.errors import AuditError
from airgate.lifecycle import recording

# Callbacks write their fuller record just after a state is sent: leave them the time.
SETTLE = timedelta(seconds=30)
# A sweep begins less than this before it ends, and nothing takes Airflow longer to make known.
OVERLAP = timedelta(days=1)


class SweepOperator(BaseOperator):
    """Adds the events that killed workers and states set by the scheduler could not write themselves.

    Of Airflow each sweep looks at what changed since a day before the last one that was complete; `airgate audit verify
    --complete` and `airgate audit sweep` look at everything. MLflow keeps no record of when a tag or an alias changed, so its
    versions and aliases are looked at whole each time; what the registry guard has put on record is not told again.
    """

    def execute(self, context: Any) -> dict[str, int]:
        """Give how much was compared, and how many events were added.

        Raises AuditError at the end, after everything else is done, when something cannot be explained.
        """
        from airgate.audit.airflow_account import RestAccount
        from airgate.audit.mlflow_account import MlflowAccount
        from airgate.audit.sweep import sweep
        from airgate.runtime import record

        self.log.info("%s", record.drain().line())  # first: what waits there is fuller than what the sweep would add
        since = last_complete(context["ti"])
        self.log.info("comparing %s", f"what changed since {since}" if since else "everything")
        report = sweep(RestAccount.from_environment(), recording.store(), MlflowAccount.from_environment(), since=since,
                       settle=SETTLE)
        for added in report.added:
            self.log.warning("recovered: %s", added.line())
        self.log.info("%s, %d events added", report.line(), len(report.added))
        if report.unexplained:
            for finding in report.unexplained:
                self.log.error("unexplained: %s", finding.line)
            raise AuditError(f"what Airflow or MLflow say cannot be explained by the audit log in {len(report.unexplained)} "
                             f"place(s), the first: {report.unexplained[0].line}. Each is on record as an audit.alarm; see "
                             "docs/auditor.md")
        return {"runs": report.runs, "tries": report.tries, "answers": report.answers, "versions": report.versions,
                "added": len(report.added)}


def last_complete(ti: Any) -> datetime | None:
    """From when on this sweep must look: a day before the last one of this task ended well, None when there was none.

    The log tells, not Airflow: a sweep that somebody marked as a success leaves no such event.
    """
    found = recording.store().events(kind="task.succeeded", dag_id=ti.dag_id, task_id=ti.task_id, newest_first=True, limit=20)
    ended = next((stored.event.occurred_at for stored in found if not stored.event.recovered), None)
    return ended - OVERLAP if ended else None
