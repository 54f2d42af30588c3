"""Airflow DAG, one a model: roll back, demote or archive at once, under one person's name; somebody else reviews it."""

from airgate.authoring import assets
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.rollback import ChangeStage, CloseReview, form, review

for spec in sound_models():
    with model_dag(spec, "rollback", params=form(), doc=__doc__):
        # the asset has the log signed at once, not when the review is over
        change = ChangeStage(task_id="change", spec=spec, outlets=[assets.promotions()])
        # all_done: that nobody reviewed it must reach the task that writes it down
        change >> review(spec) >> CloseReview(task_id="close", spec=spec, trigger_rule="all_done")
