"""What one person may do at once, under their own name and with a reason, and the review that follows."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException

from airgate import settings
from airgate.airflow_api import AirflowApi
from airgate.audit.event import Actor
from airgate.audit.registry_changes import gone, records
from airgate.audit.registry_state import RegistryState
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import LONGEST_REASON, SHORTEST_REASON
from airgate.errors import PromotionError
from airgate.governance import identities, stages
from airgate.governance.identities import Identities
from airgate.governance.rollback import ACTIONS, AGREE, DISAGREE, check_actor, check_run, plan, reason_in, weigh_review
from airgate.governance.stages import Move
from airgate.lifecycle import notify, recording
from airgate.lifecycle.approval import Ask, assigned
from airgate.lifecycle.markdown import plain
from airgate.lifecycle.model_verification import trusted, verify_promotion
from airgate.lifecycle.moves import Author, Conflict, Moves
from airgate.registry.answers import AirflowAnswers

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

CHANGE_TASK, REVIEW_TASK = "change", "review"


def form() -> dict[str, Param]:
    """The fields of the trigger form."""
    return {
        "action": Param("rollback", type="string", enum=list(ACTIONS), title="What to do", description=(
            "rollback: production goes back to the approved version before. demote: nothing is in production any more, and "
            "inference stops. archive: a version that is not in production can never be promoted again.")),
        "version": Param(None, type=["null", "string"], title="Version", description=(
            "archive: the version. Otherwise the one that is in production now, or empty.")),
        "reason": Param(type="string", minLength=SHORTEST_REASON, maxLength=LONGEST_REASON, title="Reason", description=(
            "What is wrong, and where it was seen. It is recorded under your name, and somebody else reviews it.")),
    }


class ChangeStage(BaseOperator):
    """Rolls back, demotes or archives, in the name of whoever started the run. Gives {"subject", "body"} for the reviewer.

    A repeated task finishes or meets its own move: one run changes one thing.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**{"retries": 3, "retry_delay": timedelta(seconds=10), **options})
        self.spec = spec

    def execute(self, context: Any) -> dict[str, str]:
        """Move the stage. Raises AirflowFailException, with the reason, when it must not move."""
        try:
            move = self._change(context)
        except Conflict as conflict:
            self.log.error("%s", conflict)
            raise AirflowFailException(conflict.nameless) from None  # what fails a task is on record in clear
        except PromotionError as error:
            raise AirflowFailException(str(error)) from error
        text = review_text(move)
        notify.send("stage.rolled_back" if move.body.cause == "rollback" else "stage.moved", model=self.spec.name,
                    version=move.event.version, text=f"{move.line()}\n{move.body.reason}", context=context)
        return text

    def _change(self, context: Any) -> Move:
        from airgate.registry.versions import Registry

        actor, params, model = recording.actor_of(context), context["params"], self.spec.name
        log, registry = recording.store(), Registry(settings.load().mlflow_uri)
        moves = Moves(log, registry, Author.of(context, actor))
        earlier = moves.made(model)
        if earlier is not None:
            return earlier
        known, run = identities.load(settings.load().people), context["dag_run"]
        check_actor(actor, self.spec.promotion, known)
        check_run(asked_at=run.run_after, now=datetime.now(UTC), cleared=bool(run.clear_number), actor=actor,
                  touched_by=recording.actors(run.dag_id, run.run_id), identities=known)
        action, version, reason = params["action"], params.get("version") or None, reason_in(params.get("reason"))
        digest = _digest_on_record(log, model, version) if action == "archive" and version else None
        wanted = plan(stages.read(log, model), action, version, reason, asked_at=run.run_after, digest=digest,
                      unusable=lambda move: _unusable(log, moves, move))
        move = moves.move(model, wanted)
        self.log.info("%s", move.line())
        return move


def _unusable(log: "AuditStore", moves: Moves, move: Move) -> str | None:
    """Why inference would refuse the version of an earlier promotion now, None when it would not. Names nobody."""
    model, version = str(move.event.model), str(move.body.to_version)
    lost = gone(records(log, model), version)
    if lost is not None:
        return f"{lost.change.line()} (event {lost.event_id})"
    if not moves.sound(model, version, move.body.model_digest):
        return "it is gone from MLflow, or its digest there was changed"
    if not verify_promotion(log, trusted(), move).ok:
        return f"it does not verify; `airgate model verify {model}@{version}` says why"
    return None


