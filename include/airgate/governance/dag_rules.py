"""What a DAG may not do: train on unchecked data, predict with an unverified model, register what was not evaluated,
import what nobody verified, do machine learning where no step accounts for it. Pure functions over a DAG; the policies call
them at parse time.

Limits. The rules read wiring, bytecode (see `callable_scan`), command lines and images. They do not see a script that a
shell command calls, a container of another image, a pod template file, code behind SSH, nor what a step's own function
does. Those leave no sound candidate behind: validation measures a candidate again from its recorded data, and promotion
takes only what validation passed.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airgate.contracts.standard_steps import (
    BUNDLE_ARGUMENT,
    CHECK,
    IMPORTING,
    LIVE_ARGUMENT,
    PARTITION,
    PREDICT,
    PUBLISH,
    REGISTER,
    STANDARD,
)

if TYPE_CHECKING:
    from airgate.runtime.plan import StepPlan

LIVE_ROLE, BUNDLE_ROLE = "live_model", "bundle"
ROLE_ATTRIBUTE = "airgate_role"

# A program where a command begins, not a word in a sentence: `echo "mlflow is up"`, `curl http://mlflow:5000` pass.
_STARTS_COMMAND = r"(?:^|[;&|(\n`]|\b(?:exec|nohup|time|sudo|then|do|env)\s)\s*(?:[A-Za-z_]\w*=\S*\s+)*(?:[\w./-]*/)?"
_ML = r"(?:mlflow|xgboost|torch|sklearn|lightgbm|catboost|tensorflow|keras)"
_ML_COMMAND = re.compile(
    rf"{_STARTS_COMMAND}(?P<program>mlflow|torchrun|xgboost)(?=\s|$)"
    rf"|\bpython[\d.]*\s[^;&|\n]*?-m\s+(?P<module>{_ML}|airgate\.steps|models)\b"
    rf"|\bpython[\d.]*\s[^;&|\n]*?-c\s.*?\b(?:import|from)\s+(?P<imported>{_ML})\b", re.DOTALL)


def violations(dag: Any) -> list[str]:
    """Check a DAG against every rule.

    `dag` is an Airflow DAG or anything with `dag_id` and `tasks`. Gives a short text a violation: which task, why it
    is refused, what to do. A DAG that has no steps and does no machine learning gets an empty list.
    """
    steps = {task.task_id: plan for task in dag.tasks if (plan := step_plan(task)) is not None}
    others = {task.task_id: task for task in dag.tasks if task.task_id not in steps}
    found: list[str] = []
    for task_id, plan in steps.items():
        if plan.function.startswith(IMPORTING):
            found += _takes_a_verified_bundle(task_id, plan, others)
        elif plan.returns == "model":
            found += _trains_on_checked_data(task_id, plan, steps)
        if plan.function == REGISTER:
            found += _registers_what_was_evaluated(task_id, plan, steps)
        if plan.function == PREDICT or (plan.function.startswith(STANDARD) and LIVE_ARGUMENT in _arguments(plan)):
            found += _predicts_with_live_model(task_id, plan, others)
        if plan.function == PUBLISH:
            found += _publishes_what_was_scored(task_id, plan, steps)
    for task in others.values():
        found += _no_ml_in_callables(task)
        found += _no_ml_in_commands(task)
        found += _no_steps_image(task)
    return found


def step_plan(task: Any) -> "StepPlan | None":
    """The plan of an operator that `step()` made, None for every other task."""
    if _attribute(task, "plan") is None:
        return None
    from airgate.runtime.operator import StepTask  # only a DAG that seems to have steps pays for this import

    plan: StepPlan | None = _attribute(task, "plan")
    cls = getattr(task, "operator_class", type(task))
    return plan if isinstance(cls, type) and issubclass(cls, StepTask) else None


def _attribute(task: Any, name: str) -> Any:
    """An attribute of a task; a mapped task keeps what its copies will have in `partial_kwargs`."""
    partial = getattr(task, "partial_kwargs", None)
    if isinstance(partial, Mapping) and name in partial:
        return partial[name]
    return getattr(task, name, None)


def _arguments(plan: "StepPlan") -> set[str]:
    return {*plan.inputs, *plan.gathers, *plan.json_inputs, *plan.parameters}


def _trains_on_checked_data(task_id: str, plan: "StepPlan", steps: Mapping[str, "StepPlan"]) -> Iterator[str]:
    """A step that returns a Model takes data, and every table or file it takes came through the data check."""
    data = {name: source for name, source in plan.inputs.items() if _is_data(source, steps)}
    if not data:
        yield (f"Task '{task_id}' trains a model ({plan.function}) but takes no checked data: what it reads by itself "
               f"passes no data check. Give it the output of step(\"{CHECK}\", data=...).")
    for name, source in data.items():
        origin = _unchecked_origin(source, steps)
        if origin is not None:
            yield (f"Task '{task_id}' trains a model on '{name}' from task '{origin}', which passes no data check. Put "
                   f"the check between them, checked = step(\"{CHECK}\", data={origin}), and train on what it gives.")


def _is_data(source: str, steps: Mapping[str, "StepPlan"]) -> bool:
    return source not in steps or steps[source].returns in ("table", "file")


def _unchecked_origin(task_id: str, steps: Mapping[str, "StepPlan"], seen: frozenset[str] = frozenset()) -> str | None:
    """The first task, walking up the data, from which rows arrive without a data check; None when all are checked."""
    plan = steps.get(task_id)
    if plan is None or task_id in seen:
        return task_id
    if plan.function == CHECK:
        return None
    sources = [source for source in plan.inputs.values() if _is_data(source, steps)]
    if not sources:
        return task_id
    origins = (_unchecked_origin(source, steps, seen | {task_id}) for source in sources)
    return next((origin for origin in origins if origin is not None), None)


def _registers_what_was_evaluated(task_id: str, plan: "StepPlan", steps: Mapping[str, "StepPlan"]) -> Iterator[str]:
    """Registering takes a model trained in this DAG, and an evaluation by a step that was given that same model."""
    model, evaluation = plan.inputs.get("model"), plan.inputs.get("evaluation")
    if model is None or model not in steps or steps[model].returns != "model":
        yield (f"Task '{task_id}' registers a model that no step of this DAG trained. Give it the output of the step "
               "that returns the Model: register(model=trained, ...).")
    elif evaluation is None or evaluation not in steps or model not in steps[evaluation].inputs.values():
        yield (f"Task '{task_id}' registers the model of '{model}' without an evaluation of that model. Give both the "
               f"same model: evaluated = step(\"airgate.steps.evaluate:evaluate\", model={model}, ...), then "
               f"register(model={model}, evaluation=evaluated).")


def _takes_a_verified_bundle(task_id: str, plan: "StepPlan", others: Mapping[str, Any]) -> Iterator[str]:
    """What is imported comes from the task that verified the bundle, not from a literal or a param."""
    if {role for _, role in _sources(plan, BUNDLE_ARGUMENT, others)} != {BUNDLE_ROLE}:
        yield (f"Task '{task_id}' ({plan.function}) imports a model from a bundle that nobody verified. Give it the output of "
               "TakeBundle(spec=...), as dags/bundle_import.py does.")


def _sources(plan: "StepPlan", argument: str, others: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The tasks that an argument comes from, each with its role; none for a value."""
    references = getattr(plan.json_inputs.get(argument), "iter_references", None)
    sources = [operator.task_id for operator, _ in references()] if callable(references) else []
    return [(source, _attribute(others.get(source), ROLE_ATTRIBUTE)) for source in sources]


