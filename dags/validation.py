"""Airflow DAG, one a model: a candidate meets the gates that were fixed before it was trained. A pass asks for promotion."""

from airgate.authoring import assets, step
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.candidate import CandidateOperator
from airgate.lifecycle.verdict import VerdictOperator

for spec in sound_models():
    with model_dag(spec, "validation", schedule=assets.candidate(spec.name), doc=__doc__):
        found = CandidateOperator(task_id="candidate", spec=spec)
        evidence = step(
            "airgate.steps.evaluate:compare",
            spec=spec,
            candidate=found.output["candidate"],
            production=found.output["production"],
            signatures=found.output["signatures"],
        )
        VerdictOperator(task_id="verdict", spec=spec, evidence=evidence, outlets=[assets.validated(spec.name)])
