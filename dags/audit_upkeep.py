"""Audit upkeep, every hour and after each promotion: what happened is compared with the log, and the log is signed."""

from datetime import UTC, datetime

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from airgate.authoring import assets
from airgate.lifecycle.checkpoint import CheckpointOperator
from airgate.lifecycle.upkeep import SweepOperator

with DAG(
    dag_id="audit_upkeep",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("17 * * * *", timezone="UTC"), assets=assets.promotions()),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags={"airgate"},
):
    # A teardown: the log is signed whatever the sweep found, and a sweep that failed still fails the run.
    SweepOperator(task_id="sweep") >> CheckpointOperator(task_id="checkpoint", retries=2).as_teardown(
        on_failure_fail_dagrun=True)
