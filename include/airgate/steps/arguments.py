"""What a call gives its function: inputs from the store, parameters, the context, all held against the annotations."""

from typing import Any

from airgate.contracts.step import StepCall
from airgate.errors import WiringError, nearest
from airgate.steps import materialize
from airgate.steps.annotations import Hint, Signature
from airgate.steps.context import StepContext

_ANY_JSON = Hint(Any, "json", optional=True)


def refuse_wrong_arguments(call: StepCall, signature: Signature) -> None:
    """Raise WiringError unless the call gives every argument that the function needs, once, and no other."""
    given = [*call.inputs, *call.gathered, *call.parameters]
    allowed = [name for name, hint in signature.parameters.items() if hint.kind != "context"]
    for name in given:
        if name not in allowed:
            raise WiringError(f"{call.function} takes no argument '{name}'; {nearest(name, allowed)}")
    if twice := sorted(name for name in set(given) if given.count(name) > 1):
        raise WiringError(f"{call.function}: '{twice[0]}' is given both as an input and as a parameter. Give it once.")
    if missing := sorted(signature.required - set(given)):
        raise WiringError(f"{call.function}: no value for {', '.join(missing)}. Name it in the DAG's step().")


def arguments_of(call: StepCall, signature: Signature, context: StepContext) -> dict[str, Any]:
    """Fetch and check the values of a call's arguments. Raises WiringError where one does not fit, ArtifactError."""
    store, hints = context.store, signature.parameters
    arguments: dict[str, Any] = {}
    for name, ref in call.inputs.items():
        hint = _ANY_JSON if name == call.each else hints[name]
        value = materialize.load(store, ref, hint, name, context.workdir)
        arguments[name] = materialize.read_parameter(_item(call, value), hints[name], name) if name == call.each else value
    for name, refs in call.gathered.items():
        values = [materialize.load(store, ref, _ANY_JSON, f"{name}.{number}", context.workdir) for number, ref in enumerate(refs)]
        arguments[name] = materialize.read_parameter(values, hints[name], name)
    for name, value in call.parameters.items():
        arguments[name] = materialize.read_parameter(value, hints[name], name)
    return arguments | {name: context for name, hint in hints.items() if hint.kind == "context"}


def _item(call: StepCall, value: Any) -> Any:
    """The item of this task's map index, of the list as the audit log has it: what Airflow mapped may have been changed."""
    index = call.run.map_index
    if not isinstance(value, list) or not 0 <= index < len(value):
        what = f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__
        raise WiringError(f"{call.function}: task {index} takes an item of '{call.each}', which is {what}. Clear the step that "
                          "made the list, so that Airflow maps it anew.")
    return value[index]
