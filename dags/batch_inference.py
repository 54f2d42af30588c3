"""Airflow DAG, one a model: the day's rows are scored by the version in production, once its approval is verified."""

from airgate import settings
from airgate.authoring import step
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.live import LiveModelOperator

for spec in sound_models():
    with model_dag(spec, "batch_inference", schedule=spec.schedule.batch_inference, doc=__doc__):
        live = LiveModelOperator(task_id="live_model", spec=spec)
        scoring = {"spec": spec, "live": live.output, "output": settings.load().predictions}
        if spec.inference.part_days is None:  # one task for the whole window
            step("airgate.steps.predict:predict", **scoring)
        else:  # a task for each part of it, and one that publishes what they scored once nothing is missing
            parts = step("airgate.steps.partitions:partition", spec=spec)
            scored = step("airgate.steps.predict:predict", **scoring, part=parts, each="part",
                          task_options={"max_active_tis_per_dag": spec.inference.max_parts})
            step("airgate.steps.publish:publish", **scoring, parts=parts, predicted=scored)
            live >> parts
