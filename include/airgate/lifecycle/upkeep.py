"""The hourly sweep: what Airflow says happened, held against the log; what is missing is added and marked as recovered."""

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator

from airgate.lifecycle import recording

# Callbacks write their fuller record just after a state is sent: leave them the time.
SETTLE = timedelta(seconds=30)


class SweepOperator(BaseOperator):
    """Adds the events that killed workers and states set by the scheduler could not write themselves."""

    def execute(self, context: Any) -> dict[str, int]:
        """Give how many task tries were compared and how many events were added."""
        from airgate.audit.airflow_account import RestAccount
        from airgate.audit.sweep import sweep

        report = sweep(RestAccount.from_environment(), recording.store(), settle=SETTLE)
        for record in report.added:
            self.log.warning("recovered: %s", record.line())
        self.log.info("%d task tries compared, %d events added", report.tries, len(report.added))
        return {"tries": report.tries, "added": len(report.added)}
