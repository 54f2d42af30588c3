"""A DAG of your own: wait for the drift verdict of the day, score the day, tell somebody how many rows there are."""

from datetime import UTC, datetime

from airflow.sdk import DAG, Param, task

from airgate import settings
from airgate.authoring import step
from airgate.authoring.catalog import model
from airgate.authoring.timetable import FeedTimetable
from airgate.lifecycle.drift_sensor import DriftSensor
from airgate.lifecycle.live import LiveModelOperator

spec = model("diagnosis_classifier")

with DAG(
    dag_id="morning_scores",
    schedule=FeedTimetable("0 6 * * *", last_day=spec.schedule.end),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"day": Param(None, type=["null", "string"], format="date")},
    tags={"example"},
):
    drift = DriftSensor(task_id="drift", model=spec.name, timeout=3600)
    # Scoring without this task is refused when the file is parsed: a model must have come through a promotion.
    live = LiveModelOperator(task_id="live_model", spec=spec)
    scores = step("airgate.steps.predict:predict", spec=spec, live=live.output, output=settings.load().predictions)

    @task
    def tell(result: dict) -> str:
        """What a step gives to a task of plain Airflow is its StepResult as JSON; `value` is what the function returned."""
        return f"{result['value']['rows']} rows scored by version {result['value']['version']}"

    drift >> live
    tell(scores.output)
