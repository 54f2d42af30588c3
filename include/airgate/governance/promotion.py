"""The rules of a promotion: two approvals, by two people, neither of whom asked for it, for exactly what was requested."""

from collections.abc import Iterable
from datetime import datetime

from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.promotion import APPROVE, Answer, Approval, Decision, PromotionRequest


def canonical_person(name: str) -> str:
    """One spelling for one person: 'User:Ana ', 'backfill:ana' (who started the backfill) and 'ana' are the same."""
    plain = name.strip().casefold()
    for kind in ("user:", "backfill:", "outside:"):
        plain = plain.removeprefix(kind)
    return plain.strip()


def decide(request: PromotionRequest, answers: Iterable[Answer], rules: PromotionSpec, now: datetime, *, subject: str,
           body: str) -> Decision:
    """Weigh the answers. Everything that is not a clear yes is a no, and every reason is given.

    `subject` and `body` are the text that the request must have been shown with, word for word.
    Refused: a missing role, no answer (a timeout is one), another choice than Approve, a person who is not named for the
    role, a requester, one person twice, an answer after the request expired, an answer given for another text.
    """
    by_role = {answer.role: answer for answer in answers}
    asked_by = {canonical_person(name) for name in request.requesters}
    approvals: list[Approval] = []
    reasons: list[str] = []
    for role, people in rules.approvers.items():
        answer = by_role.get(role)
        shown = answer is not None and answer.subject.endswith(subject) and answer.body.strip() == body.strip()
        problem = _problem(answer, role, people, request, asked_by) or (
            None if shown else f"{role}: the text that was answered is not the text of this request")
        if problem:
            reasons.append(problem)
        elif answer is not None and answer.user and answer.at:
            approvals.append(Approval(role=role, user=answer.user, at=answer.at, reason=answer.reason,
                                      request_digest=request.digest()))
    persons = [canonical_person(approval.user) for approval in approvals]
    if len(set(persons)) < len(persons):
        reasons.append(f"{persons[0]} answered in both roles: two different people must agree")
    if now > request.expires_at:
        reasons.append(f"the request expired at {request.expires_at:%Y-%m-%d %H:%M} UTC")
    return Decision(approved=not reasons and len(approvals) == len(rules.approvers) == 2, approvals=approvals, reasons=reasons)


def _problem(answer: Answer | None, role: str, people: list[str], request: PromotionRequest, asked_by: set[str]) -> str | None:
    """The first thing that keeps one role's answer from counting, None if it counts."""
    if answer is None or not answer.received or not answer.user or answer.at is None:
        return f"{role}: nobody answered (a timeout, or a task marked by hand, is no answer)"
    person = canonical_person(answer.user)
    checks = [
        (answer.chosen != [APPROVE], f"{role}: {person} refused" + (f": {answer.reason}" if answer.reason else "")),
        (person not in {canonical_person(name) for name in people},
         f"{role}: {person} is not named for this role in model.yaml"),
        (person in asked_by, f"{role}: {person} asked for this promotion and cannot approve it"),
        (answer.at > request.expires_at, f"{role}: {person} answered after the request had expired"),
    ]
    return next((text for wrong, text in checks if wrong), None)
