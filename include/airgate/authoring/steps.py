"""`step()`: one call in a DAG file makes one task, after its name, arguments and edges were checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow.sdk import Asset, BaseOperator, XComArg
from airflow.sdk.bases.decorator import get_unique_task_id
from airflow.sdk.definitions._internal.contextmanager import DagContext
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.definitions.param import DagParam
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from airgate import settings
from airgate.authoring import catalog
from airgate.authoring.mapping import check_each, check_gathering, plan_of
from airgate.authoring.signature import KIND_WORDS, Parameter, StepSignature, signature_of
from airgate.authoring.values import fault_of
from airgate.contracts.model_spec import SPEC_FILE, ModelSpec
from airgate.contracts.resources import Resources
from airgate.errors import WiringError, nearest
from airgate.runtime import make_operator
from airgate.runtime.plan import StepPlan

# Names that `step` itself takes, so no argument of a step can be given by them.
RESERVED = ("task_id", "spec", "emits", "each", "resources", "task_options")
_OURS = ("task_id", "plan", "dag", "outlets", "item", "items", "map_index_template")


@dataclass(frozen=True)
class _Producer:
    """Where a task's output comes from. `plan` is None when the task is no step."""

    operators: tuple[Any, ...]
    plan: StepPlan | None
    whole: bool


def step(ref: str, /, *, task_id: str | None = None, spec: ModelSpec | None = None, emits: Asset | None = None,
         each: str | None = None, resources: Resources | None = None, task_options: Mapping[str, Any] | None = None,
         **arguments: Any) -> BaseOperator | MappedOperator:
    """Make the task that runs the function `ref`, inside an open `with DAG(...)`.

    ref: 'diagnosis_classifier.steps:train' or 'airgate.steps.validate:check'.
    task_id: default the function's name, with `__1`, `__2` after it when the DAG has it already.
    spec: what the step's context holds. Default: the model that `ref` begins with, else the one its inputs share.
    emits: asset of which each success is an event; the step must give a dict, the event's payload.
    each: an argument that takes one item of a list. It is given the step that returns the list, and there is a task for each
        item. A later step that is given this one takes what its tasks gave, as one list.
    resources: default the entry of the function's name under `steps:` in model.yaml, else `default` there.
    task_options: Airflow's own options for the task: retries, pool, trigger_rule, execution_timeout, max_active_tis_per_dag.
    arguments: for a table, model or file the step that gives it; for a JSON value that, a plain value (text may hold a
        Jinja template), a DAG parameter (`dag.param(...)`), or a task that is no step.

    Raises WiringError when the function, an argument or an edge does not fit, SpecError when the model is broken.
    """
    signature = signature_of(ref)
    dag = DagContext.get_current()
    if dag is None:
        raise WiringError(f"step '{ref}': no DAG is open here. Call step() inside 'with DAG(...):'.")
    _check_options(signature, emits, resources, task_options)
    _check_names(signature, arguments)
    producers = {name: found for name, value in arguments.items() if (found := _producer(value))}
    check_each(signature, each, {name: found.plan for name, found in producers.items() if found.whole}, emits)
    for name, found in producers.items():
        _check_edge(signature, signature.parameters[name], found, dag)
    plain = {name: value for name, value in arguments.items() if name not in producers and not _is_dag_param(value)}
    for name, value in plain.items():
        _check_value(signature, signature.parameters[name], value)
    spec = spec or _spec_of(ref, producers)
    function = ref.partition(":")[2]
    mapped = {name for name, found in producers.items() if found.plan and found.plan.each}
    sources = {name: found.operators[0].task_id for name, found in producers.items() if found.plan}
    plan = StepPlan(
        function=ref,
        inputs={name: task for name, task in sources.items() if name not in mapped},
        gathers={name: task for name, task in sources.items() if name in mapped},
        each=each,
        json_inputs={name: _as_reference(value) for name, value in arguments.items()
                     if name not in sources and name not in plain},
        parameters=plain,
        spec=spec,
        resources=resources or (spec.resources(function) if spec else Resources()),
        emits=emits,
        returns=signature.returns,
    )
    items = producers[each].operators[0].output if each else None
    operator = make_operator(plan, items=items, task_id=get_unique_task_id(task_id or function), **(task_options or {}))
    for found in producers.values():
        for upstream in found.operators:
            upstream >> operator
    return operator


def _check_options(signature: StepSignature, emits: Any, resources: Any, task_options: Any) -> None:
    """What is not an argument of the step. Wrong types are caught here, where the message can name the step."""
    if emits is not None and not isinstance(emits, Asset):
        raise WiringError(f"step '{signature.ref}': emits is {type(emits).__name__}; give an airflow.sdk.Asset, "
                          "for example airgate.authoring.assets.candidate('my_model').")
    if emits is not None and signature.returns != "json":
        gives = KIND_WORDS[signature.returns] if signature.returns else "nothing"
        raise WiringError(f"step '{signature.ref}' emits asset '{emits.name}' but gives {gives}; the event's payload "
                          "is a dict. Emit from a step that returns one.")
    if resources is not None and not isinstance(resources, Resources):
        raise WiringError(f"step '{signature.ref}': resources is {type(resources).__name__}; give "
                          "airgate.contracts.resources.Resources(cpu=2, memory='4Gi').")
    for name in task_options or {}:
        if name in _OURS:
            raise WiringError(f"step '{signature.ref}': '{name}' is not set through task_options. Airgate sets it; the "
                              "name and the asset of a task are step()'s own arguments task_id and emits.")


