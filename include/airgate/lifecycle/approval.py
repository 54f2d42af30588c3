"""One role's answer to a promotion request, asked in the Airflow UI under 'Required Actions'."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

from airgate import settings
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import APPROVE, LONGEST_REASON, REFUSE, SHORTEST_REASON
from airgate.contracts.runs import approval_task
from airgate.governance import identities
from airgate.governance.promotion import headline

REQUEST_TASK = "request"


class Ask(HITLOperator):
    """Asks, with a form that demands a reason.

    Airflow checks a task's parameters before it starts, when nobody has written anything yet; so the demand stands in the form
    alone, and `airgate.governance` holds every answer to it again.
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
    return Ask(
        task_id=approval_task(role),
        subject=headline(role, shown % "subject"),
        body=shown % "body",
        options=[APPROVE, REFUSE],
        params={"reason": Param("", type="string", title="Reason",
                                description="What you looked at and why you decide so, for either answer.")},
        assigned_users=assigned(spec.promotion.approvers[role]),
        response_timeout=timedelta(hours=spec.promotion.answer_within_hours),
        retries=0,
    )


def assigned(named: Iterable[str]) -> list[dict[str, str]]:
    """The accounts that may answer for the people of model.yaml, as Airflow takes them. Raises ConfigError as `ask` does.

    Never nobody: Airflow takes an empty list for everybody. A service account that answers is refused later.
    """
    who, names = identities.load(settings.load().people), list(named)
    accounts = dict.fromkeys(account for name in names for account in who.accounts(name)) or dict.fromkeys(names)
    return [{"id": account, "name": account} for account in accounts]
