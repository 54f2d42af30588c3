"""Steps that are mapped over a list, one task for each item, and steps that gather what the tasks gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk.definitions.mappedoperator import MappedOperator

from airgate.authoring.signature import KIND_WORDS, Parameter, StepSignature
from airgate.errors import WiringError, nearest
from airgate.runtime.plan import StepPlan


def plan_of(operator: Any) -> StepPlan | None:
    """The plan of a step's operator, mapped or not; None for any other task."""
    held = operator.partial_kwargs if isinstance(operator, MappedOperator) else vars(operator)
    plan = held.get("plan")
    return plan if isinstance(plan, StepPlan) else None


def check_each(signature: StepSignature, each: str | None, plans: Mapping[str, StepPlan | None], emits: Any) -> None:
    """Refuse to map over what is not the list of a step. `plans` are those of the tasks that arguments come from.

    Raises WiringError.
    """
    if each is None:
        return
    if each not in signature.arguments():
        raise WiringError(f"step '{signature.ref}': each is '{each}', which is no argument; "
                          f"{nearest(each, signature.arguments())}")
    plan = plans.get(each)
    if plan is None or plan.returns != "json" or plan.each is not None:
        raise WiringError(f"step '{signature.ref}': each='{each}' makes a task for each item of a list, so that argument takes "
                          f"the output of one step that gives a list. Write {each}=<the step that returns the list>.")
    if emits is not None:
        raise WiringError(f"step '{signature.ref}' is mapped (each='{each}') and cannot emit asset '{emits.name}': each of its "
                          "tasks would. Emit from the step that gathers what they give.")


def check_gathering(signature: StepSignature, parameter: Parameter, plan: StepPlan, task_id: str) -> None:
    """What the tasks of a mapped step gave is one list of JSON values. Raises WiringError where an argument takes none."""
    this = f"step '{signature.ref}': argument '{parameter.name}'"
    if plan.returns != "json":
        gives = KIND_WORDS[plan.returns] if plan.returns else "nothing"
        raise WiringError(f"{this} gathers what the tasks of '{task_id}' give, and each gives {gives}. Only JSON values are "
                          "gathered: let them return where they put it.")
    if parameter.kind != "json" or (parameter.types and not parameter.types & {"list", "any"}):
        raise WiringError(f"{this} wants {parameter.wants()}, but '{task_id}' is mapped and gives a list, a value for each of "
                          "its tasks. Annotate it as list[...].")
