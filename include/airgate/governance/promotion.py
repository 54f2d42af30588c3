"""The rules of a promotion: two approvals, by two people, neither of whom asked for it, for exactly what was requested."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from airgate.audit.event import PEOPLE
from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.promotion import APPROVE, LONGEST_REASON, Answer, Approval, Decision, PromotionRequest
from airgate.governance.identities import Identities, canonical_person


def decide(request: PromotionRequest, answers: Iterable[Answer], rules: PromotionSpec, now: datetime, *, subject: str,
           body: str, identities: Identities) -> Decision:
    """Weigh the answers. Everything that is not a clear yes is a no, and every reason is given.

    `subject` and `body` are the text that the request must have been shown with, word for word.
    Refused: a missing role, no answer (a timeout is one), another choice than Approve, a service account, a person who is
    not named for the role, one who asked, one person twice (under two accounts too), an approval without a reason, an answer
    after the request expired, an answer given for another text, a request that names no reports.
    """
    by_role = {answer.role: answer for answer in answers}
    approvals: list[Approval] = []
    reasons = _faults(request, identities)
    for role, people in rules.approvers.items():
        answer = by_role.get(role)
        shown = answer is not None and answer.subject == headline(role, subject) and answer.body.strip() == body.strip()
        problem = _problem(answer, role, people, request, identities) or (
            None if shown else f"{role}: the text that was answered is not the text of this request")
        if problem:
            reasons.append(problem)
        elif answer is not None and answer.user and answer.at:
            approvals.append(Approval(role=role, user=answer.user, person=identities.person(answer.user), at=answer.at,
                                      meaning=request.statements.get(role, ""), reason=answer.reason.strip(),
                                      request_digest=request.digest()))
    if len({approval.person for approval in approvals}) < len(approvals):
        both = " and ".join(dict.fromkeys(canonical_person(approval.user) for approval in approvals))
        same = f"{both} are one person, who" if " and " in both else both
        reasons.append(f"{same} answered in both roles: two different people must agree")
    if now > request.expires_at:
        reasons.append(f"the request expired at {request.expires_at:%Y-%m-%d %H:%M} UTC")
    return Decision(approved=not reasons and len(approvals) == len(rules.approvers) == 2, approvals=approvals, reasons=reasons)


def answered_anew(decided: Iterable[Approval], recorded: Iterable[Approval]) -> Iterator[str]:
    """Why approvals on record cannot stand for those that were decided on, in a sentence for each that is another one.

    A role's approval is recorded once. When the question is then asked and answered again, by whom and when differ.
    """
    for now, then in zip(decided, recorded, strict=True):
        if (now.role, now.user, now.at, now.request_digest) != (then.role, then.user, then.at, then.request_digest):
            yield (f"{now.role}: on record is the approval of {_by(then)}; Airflow now has an answer of {_by(now)}. "
                   "A question is answered once: ask for the promotion again")


def headline(role: str, subject: str) -> str:
    """The headline over one role's question: all of it, for words put before it could make a drill of the question."""
    return f"{role.replace('_', ' ')}: {subject}"


def strangers(requesters: Iterable[str], identities: Identities) -> list[str]:
    """The people among the requesters, written as 'user:mia', whom a closed people file does not name."""
    return [name for name in requesters if name.partition(":")[0] in PEOPLE and identities.is_stranger(name)]


def impossible(rules: PromotionSpec, identities: Identities) -> Iterator[str]:
    """Why these approvers could never agree, in a sentence each; nothing when they could."""
    able: list[set[str]] = []
    for role, people in rules.approvers.items():
        able.append(identities.people(name for name in people
                                      if not identities.is_service(name) and not identities.is_stranger(name)))
        if not able[-1]:
            yield (f"promotion.approvers.{role} names nobody who may answer ({', '.join(people)}): people.yaml has them as "
                   "service accounts, or is closed and does not name them")
    if all(able) and len(set[str]().union(*able)) < 2:
        yield (f"promotion.approvers names one person in both roles: by people.yaml all are accounts of {able[0].pop()}. "
               "Two different people must agree")


def _by(approval: Approval) -> str:
    return f"{canonical_person(approval.user)} of {approval.at:%Y-%m-%d %H:%M:%S} UTC"


def _faults(request: PromotionRequest, identities: Identities) -> list[str]:
    """What is wrong with the request itself, whoever answers it."""
    checks = [
        (request.schema_version == 1, "an earlier release made this request, without the digests of its reports. Ask again"),
        (bool(strangers(request.requesters, identities)), "people.yaml is closed and does not name everybody who asked for this"),
    ]
    return [text for wrong, text in checks if wrong]


def _problem(answer: Answer | None, role: str, people: list[str], request: PromotionRequest,
             identities: Identities) -> str | None:
    """The first thing that keeps one role's answer from counting, None if it counts."""
    if answer is None or not answer.received or not answer.user or answer.at is None:
        return f"{role}: nobody answered (a timeout, or a task marked by hand, is no answer)"
    who, person, said = identities.called(answer.user), identities.person(answer.user), answer.reason.strip()
    checks = [
        (answer.chosen != [APPROVE], f"{role}: {who} refused" + (f": {said[:LONGEST_REASON]}" if said else " without a reason")),
        (identities.is_service(answer.user), f"{role}: {who} is a service account; only a person can approve"),
        (person not in identities.people(people), f"{role}: {who} is not named for this role in model.yaml"),
        (identities.is_stranger(answer.user), f"{role}: {who} is not in people.yaml, which is closed"),
        (person in identities.people(request.requesters), f"{role}: {who} asked for this promotion and cannot approve it"),
        (answer.at > request.expires_at, f"{role}: {who} answered after the request had expired"),
        (not said, f"{role}: {who} approved without a reason; an approval says what was looked at"),
        (len(said) > LONGEST_REASON, f"{role}: {who} gave a reason of {len(said)} characters; at most {LONGEST_REASON} are kept"),
    ]
    return next((text for wrong, text in checks if wrong), None)