def _check_names(signature: StepSignature, arguments: Mapping[str, Any]) -> None:
    """Every argument exists, none is missing, none is the injected context."""
    known = signature.arguments()
    for name in arguments:
        if name not in signature.parameters:
            raise WiringError(f"step '{signature.ref}': argument '{name}' does not exist; {nearest(name, known)}. "
                              f"See {signature.file}, line {signature.line}.")
        if name not in known:
            raise WiringError(f"step '{signature.ref}': '{name}' is the StepContext; the runner gives it. Drop it.")
    for name, parameter in known.items():
        if parameter.has_default or name in arguments:
            continue
        if name in RESERVED:
            raise WiringError(f"step '{signature.ref}' ({signature.file}, line {parameter.line}) has an argument "
                              f"'{name}', a name that step() uses itself. Rename it. Taken: {', '.join(RESERVED)}.")
        how = "a value, or a task that gives it" if parameter.kind == "json" else "the step that gives it"
        raise WiringError(f"step '{signature.ref}': argument '{name}' is missing; it wants {parameter.wants()}. "
                          f"Write {name}=<{how}>.")


def _producer(value: Any) -> _Producer | None:
    """The task or tasks whose output a value is; None for a plain value."""
    if isinstance(value, BaseOperator | MappedOperator):
        return _Producer((value,), plan_of(value), True)
    if isinstance(value, PlainXComArg):
        return _Producer((value.operator,), plan_of(value.operator), value.key == "return_value")
    if isinstance(value, XComArg):  # made of others by map, zip or concat
        operators = tuple(operator for operator, _ in value.iter_references())
        return _Producer(operators, next((plan for one in operators if (plan := plan_of(one))), None), False)
    return None


def _check_edge(signature: StepSignature, parameter: Parameter, found: _Producer, dag: Any) -> None:
    """The value at one end of an edge is of the kind that the other end wants, and both ends are in this DAG."""
    source = found.operators[0]
    this = f"step '{signature.ref}': argument '{parameter.name}' wants {parameter.wants()}"
    if any(not one.has_dag() or one.dag is not dag for one in found.operators):
        raise WiringError(f"{this} but '{source.task_id}' is a task of another DAG. Tasks of one DAG can be joined; "
                          "between DAGs, use an asset.")
    if found.plan is None:
        if parameter.kind != "json":
            raise WiringError(f"{this} but task '{source.task_id}' is no step and can give JSON only. Make it a step.")
        return
    if not found.whole:
        raise WiringError(f"{this} but was given a part of what {found.plan.function} gives, or several outputs in "
                          "one. Pass the step itself.")
    if found.plan.each:
        check_gathering(signature, parameter, found.plan, source.task_id)
    elif found.plan.returns != parameter.kind:
        gives = KIND_WORDS[found.plan.returns] if found.plan.returns else "nothing"
        raise WiringError(f"{this} but {found.plan.function} (task '{source.task_id}') gives {gives}."
                          + _fitting(signature, found.plan))


def _fitting(signature: StepSignature, plan: StepPlan) -> str:
    """Name the arguments that the given output would fit."""
    names = [name for name, parameter in signature.arguments().items() if parameter.kind == plan.returns]
    return f" It would fit: {', '.join(names)}." if names else " No argument of the step takes that."


def _check_value(signature: StepSignature, parameter: Parameter, value: Any) -> None:
    this = f"step '{signature.ref}': argument '{parameter.name}'"
    if parameter.kind == "json":
        fault = fault_of(parameter, value)
        if fault:
            raise WiringError(f"{this} {fault}.")
    elif not (value is None and parameter.optional):
        raise WiringError(f"{this} wants {parameter.wants()}, which only a step can give, but is {value!r:.60}. "
                          f"Write {parameter.name}=<the step that gives it>.")


def _is_dag_param(value: Any) -> bool:
    return isinstance(value, DagParam)


def _as_reference(value: Any) -> Any:
    """What Airflow resolves at run time: an operator stands for its output."""
    return value.output if isinstance(value, BaseOperator | MappedOperator) else value


def _spec_of(ref: str, producers: Mapping[str, _Producer]) -> ModelSpec | None:
    """The model that `ref` begins with, else the one that all its inputs work for, else none."""
    first = ref.partition(":")[0].partition(".")[0]
    if first != "airgate" and (settings.load().models / first / SPEC_FILE).is_file():
        return catalog.model(first)
    specs = {found.plan.spec.name: found.plan.spec for found in producers.values() if found.plan and found.plan.spec}
    return next(iter(specs.values())) if len(specs) == 1 else None
