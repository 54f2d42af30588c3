"""The tags that Airgate gives to a registered version in MLflow: what a reader there sees of its origin. The log has more."""

from airgate.contracts.step import Window

DIGEST, DAG, RUN = "airgate.digest", "airgate.dag_id", "airgate.training_run"


def version_tags(*, digest: str, gates_hash: str, data_revision: str, data_hash: str, window: Window,
                 dag_id: str, training_run: str) -> dict[str, str]:
    """Give the tags of a version that this run registers; `digest` is the model's, `dag_id` and `training_run` the run's."""
    return {
        DIGEST: digest, "airgate.gates_hash": gates_hash, "airgate.data_revision": data_revision, "airgate.data_hash": data_hash,
        "airgate.window_start": str(window.start), "airgate.window_end": str(window.end),
        DAG: dag_id, RUN: training_run,
    }
