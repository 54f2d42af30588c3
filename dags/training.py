"""Airflow DAG, one a model: the rows of a window are checked and learned from; the model becomes a signed candidate."""

from airgate.authoring import assets, step
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.sign import SignOperator

for spec in sound_models():
    with model_dag(spec, "training", schedule=spec.schedule.training, doc=__doc__):
        rows = step("airgate.steps.load:load_window", spec=spec)
        checked = step("airgate.steps.validate:check", spec=spec, data=rows)
        features = step(f"{spec.name}.steps:features", spec=spec, data=checked)
        model = step(f"{spec.name}.steps:train", spec=spec, data=features)
        evaluation = step("airgate.steps.evaluate:evaluate", spec=spec, model=model, data=checked)
        registered = step(
            "airgate.steps.register:register",
            spec=spec,
            model=model,
            data=features,
            evaluation=evaluation,
            gates_hash=spec.gates.fingerprint(),
        )
        registered >> SignOperator(task_id="sign", spec=spec, outlets=[assets.candidate(spec.name)])
