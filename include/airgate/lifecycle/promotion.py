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
from airgate.contracts.notifications import Topic
from airgate.contracts.promotion import Approval, Decision, PromotionRequest
from airgate.contracts.stages import Approver, StageMove
from airgate.errors import PromotionError
from airgate.governance.promotion import answered_anew
from airgate.lifecycle import notify, people, recording
from airgate.lifecycle.moves import Author, Conflict, Moves
from airgate.lifecycle.promotion_decision import decide
from airgate.lifecycle.promotion_request import verdict_of
from airgate.lifecycle.sign import sign_promotion
from airgate.registry.answers import AirflowAnswers


class ApplyPromotion(BaseOperator):
    """Reads the answers where Airflow keeps them, applies the rules, and on a clear yes signs that and moves the stage.

    Runs whatever became of the approval tasks. Gives {"outcome": "applied" | "refused", "reasons": [...]}.
    A request is decided once: a repeated task meets its own earlier decision, and finishes a move that was interrupted.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        # What is unreachable now (Airflow's API, MLflow, the log) may be back soon; what is refused stays refused. Ten minutes in
        # all, which outlasts the guard's five: an alias that was moved by hand costs no approvals.
        super().__init__(**{"retries": 6, "retry_delay": timedelta(seconds=10), "retry_exponential_backoff": 2, **options})
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
        return self._settle(context, event, request, decision, [answer.user for answer in answers if answer.user])

    def _settle(self, context: Any, asked: AuditEvent, request: PromotionRequest, decision: Decision,
                answered: list[str]) -> dict[str, Any]:
        approvals = [recording.record(context, "promotion.approved", request.model, request.version,
                                      approval.model_dump(mode="json"), once=(approval.role,),
                                      actor=Actor(kind="user", name=approval.user), personal=people.in_approval(approval))
                     for approval in decision.approvals]
        on_record = [Approval.model_validate(event.body) for event in approvals]
        reasons = [*decision.reasons, *answered_anew(decision.approvals, on_record)]
        if reasons or not decision.approved:
            return self._refuse(context, request, reasons, [*answered, *(approval.user for approval in on_record)])
        signature = sign_promotion(context, recording.store(), asked, approvals)
        agreed = "; ".join(f"{approval.role}: {approval.user}, {approval.reason}" for approval in decision.approvals)
        self._tell(context, "promotion.approved", request, f"to {request.to_stage}, by {agreed}")
        return self._move(context, request, approvals, str(signature.event_id))

    def _move(self, context: Any, request: PromotionRequest, approvals: list[AuditEvent], signature: str) -> dict[str, Any]:
        candidate = verdict_of(request).candidate
        wanted = StageMove(
            cause="promotion", stage=request.to_stage, from_version=request.expected_current, to_version=request.version,
            model_digest=request.model_digest, request_digest=request.digest(), data_revision=candidate.data_revision,
            window=candidate.window.model_dump(mode="json"), signature=signature,
            approvers=[Approver.model_validate({name: event.body[name] for name in ("role", "user")}) for event in approvals])
        try:
            self._moves(context).move(request.model, wanted)
        except PromotionError as refused:
            return self._refuse(context, request, [str(refused)], refused.people if isinstance(refused, Conflict) else ())
        self._tell(context, "stage.moved", request,
                   f"is in {request.to_stage} now, before it {f'version {was}' if (was := request.expected_current) else 'none'}")
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
        self._tell(context, "promotion.refused", request, "\n".join(reasons))
        return {"outcome": "refused", "version": request.version, "reasons": reasons}

    def _tell(self, context: Any, topic: Topic, request: PromotionRequest, text: str) -> None:
        notify.send(topic, model=request.model, version=request.version, text=text, context=context)

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
