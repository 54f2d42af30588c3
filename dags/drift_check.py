"""Airflow DAG, one a model: do the day's rows still look like those the version in production learned from?"""

from airgate.authoring import assets, step
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.drift import DriftVerdictOperator
from airgate.lifecycle.live import LiveModelOperator

for spec in sound_models():
    with model_dag(spec, "drift_check", schedule=spec.schedule.drift_check, doc=__doc__):
        live = LiveModelOperator(task_id="live_model", spec=spec)
        rows = step("airgate.steps.load:load_day", spec=spec)
        reference = step("airgate.steps.load:load_reference", spec=spec, live=live.output)
        drift = step("airgate.steps.drift:check", spec=spec, data=rows, reference=reference, live=live.output)
        DriftVerdictOperator(task_id="verdict", spec=spec, evidence=drift, outlets=[assets.drift(spec.name)])
