"""Where steps run: `step()` made into an operator for the installation's runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airgate import settings
from airgate.runtime import pod_placement
from airgate.runtime.plan import StepPlan

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, XComArg
    from airflow.sdk.definitions.mappedoperator import MappedOperator

__all__ = ["StepPlan", "make_operator"]


# What the UI calls a task of a mapped step: the name of its item, else the item.
ITEM_NAME = "{{ (task.item.name or task.item) | string | truncate(100) }}"


def make_operator(plan: StepPlan, *, items: XComArg | None = None, **kwargs: Any) -> BaseOperator | MappedOperator:
    """Make the operator that carries out `plan` in the installation's runtime (AIRGATE_RUNTIME).

    With `items`, the output of a step that gives a list, it is mapped: a task for each item. `kwargs` are Airflow's own:
    task_id, retries, pool, trigger_rule and so on. A step that asks for GPUs waits in their pool unless they name another.
    Raises ConfigError when there is no such runtime.
    """
    kwargs = {**pod_placement.pool_options(plan.resources, settings.load().runtime), **kwargs}
    operator = _operator_class()
    if items is not None:
        return operator.partial(plan=plan, map_index_template=ITEM_NAME, **kwargs).expand(item=items)
    return operator(plan=plan, **kwargs)


def _operator_class() -> Any:
    # The Kubernetes operator costs 3 seconds of CPU to import, in every task; who runs locally does not pay it.
    if settings.load().runtime == "kubernetes":
        from airgate.runtime.kubernetes import PodStepOperator

        return PodStepOperator
    from airgate.runtime.local import LocalStepOperator

    return LocalStepOperator
