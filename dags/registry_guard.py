"""Registry guard, every five minutes and when MLflow calls: what nobody promoted is found in MLflow, recorded and put back."""

from datetime import UTC, datetime

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from airgate.authoring import assets
from airgate.lifecycle.guard import RegistryGuardOperator

with DAG(
    dag_id="registry_guard",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("*/5 * * * *", timezone="UTC"), assets=assets.registry()),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags={"airgate"},
):
    RegistryGuardOperator(task_id="guard")