def _digest_on_record(log: "AuditStore", model: str, version: str) -> str:
    """The digest that a version was registered with. The log says it: MLflow's tag can be written by others."""
    from airgate.audit.registrations import known

    registered = known(log, RegistryState(model)).registrations.get(version)
    if registered is None or registered.digest is None:
        raise PromotionError(f"the audit log knows no version {version} of {model}, so it cannot be archived. "
                             "Name a version that a training registered.")
    return registered.digest


def review(spec: ModelSpec) -> HITLOperator:
    """The task that asks the approvers to look at what was done. The answer moves nothing; what comes of it is on record."""
    shown = "{{ ti.xcom_pull(task_ids='" + CHANGE_TASK + "')['%s'] }}"
    return Ask(
        task_id=REVIEW_TASK,
        subject=shown % "subject",
        body=shown % "body",
        options=[AGREE, DISAGREE],
        params={"reason": Param("", type="string", title="Reason",
                                description="What you looked at, and what is to be done now.")},
        assigned_users=assigned(name for people in spec.promotion.approvers.values() for name in people),
        response_timeout=timedelta(hours=spec.promotion.answer_within_hours),
        retries=0,
    )


class CloseReview(BaseOperator):
    """Records what Airflow's own record says of the review (`stage.reviewed`), and fails when it is none.

    Clearing 'review' and this task asks again; each answer is recorded once.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**{"retries": 3, "retry_delay": timedelta(seconds=10), **options})
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Give the Review. Raises AirflowFailException when nothing was changed in this run, or nobody else reviewed it."""
        run_id, known = context["dag_run"].run_id, identities.load(settings.load().people)
        move = self._move(run_id)
        text = review_text(move)
        with AirflowApi.from_environment(settings.load().airflow_api) as api:
            answer = AirflowAnswers(api).answer(self.dag_id, run_id, REVIEW_TASK, role="reviewer")
        found = weigh_review(move, answer, self.spec.promotion, known, subject=text["subject"], body=text["body"])
        counts = found.problem is None
        body = found.model_dump(mode="json")
        recording.record(context, "stage.reviewed", self.spec.name, move.event.version, body,
                         once=(answer.at.isoformat() if answer.received and answer.at else "nobody",),
                         actor=Actor(kind="user", name=answer.user) if counts and answer.user else None,
                         personal=_personal(body, answer.user, known))
        if not counts:
            self.log.error("%s: %s", move.line(), found.problem)
            raise AirflowFailException(f"the {move.what} is not reviewed: see this task's log, or its stage.reviewed on the page "
                                       f"Governance. Clear the tasks '{REVIEW_TASK}' and '{self.task_id}' to ask again.")
        return body

    def _move(self, run_id: str) -> Move:
        moves, wanted = stages.read(recording.store(), self.spec.name).moves, (self.dag_id, run_id, CHANGE_TASK)
        for move in moves:
            task = move.event.task
            if task is not None and (task.dag_id, task.run_id, task.task_id) == wanted:
                return move
        raise AirflowFailException(f"nothing was changed in this run, so nothing is to be reviewed: see task '{CHANGE_TASK}'.")


def review_text(move: Move) -> dict[str, str]:
    """What a reviewer is shown: made from the record alone, so that it can be made again and compared."""
    body, when = move.body, move.event.occurred_at.astimezone(UTC)
    before, after = (f"version {version}" if version else "nothing" for version in (body.from_version, body.to_version))
    lines = [
        f"**{plain(move.event.actor.name)}** made this {body.cause} at {when:%Y-%m-%d %H:%M} UTC: "
        f"{body.stage} held {before} and holds {after} now.",
        f"Reason given: {plain(body.reason or 'none')}",
        f"Version {body.to_version} stands on its approvals of before: event `{body.approved_by}`." if body.approved_by else "",
        *(f"Passed over: {plain(one)}" for one in body.passed_over),
        "Say whether you agree, what you looked at, and what is to be done now. Your answer moves nothing: to change the stage "
        "again, start a promotion or another run of this DAG. Whoever made the change cannot review it.",
        f"Event `{move.event_id}`",
    ]
    subject = f"review: {body.cause} of {move.event.model} version {move.event.version}"
    return {"subject": subject, "body": "\n\n".join(filter(None, lines))}


def _personal(body: dict[str, Any], user: str | None, known: Identities) -> dict[str, str]:
    """The reviewer, what that person wrote, and a problem that names them."""
    if not user:
        return {}
    named = {"reviewer": body["reviewer"], "reason": body["reason"],
             "problem": body["problem"] if body["problem"] and known.called(user) in body["problem"] else None}
    return {path: user for path, text in named.items() if text}
