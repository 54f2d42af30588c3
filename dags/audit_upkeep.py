"""Audit upkeep: every hour, what Airflow did is compared with the log; what a killed worker could not write is added."""

from datetime import UTC, datetime

from airflow.sdk import DAG, CronTriggerTimetable

from airgate.lifecycle.upkeep import SweepOperator

with DAG(
    dag_id="audit_upkeep",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("17 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags={"airgate"},
):
    SweepOperator(task_id="sweep")
