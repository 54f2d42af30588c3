"""Names that DAGs, operators and readers of the log agree on."""

from typing import Literal

Flow = Literal["training", "validation", "promotion", "batch_inference", "drift_check", "retraining", "bundle_import",
               "rollback"]
FLOWS: tuple[Flow, ...] = ("training", "validation", "promotion", "batch_inference", "drift_check", "retraining", "bundle_import",
                           "rollback")


def dag_id(model: str, flow: Flow) -> str:
    """The DAG of one model's flow: 'diagnosis_classifier_training'."""
    return f"{model}_{flow}"


def approval_task(role: str) -> str:
    """The task in which a role answers: 'approve_risk_officer'."""
    return f"approve_{role}"
