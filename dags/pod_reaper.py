"""Pod reaper, every five minutes: pods of steps that run for no task any more are removed, and the GPU time they held is told."""

from datetime import UTC, datetime

from airflow.sdk import DAG, CronTriggerTimetable

from airgate import settings
from airgate.lifecycle.reaper import PodReaperOperator

if settings.load().runtime == "kubernetes":
    with DAG(
        dag_id="pod_reaper",
        doc_md=__doc__,
        schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags={"airgate"},
    ):
        PodReaperOperator(task_id="reap")
