"""The rules of what one person may do at once (roll production back, empty it, archive a version), and of the review of it."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Literal

from airgate.audit.event import Actor
from airgate.contracts.base import Contract
from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.promotion import LONGEST_REASON, PRODUCTION, SHORTEST_REASON, Answer
from airgate.contracts.stages import ARCHIVED, StageMove
from airgate.errors import PromotionError
from airgate.governance.identities import Identities
from airgate.governance.stages import Move, Stages

Action = Literal["rollback", "demote", "archive"]
ACTIONS: tuple[Action, ...] = ("rollback", "demote", "archive")
AGREE, DISAGREE = "Agree", "Disagree"
_KINDS = {"schedule": "a schedule", "asset": "an asset", "backfill": "a backfill", "system": "a task of another DAG"}
LONGEST_PROBLEM, MOST_PASSED = 400, 40
LONGEST_WAIT = timedelta(hours=1)


class Review(Contract):
    """What came of a review. `problem` says why it is none, in a sentence; None when it counts."""

    move: str
    cause: str
    answer: Literal["agreed", "disagreed", "none"]
    reviewer: str | None = None
    reason: str = ""
    problem: str | None = None


def check_actor(actor: Actor, rules: PromotionSpec, identities: Identities) -> None:
    """Let nobody but a person who is named as an approver act alone.

    Raises PromotionError, which names nobody: what fails a task is on record in clear.
    """
    allowed = "Allowed: the people whom promotion.approvers in model.yaml names, by starting the run in Airflow."
    if actor.kind != "user":
        starter = _KINDS.get(actor.kind, actor.kind)
        raise PromotionError(f"this run was started by {starter}; a person must answer for it. {allowed}")
    if identities.is_service(actor.name):
        raise PromotionError(f"this run was started by a service account; a person must answer for it. {allowed}")
    if not _is_approver(actor.name, rules, identities):
        raise PromotionError(f"whoever started this run may not change a stage alone. {allowed}")


def check_run(*, asked_at: datetime, now: datetime, cleared: bool, touched_by: Iterable[Actor], actor: Actor,
              identities: Identities) -> None:
    """Let a run do now only what whoever started it asks for now. Pure.

    A run that failed stays, and whoever may clear or set tasks could let it act later, in the name of the one who started it.
    `cleared` is Airflow's word; `touched_by` are the actors of all that is on record of the run. Raises PromotionError.
    """
    again = "Look again at what is live, then start a new run."
    if now - asked_at > LONGEST_WAIT:
        raise PromotionError(f"this run was asked for at {asked_at:%Y-%m-%d %H:%M} UTC, more than an hour ago. {again}")
    others = {identities.person(one.name) for one in touched_by if one.kind == "user"} - {identities.person(actor.name)}
    if cleared or others:
        what = "was changed by somebody else" if others else "was cleared"
        raise PromotionError(f"this run {what}, and it would act in the name of whoever started it. {again}")


def reason_in(text: object) -> str:
    """The reason as it is recorded. Raises PromotionError when there is none, or too much of it."""
    reason = " ".join(str(text or "").split())
    if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        raise PromotionError(f"the reason has {len(reason)} characters; {SHORTEST_REASON} to {LONGEST_REASON} are allowed. Say "
                             "what is wrong and where it was seen: the review starts from it.")
    return reason


def plan(now: Stages, action: str, version: str | None, reason: str, *, asked_at: datetime,
         digest: str | None = None, unusable: Callable[[Move], str | None] = lambda _: None) -> StageMove:
    """What is to be done, from what the log says. Pure but for what `unusable` looks at.

    `version` is the one in production that is to be left (it may be left open), or the one to archive, whose digest `digest` is.
    `unusable` says why the version of an earlier promotion cannot go into production now, None when it can: a rollback goes
    past it, so that nobody stops it by deleting the version before.
    `asked_at` is when the person asked, for whatever it was: what moved production since then was not known to them.
    Raises PromotionError when there is nothing to do, or production moved in between.
    """
    if action not in ACTIONS:
        raise PromotionError(f"no action '{action}'. Allowed: {', '.join(ACTIONS)}")
    state = now.state()
    if state.moved is not None and state.moved.stored_at > asked_at:
        raise PromotionError(f"production of {now.model} moved after you asked: {state.moved.what}. "
                             "Look again at what is live, then start a new run.")
    if action == "archive":
        return _archiving(now, version, digest, reason)
    if version and version != state.version:
        raise PromotionError(f"production of {now.model} is {_named(state.version)}, not version {version}. "
                             "Look again at what is live, then start a new run.")
    if action == "demote":
        if state.version is None:
            raise PromotionError(f"{now.model} has no version in production, so there is nothing to demote.")
        return StageMove(cause="demotion", stage=PRODUCTION, from_version=state.version, reason=reason)
    return _rolling_back(now, state.version, reason, unusable)


def _rolling_back(now: Stages, live: str | None, reason: str, unusable: Callable[[Move], str | None]) -> StageMove:
    passed: list[str] = []

    def usable(move: Move) -> bool:
        problem = unusable(move)
        passed.extend([f"version {move.body.to_version}: {problem}"[:LONGEST_PROBLEM]] if problem is not None else [])
        return problem is None

    before = now.previous(usable)
    if before is None:
        why = f" that can be used ({'; '.join(passed)})" if passed else ""
        raise PromotionError(f"{now.model} has no approved version before {_named(live)}{why}. To stop inference, demote: "
                             "start a new run with action 'demote'.")
    # Its approvals are still valid: they were given for these very bytes, and nobody took them back.
    return before.body.model_copy(update={"cause": "rollback", "from_version": live, "reason": reason,
                                          "approved_by": before.event_id, "passed_over": passed[:MOST_PASSED]})


def _archiving(now: Stages, version: str | None, digest: str | None, reason: str) -> StageMove:
    if not version:
        raise PromotionError("which version is to be archived? Give it as 'version' when you start the run.")
    if version in now.archived:
        raise PromotionError(f"version {version} of {now.model} is archived already.")
    return StageMove(cause="archiving", stage=ARCHIVED, from_version=now.state(ARCHIVED).version, to_version=version,
                     model_digest=digest, reason=reason)


def weigh_review(move: Move, answer: Answer, rules: PromotionSpec, identities: Identities, *, subject: str, body: str) -> Review:
    """Weigh the answer to a review of what somebody did alone. A review is another approver's, of this very text."""
    cause = move.body.cause
    if not answer.received or not answer.user:
        return Review(move=move.event_id, cause=cause, answer="none",
                      problem="nobody reviewed it (a timeout, or a task marked by hand, is no review)")
    who, person = identities.called(answer.user), identities.person(answer.user)
    checks = [
        (person == identities.person(move.event.actor.name), f"{who} did it and cannot review it"),
        (identities.is_stranger(answer.user), f"{who} is not in people.yaml, which is closed"),
        (not _is_approver(answer.user, rules, identities), f"{who} is not named as an approver in model.yaml"),
        (answer.chosen not in ([AGREE], [DISAGREE]), f"{who} answered {', '.join(answer.chosen) or 'nothing'}"),
        (answer.subject.strip() != subject.strip() or answer.body.strip() != body.strip(),
         "the text that was answered is not the text of this move"),
        (not answer.reason.strip(), f"{who} gave no reason; a review says what was looked at"),
    ]
    problem = next((text for wrong, text in checks if wrong), None)
    return Review(move=move.event_id, cause=cause, answer="agreed" if answer.chosen == [AGREE] else "disagreed",
                  reviewer=answer.user, reason=answer.reason.strip()[:LONGEST_REASON],
                  problem=problem)


def _is_approver(account: str, rules: PromotionSpec, identities: Identities) -> bool:
    """Whether it is the account of a person whom model.yaml names in some role, and the people file too where it is closed."""
    named = identities.people(name for people in rules.approvers.values() for name in people)
    return identities.person(account) in named and not identities.is_service(account) and not identities.is_stranger(account)


def _named(version: str | None) -> str:
    return f"version {version}" if version else "none"
