"""Names that DAGs, operators and readers of the log agree on."""

from typing import Literal, get_args

Flow = Literal["training", "validation", "promotion", "batch_inference", "drift_check", "retraining", "bundle_import",
               "rollback"]
FLOWS: tuple[Flow, ...] = get_args(Flow)


def dag_id(model: str, flow: Flow) -> str:
    """The DAG of one model's flow: 'diagnosis_classifier_training'."""
    return f"{model}_{flow}"


def approval_task(role: str) -> str:
    """The task in which a role answers: 'approve_risk_officer'."""
    return f"approve_{role}"


# A training run that drift asked for is named by this and the event id of the drift verdict.
RETRAINING_RUN = "retrain__"


def retrained_by(dag: str, run_id: str) -> str | None:
    """The DAG whose task started a training run, by the run's name; None for runs that no retraining started.

    Airflow tells that a task started a run, not which. A person cannot choose such a name unseen: a run by hand has its type.
    """
    model, flow = dag.rpartition("_")[::2]
    return dag_id(model, "retraining") if model and flow == "training" and run_id.startswith(RETRAINING_RUN) else None
