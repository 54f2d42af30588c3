"""A promotion's other end: the application, which trusts nothing but the records."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airgate import settings
from airgate.airflow_api import AirflowApi
from airgate.audit.event import Actor, AuditEvent
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import Decision, PromotionRequest
from airgate.contracts.stages import Approver, StageMove
from airgate.errors import PromotionError
from airgate.lifecycle import people, recording
from airgate.lifecycle.moves import Author, Conflict, Moves
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
        earlier = self._decided(context, request)
        if earlier:
            self.log.info("this request was decided before: %s", earlier["outcome"])
            return earlier
        with AirflowApi.from_environment(settings.load().airflow_api) as api:
            answers = AirflowAnswers(api).answers(self.dag_id, run_id, list(self.spec.promotion.approvers))
        decision = decide(request, answers, self.spec, run_id)
        return self._settle(context, request, decision, [answer.user for answer in answers if answer.user])

    def _settle(self, context: Any, request: PromotionRequest, decision: Decision, answered: list[str]) -> dict[str, Any]:
        approvals = [recording.record(context, "promotion.approved", request.model, request.version,
                                      approval.model_dump(mode="json"), once=(approval.role,),
                                      actor=Actor(kind="user", name=approval.user), personal=people.in_approval(approval))
                     for approval in decision.approvals]
        if not decision.approved:
            return self._refuse(context, request, decision.reasons, answered)
        return self._move(context, request, approvals)

    def _move(self, context: Any, request: PromotionRequest, approvals: list[AuditEvent]) -> dict[str, Any]:
        candidate = verdict_of(request).candidate
        wanted = StageMove(
            cause="promotion", stage=request.to_stage, from_version=request.expected_current, to_version=request.version,
            model_digest=request.model_digest, request_digest=request.digest(), data_revision=candidate.data_revision,
            window=candidate.window.model_dump(mode="json"),
            approvers=[Approver.model_validate({name: event.body[name] for name in ("role", "user")}) for event in approvals])
        try:
            self._moves(context).move(request.model, wanted)
        except PromotionError as refused:
            return self._refuse(context, request, [str(refused)], refused.people if isinstance(refused, Conflict) else ())
        self.log.info("version %s is now in %s", request.version, request.to_stage)
        return {"outcome": "applied", "version": request.version, "reasons": []}

    def _moves(self, context: Any) -> Moves:
        from airgate.registry.versions import Registry

        return Moves(recording.store(), Registry(settings.load().mlflow_uri), Author.of(context))

    def _refuse(self, context: Any, request: PromotionRequest, reasons: list[str],
                answered: Sequence[str] = ()) -> dict[str, Any]:
        body = {"request_digest": request.digest(), "reasons": reasons}
        recording.record(context, "promotion.refused", request.model, request.version, body, once=(),
                         personal=people.in_reasons(reasons, answered))
        self.log.warning("refused: %s", "; ".join(reasons))
        return {"outcome": "refused", "version": request.version, "reasons": reasons}

    def _decided(self, context: Any, request: PromotionRequest) -> dict[str, Any] | None:
        """The outcome an earlier try of this task recorded; a move that it began is finished first. None if there is none."""
        refused = recording.newest("promotion.refused", self.spec.name, run_id=context["dag_run"].run_id)
        if refused:
            return {"outcome": "refused", "version": refused.version, "reasons": refused.body["reasons"]}
        try:
            moved = self._moves(context).made(self.spec.name)
        except PromotionError as given_up:
            return self._refuse(context, request, [str(given_up)])
        return {"outcome": "applied", "version": moved.body.to_version, "reasons": []} if moved else None
