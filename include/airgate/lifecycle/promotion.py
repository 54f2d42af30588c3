"""A promotion's other end: the application, which trusts nothing but the records."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airgate import settings
from airgate.airflow_api import AirflowApi
from airgate.audit.event import Actor
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import Approval, Decision, PromotionRequest
from airgate.errors import PromotionError
from airgate.lifecycle import people, recording
from airgate.lifecycle.promotion_decision import decide
from airgate.lifecycle.promotion_request import verdict_of
from airgate.registry.answers import AirflowAnswers


class ApplyPromotion(BaseOperator):
    """Reads the answers where Airflow keeps them, applies the rules, and moves the alias on a clear yes.

    Runs whatever became of the approval tasks. Gives {"outcome": "applied" | "refused", "reasons": [...]}.
    A request is decided once: a repeated task meets its own earlier decision, and finishes a move that was interrupted.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        # What is unreachable now (Airflow's API, MLflow, the log) may be back soon; what is refused stays refused.
        super().__init__(**{"retries": 3, "retry_delay": timedelta(seconds=10), **options})
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Decide, record, apply, confirm. Raises AirflowFailException when there is no request to decide."""
        try:
            return self._execute(context)
        except PromotionError as error:
            raise AirflowFailException(str(error)) from error

    def _execute(self, context: Any) -> dict[str, Any]:
        run_id = context["dag_run"].run_id
        event = recording.newest("promotion.requested", self.spec.name, run_id=run_id)
        if event is None:
            raise PromotionError("the audit log has no promotion request from this run: clear the 'request' task and let it run.")
        request = PromotionRequest.model_validate(event.body)
        earlier = self._decided(run_id)
        if earlier:
            self.log.info("this request was decided before: %s", earlier["outcome"])
            return earlier
        if recording.newest("stage.moving", self.spec.name, run_id=run_id):
            return self._move(context, request, recording.approvals(self.spec.name, run_id))
        with AirflowApi.from_environment(settings.load().airflow_api) as api:
            answers = AirflowAnswers(api).answers(self.dag_id, run_id, list(self.spec.promotion.approvers))
        decision = decide(request, answers, self.spec, run_id)
        return self._settle(context, request, decision, [answer.user for answer in answers if answer.user])

    def _settle(self, context: Any, request: PromotionRequest, decision: Decision, answered: list[str]) -> dict[str, Any]:
        for approval in decision.approvals:
            recording.record(context, "promotion.approved", request.model, request.version, approval.model_dump(mode="json"),
                             once=(approval.role,), actor=Actor(kind="user", name=approval.user),
                             personal=people.in_approval(approval))
        if not decision.approved:
            return self._refuse(context, request, decision.reasons, answered)
        return self._move(context, request, decision.approvals)

    def _move(self, context: Any, request: PromotionRequest, approvals: list[Approval]) -> dict[str, Any]:
        """Tell the log before and after, so that a crash in between is seen and the next try finishes it."""
        from airgate.registry.versions import Registry

        registry = Registry(settings.load().mlflow_uri)
        version = registry.version(request.model, request.version)
        if version.digest != request.model_digest:
            return self._refuse(context, request, [f"version {version.version} no longer carries the digest that was approved"])
        candidate = verdict_of(request).candidate
        move = {"from_version": request.expected_current, "to_version": request.version, "stage": request.to_stage,
                "model_digest": request.model_digest, "request_digest": request.digest(),
                "data_revision": candidate.data_revision, "window": candidate.window.model_dump(mode="json")}
        recording.record(context, "stage.moving", request.model, request.version, move, once=())
        try:
            registry.move(request.model, request.version, request.expected_current)
        except PromotionError as conflict:
            return self._refuse(context, request, [str(conflict)])
        approvers = [approval.model_dump(mode="json", include={"role", "user"}) for approval in approvals]
        recording.record(context, "stage.moved", request.model, request.version, {**move, "approvers": approvers}, once=(),
                         personal=people.in_approvers(approvals))
        self.log.info("version %s is now in %s", request.version, request.to_stage)
        return {"outcome": "applied", "version": request.version, "reasons": []}

    def _refuse(self, context: Any, request: PromotionRequest, reasons: list[str],
                answered: Sequence[str] = ()) -> dict[str, Any]:
        body = {"request_digest": request.digest(), "reasons": reasons}
        recording.record(context, "promotion.refused", request.model, request.version, body, once=(),
                         personal=people.in_reasons(reasons, answered))
        self.log.warning("refused: %s", "; ".join(reasons))
        return {"outcome": "refused", "version": request.version, "reasons": reasons}

    def _decided(self, run_id: str) -> dict[str, Any] | None:
        """The outcome an earlier try of this task recorded, None if there is none."""
        refused = recording.newest("promotion.refused", self.spec.name, run_id=run_id)
        if refused:
            return {"outcome": "refused", "version": refused.version, "reasons": refused.body["reasons"]}
        moved = recording.newest("stage.moved", self.spec.name, run_id=run_id)
        return {"outcome": "applied", "version": moved.version, "reasons": []} if moved else None
