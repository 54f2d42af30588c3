"""Which texts of a promotion's events are about a person, and whom: what the log stores encrypted (AuditEvent.personal)."""

import re
from collections.abc import Iterable, Sequence

from airgate.audit.event import PEOPLE
from airgate.contracts.promotion import Approval, PromotionRequest
from airgate.governance.identities import canonical_person


def in_request(request: PromotionRequest) -> dict[str, str]:
    """The requesters, who are written as 'user:mia'; 'schedule:...' is nobody."""
    named = (text.partition(":") for text in request.requesters)
    return {f"requesters.{place}": name for place, (kind, _, name) in enumerate(named) if kind in PEOPLE and name}


def in_approval(approval: Approval) -> dict[str, str]:
    """The approver, under the account and as a person, and what that person wrote."""
    return {name: approval.user for name in ("user", "person", "reason") if getattr(approval, name)}


def in_approvers(approvals: Sequence[Approval]) -> dict[str, str]:
    """The approvers of a stage move."""
    return {f"approvers.{place}.user": approval.user for place, approval in enumerate(approvals)}


def in_reasons(reasons: Sequence[str], people: Iterable[str]) -> dict[str, str]:
    """The reasons of a refusal that name one of these people."""
    names = {canonical_person(person): person for person in people}
    found = {}
    for place, reason in enumerate(reasons):
        text = reason.casefold()
        named = next((person for name, person in names.items() if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)), None)
        if named is not None:
            found[f"reasons.{place}"] = named
    return found
