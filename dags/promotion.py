"""Airflow DAG, one a model: two people who did not ask for it agree, and only then the version goes to production."""

from airgate.authoring import assets
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.approval import ask
from airgate.lifecycle.promotion import ApplyPromotion
from airgate.lifecycle.promotion_request import RequestPromotion

for spec in sound_models():
    with model_dag(spec, "promotion", schedule=assets.validated(spec.name), doc=__doc__):
        request = RequestPromotion(task_id="request", spec=spec)
        approvals = [ask(spec, role) for role in spec.promotion.approvers]
        # all_done: a refusal and a timeout must reach the task that writes them down
        request >> approvals >> ApplyPromotion(
            task_id="apply", spec=spec, trigger_rule="all_done", outlets=[assets.promotions()])