def _predicts_with_live_model(task_id: str, plan: "StepPlan", others: Mapping[str, Any]) -> Iterator[str]:
    """What counts as the version in production comes from the task that verified it, not from a literal or a param."""
    sources = _sources(plan, LIVE_ARGUMENT, others)
    if {role for _, role in sources} != {LIVE_ROLE}:
        given = f"from task '{sources[0][0]}'" if sources else "as a value that nobody verified"
        yield (f"Task '{task_id}' ({plan.function}) gets its '{LIVE_ARGUMENT}' {given}. Only what the last "
               "promotion put in production counts as that: give it the output of LiveModelOperator(spec=...).")


def _publishes_what_was_scored(task_id: str, plan: "StepPlan", steps: Mapping[str, "StepPlan"]) -> Iterator[str]:
    """What becomes visible was scored by the standard step, of the parts that the standard step cut."""
    sources = {"predicted": (plan.gathers, PREDICT), "parts": (plan.inputs, PARTITION)}
    for name, (given, function) in sources.items():
        source = steps.get(given.get(name, ""))
        if source is None or source.function != function:
            yield (f"Task '{task_id}' ({PUBLISH}) takes its '{name}' from something else than {function}. Publish only what that "
                   "step gives, as dags/batch_inference.py does.")


def _callables(task: Any) -> Iterator[tuple[str, Any]]:
    """The Python that a task runs in Airflow itself: its callables, and an operator class that the author wrote."""
    from airgate.governance.callable_scan import is_authors_class

    for name in ("python_callable", "_pre_execute_hook", "_post_execute_hook"):
        if callable(target := _attribute(task, name)):
            yield f"'{getattr(target, '__name__', name)}'", target
    for ancestor in getattr(task, "operator_class", type(task)).__mro__:
        if is_authors_class(ancestor):
            yield f"operator class '{ancestor.__name__}'", ancestor


def _no_ml_in_callables(task: Any) -> Iterator[str]:
    from airgate.governance.callable_scan import ml_packages_in

    for what, target in _callables(task):
        packages = ml_packages_in(target)
        if packages:
            yield (f"Task '{task.task_id}' uses {', '.join(sorted(packages))} in {what}, outside any step: nothing "
                   "would record its data, model or numbers. Write it as a step, a plain function in "
                   "include/models/<model>/steps.py, and call it with step(\"<model>.steps:<function>\", ...).")


def _no_ml_in_commands(task: Any) -> Iterator[str]:
    command = _attribute(task, "bash_command")
    match = _ML_COMMAND.search(command) if isinstance(command, str) else None
    if match:
        name = next(group for group in match.groups() if group)
        yield (f"Task '{task.task_id}' runs {name} in a shell command, outside any step: nothing would record its "
               "data, model or numbers. Write it as a step and call it with step(\"<model>.steps:<function>\", ...).")


def _no_steps_image(task: Any) -> Iterator[str]:
    """The steps image runs only what the step operators ask of it."""
    given = (_attribute(task, "image"), *_pod_images(_attribute(task, "full_pod_spec")))
    images = [image for image in given if isinstance(image, str)]
    if not images:
        return
    from airgate.settings import load

    steps_image = load().steps_image
    for image in images:
        if repository(image) == repository(steps_image):
            yield (f"Task '{task.task_id}' runs the steps image ({image}) outside step(), where no input is verified "
                   "and no result recorded. Use step(\"<model>.steps:<function>\", ...), or an image of your own.")


def _pod_images(pod: Any) -> Iterator[Any]:
    spec = getattr(pod, "spec", None)
    for container in (*(getattr(spec, "init_containers", None) or ()), *(getattr(spec, "containers", None) or ())):
        yield getattr(container, "image", None)


def repository(image: str) -> str:
    """An image's repository, without tag and digest.

    >>> repository("registry:5000/airgate-steps:0.1.0@sha256:ab")
    'registry:5000/airgate-steps'
    """
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
