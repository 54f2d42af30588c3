"""More memory for the try after one that was killed for using too much: twice as much each time, up to a cap."""

from __future__ import annotations

from typing import Any

from airgate.contracts.resources import Resources
from airgate.runtime import record

MI = {"Mi": 1, "Gi": 1024}


def grown(resources: Resources, kills: int) -> Resources:
    """What the step gets after so many kills for memory; unchanged without a `memory_cap`."""
    if not kills or resources.memory_cap is None:
        return resources
    least, most = mebibytes(resources.memory), mebibytes(resources.memory_cap)
    amount = min(most, least * 2 ** min(kills, 30))
    text = f"{amount // 1024}Gi" if amount % 1024 == 0 else f"{amount}Mi"
    return resources.model_copy(update={"memory": text})


def kills(ti: Any) -> int:
    """How often the earlier tries of this task were killed for memory, by the audit log. Raises AuditError."""
    index = -1 if ti.map_index is None else ti.map_index
    events = record.patient_store().events(kind="task.retrying", dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id)
    tries = (item.event for item in events)
    return sum(event.body.get("error") == "OOMKilled" for event in tries
               if event.task is not None and event.task.map_index == index and event.task.try_number < ti.try_number)


def mebibytes(amount: str) -> int:
    """Mebibytes of an amount as model.yaml has it: 512Mi, 2Gi."""
    return int(amount[:-2]) * MI[amount[-2:]]
