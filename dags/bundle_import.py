"""Airflow DAG, one a model: a version from another installation is verified, registered, judged by the gates of this one."""

from airflow.sdk import Param

from airgate.authoring import assets, step
from airgate.authoring.catalog import sound_models
from airgate.authoring.dags import model_dag
from airgate.lifecycle.bundle_import import BUNDLE_PARAM, BundleVerdict, TakeBundle
from airgate.lifecycle.sign import SignOperator

BUNDLE = Param("", type="string", title="Bundle",
               description="Its digest in the artifact store. `airgate bundle import FILE` puts it there and starts this DAG.")

for spec in sound_models():
    with model_dag(spec, "bundle_import", params={BUNDLE_PARAM: BUNDLE}, doc=__doc__):
        bundle = TakeBundle(task_id="take", spec=spec)
        model = step("airgate.steps.import_bundle:unpack", spec=spec, bundle=bundle.output)
        registered = step(
            "airgate.steps.import_bundle:register",
            spec=spec,
            model=model,
            bundle=bundle.output,
            gates_hash=spec.gates.fingerprint(),
        )
        verdict = BundleVerdict(task_id="verdict", spec=spec, outlets=[assets.validated(spec.name)])
        registered >> SignOperator(task_id="sign", spec=spec) >> verdict
