"""The assets that hang a model's DAGs together. Each event carries a payload of `airgate.contracts.payloads`."""

from airflow.sdk import Asset


def candidate(model: str) -> Asset:
    """Training registered a version; the payload is a Candidate. Starts validation."""
    return _asset(model, "candidate")


def validated(model: str) -> Asset:
    """A candidate passed its gates; the payload is a Verdict. Opens a promotion request."""
    return _asset(model, "validated")


def drift(model: str) -> Asset:
    """Incoming rows drifted; the payload is a DriftVerdict. Asks the governor for a retraining."""
    return _asset(model, "drift")


def promotions() -> Asset:
    """A promotion of any model was decided. Has the audit log signed at once."""
    return Asset(name="airgate.promotions", uri="airgate://promotions", group="airgate")


def registry() -> Asset:
    """Something changed in MLflow's registry, by the word of its webhook. Has the guard look at once."""
    return Asset(name="airgate.registry", uri="airgate://registry", group="airgate")


def _asset(model: str, what: str) -> Asset:
    return Asset(name=f"{model}.{what}", uri=f"airgate://{model}/{what}", group="airgate")
