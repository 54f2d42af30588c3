"""Airflow DAG, one a model: the day's rows are scored by the version in production, once its approval is verified."""

from airgate import settings
from airgate.authoring import step
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.live import LiveModelOperator

for spec in sound_models():
    with model_dag(spec, "batch_inference", schedule=spec.schedule.batch_inference, doc=__doc__):
        live = LiveModelOperator(task_id="live_model", spec=spec)
        step("airgate.steps.predict:predict", spec=spec, live=live.output, output=settings.load().predictions)
