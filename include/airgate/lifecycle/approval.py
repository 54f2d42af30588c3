"""One role's answer to a promotion request, asked in the Airflow UI under 'Required Actions'."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

from airgate import settings
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import APPROVE, REFUSE
from airgate.contracts.runs import approval_task
from airgate.governance import identities
from airgate.governance.promotion import LONGEST_REASON, headline

REQUEST_TASK = "request"
SHORTEST_REASON = 3


class Ask(HITLOperator):
    """Asks, with a form that demands a reason. Airflow checks a task's parameters before it starts, when nobody has written

    anything yet; so the demand stands in the form alone, and `airgate.governance.promotion` holds every answer to it again.
    """

    @property
    def serialized_params(self) -> dict[str, dict[str, Any]]:
        """The form's fields as the UI gets them."""
        fields = super().serialized_params
        demand = {"minLength": SHORTEST_REASON, "maxLength": LONGEST_REASON}
        return {name: {**field, "schema": {**field["schema"], **demand}} for name, field in fields.items()}


def ask(spec: ModelSpec, role: str) -> HITLOperator:
    """The task that asks the people of one role. No default answer: when nobody answers in time, that is a refusal.

    What the task's state or XCom says later decides nothing: `ApplyPromotion` reads the answer record itself.
    Raises ConfigError when the people file is wrong.
    """
    shown = "{{ ti.xcom_pull(task_ids='" + REQUEST_TASK + "')['%s'] }}"
    who, named = identities.load(settings.load().people), spec.promotion.approvers[role]
    # Never nobody: Airflow takes an empty list for everybody. A service account that answers is refused later.
    accounts = dict.fromkeys(account for person in named for account in who.accounts(person)) or dict.fromkeys(named)
    return Ask(
        task_id=approval_task(role),
        subject=headline(role, shown % "subject"),
        body=shown % "body",
        options=[APPROVE, REFUSE],
        params={"reason": Param("", type="string", title="Reason",
                                description="What you looked at and why you decide so, for either answer.")},
        assigned_users=[{"id": account, "name": account} for account in accounts],
        response_timeout=timedelta(hours=spec.promotion.answer_within_hours),
        retries=0,
    )
