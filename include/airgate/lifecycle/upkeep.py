"""The hourly sweep: what Airflow says happened, held against the log; what is missing is added and marked as recovered."""

from typing import Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.lifecycle import recording


class SweepOperator(BaseOperator):
    """Adds the events that killed workers and states set by the scheduler could not write themselves."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Give how many task tries were compared and how many events were added."""
        from airgate.airflow_api import AirflowApi
        from airgate.audit import airflow_account, completeness

        with AirflowApi.from_environment(settings.load().airflow_api) as api:
            report = completeness.sweep(airflow_account.AirflowAccount(api), recording.store())
        self.log.info("%s", report)
        return {}
