"""One role's answer to a promotion request, asked in the Airflow UI under 'Required Actions'."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import APPROVE, REFUSE
from airgate.contracts.runs import approval_task

REQUEST_TASK = "request"


def ask(spec: ModelSpec, role: str) -> HITLOperator:
    """The task that asks the people of one role. No default answer: when nobody answers in time, that is a refusal.

    What the task's state or XCom says later decides nothing: `ApplyPromotion` reads the answer record itself.
    """
    shown = "{{ ti.xcom_pull(task_ids='" + REQUEST_TASK + "')['%s'] }}"
    return HITLOperator(
        task_id=approval_task(role),
        subject=f"{role.replace('_', ' ')}: " + shown % "subject",
        body=shown % "body",
        options=[APPROVE, REFUSE],
        params={"reason": Param("", type="string", title="Reason",
                                description="What you looked at and why you decide so, for either answer.")},
        assigned_users=[{"id": person, "name": person} for person in spec.promotion.approvers[role]],
        response_timeout=timedelta(hours=spec.promotion.answer_within_hours),
        retries=0,
    )
