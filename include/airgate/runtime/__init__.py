"""Where steps run: `step()` made into an operator for the installation's runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airgate import settings
from airgate.runtime.plan import StepPlan

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

__all__ = ["StepPlan", "make_operator"]


def make_operator(plan: StepPlan, **kwargs: Any) -> BaseOperator:
    """Make the operator that carries out `plan` in the installation's runtime (AIRGATE_RUNTIME).

    `kwargs` are Airflow's own: task_id, retries, pool, trigger_rule and so on. Raises ConfigError when there is no such
    runtime.
    """
    # The Kubernetes operator costs 3 seconds of CPU to import, in every task; who runs locally does not pay it.
    if settings.load().runtime == "kubernetes":
        from airgate.runtime.kubernetes import PodStepOperator

        return PodStepOperator(plan=plan, **kwargs)
    from airgate.runtime.local import LocalStepOperator

    return LocalStepOperator(plan=plan, **kwargs)
