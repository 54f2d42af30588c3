"""What an upstream step of the same run gave. XCom only points to it; the audit log says whether it is true."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from airgate.contracts.step import ArtifactRef, StepResult
from airgate.errors import WiringError
from airgate.runtime import record

# Where a step that others are mapped over leaves its StepResult; its return_value is the list, which Airflow must see.
STEP_RESULT = "step_result"


def upstream_result(ti: Any, task_id: str) -> StepResult:
    """Read what the upstream step `task_id` left for this task instance.

    Anyone with a `user` role may post an XCom, so what it says must be what the step's `task.succeeded` event says.
    Raises WiringError when nothing is there, when it is no StepResult, or when it is not what was recorded; AuditError
    when the log cannot be read.
    """
    value, map_index = None, -1
    if ti.map_index is not None and ti.map_index >= 0:  # inside a mapped task group, the neighbour has our index
        value, map_index = ti.xcom_pull(task_ids=task_id, map_indexes=ti.map_index), ti.map_index
    if value is None:
        value, map_index = ti.xcom_pull(task_ids=task_id, map_indexes=-1), -1
    if isinstance(value, list):  # a step that others are mapped over: its value is the list that Airflow maps
        value = ti.xcom_pull(task_ids=task_id, key=STEP_RESULT, map_indexes=-1)
    if value is None:
        raise WiringError(
            f"upstream step '{task_id}' has no result in this run: it was skipped, marked success by hand, or its XCom "
            f"was cleared. Clear '{task_id}' so that it runs again.")
    try:
        result = StepResult.model_validate(value)
    except ValidationError as error:
        raise WiringError(f"the XCom of upstream step '{task_id}' is no StepResult: {explain(error)}. Only the step "
                          f"itself may write it; clear '{task_id}' so that it runs again.") from None
    _check_recorded(ti, task_id, map_index, result)
    return result


def mapped_outputs(ti: Any, task_id: str) -> list[ArtifactRef]:
    """The outputs of the tasks of the mapped step `task_id` in this run, in map order, as the audit log has them.

    XCom is not asked: it could be changed by hand. What is missing is for the taking step to find, from the list that was
    mapped. Raises WiringError when one succeeded without an output (it was marked so by hand), AuditError.
    """
    newest: dict[int, Any] = {}
    for item in record.patient_store().events(
            kind="task.succeeded", dag_id=ti.dag_id, run_id=ti.run_id, task_id=task_id, newest_first=True):
        if item.event.task is not None:
            newest.setdefault(item.event.task.map_index, item.event.body.get("output"))
    bare = [index for index, output in sorted(newest.items()) if not output]
    if bare:
        raise WiringError(f"upstream step '{task_id}' has a success without an output (map index {bare[0]}): it was marked "
                          "success by hand. Clear it so that it runs again.")
    return [ArtifactRef.model_validate(output) for _, output in sorted(newest.items())]


def _check_recorded(ti: Any, task_id: str, map_index: int, result: StepResult) -> None:
    """Compare with the last success that the step itself put on record in this run."""
    events = record.patient_store().events(
        kind="task.succeeded", dag_id=ti.dag_id, run_id=ti.run_id, task_id=task_id, newest_first=True)
    mine = (e.event for e in events if e.event.task is not None and e.event.task.map_index == map_index)
    last = next(mine, None)
    if last is None:
        raise WiringError(f"upstream step '{task_id}' has a result in XCom but no success in the audit log: it was put "
                          f"there by hand. Clear '{task_id}' so that it runs again.")
    claimed = {
        "output": result.output.digest if result.output else None,
        "facts": record.bounded(dict(result.facts)), "mlflow_run_id": result.mlflow_run_id,
    }
    output: Any = last.body.get("output")
    recorded = {
        "output": output["digest"] if output else None,
        "facts": last.body.get("facts"), "mlflow_run_id": last.body.get("mlflow_run_id"),
    }
    wrong = [name for name in claimed if claimed[name] != recorded[name]]
    if wrong:
        raise WiringError(f"the XCom of upstream step '{task_id}' is not what the audit log holds of it (its "
                          f"{', '.join(wrong)}): it was changed by hand. Clear '{task_id}' so that it runs again.")


def explain(error: ValidationError) -> str:
    """The first three complaints of pydantic, each with its place; never the values."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'][:3])) or 'value'}: {item['msg']}" for item in items[:3])
