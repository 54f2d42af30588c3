"""Airflow DAG, one a model: a drift verdict asks, the governor answers by the rules of model.yaml; a yes starts the training."""

from airgate.authoring import assets
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.retraining import GovernorOperator, start_training

for spec in sound_models():
    with model_dag(spec, "retraining", schedule=assets.drift(spec.name), doc=__doc__):
        decision = GovernorOperator(task_id="decide", spec=spec)
        decision >> start_training(spec)
