"""What people really answered: Airflow's own human-in-the-loop records, read over its API.

A task state and an XCom can both be set by hand, so neither counts as an approval; the record can only be written by the
person it names, and only once (a second answer gets 409).
"""

from datetime import datetime
from typing import Any

import httpx

from airgate.airflow_api import AirflowApi, task_path
from airgate.contracts.promotion import Answer
from airgate.contracts.runs import approval_task


class AirflowAnswers:
    """The records of a running Airflow."""

    def __init__(self, api: AirflowApi) -> None:
        self._api = api

    def answers(self, dag_id: str, run_id: str, roles: list[str]) -> list[Answer]:
        """Read one record a role. A task that never asked has no record (404): nobody answered."""
        return [self.answer(dag_id, run_id, approval_task(role), role) for role in roles]

    def answer(self, dag_id: str, run_id: str, task_id: str, role: str) -> Answer:
        """Read the record of one task that asks, as an answer in `role`."""
        try:
            record = self._api.get(task_path(dag_id, run_id, task_id) + "/-1/hitlDetails")
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return Answer(role=role, received=False)
        return answer_from(role, record)


def answer_from(role: str, record: dict[str, Any]) -> Answer:
    """Turn one record of the API into an Answer."""
    # `id` is the user name under SimpleAuthManager and the account number under FAB, where `name` is the user name.
    user = record.get("responded_by_user") or {}
    at = record.get("responded_at")
    return Answer(
        role=role,
        received=bool(record.get("response_received")) and bool(user),
        user=user.get("name") or user.get("id"),
        chosen=record.get("chosen_options") or [],
        reason=str((record.get("params_input") or {}).get("reason") or ""),
        at=datetime.fromisoformat(at) if at else None,
        subject=record.get("subject") or "",
        body=record.get("body") or "",
    )
