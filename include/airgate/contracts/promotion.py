"""The documents of a promotion: what was asked, how a person answered, what follows from it."""

import hashlib
import json
from datetime import datetime

from pydantic import AwareDatetime, Field

from airgate.contracts.base import Contract
from airgate.contracts.step import Digest

APPROVE, REFUSE = "Approve", "Refuse"
PRODUCTION = "production"


class PromotionRequest(Contract):
    """What approvers are asked to agree to. Immutable; its digest is what an approval is given for."""

    model: str
    version: str
    to_stage: str = PRODUCTION
    model_digest: Digest
    gates_hash: Digest
    evaluation_digest: Digest
    verdict_event: str = Field(description="event id of the gate verdict in the audit log")
    expected_current: str | None = Field(description="version in production when the request was made")
    requesters: list[str] = Field(description="everyone who asked: who started the training, who started this promotion")
    requested_at: AwareDatetime
    expires_at: AwareDatetime
    code_version: str
    nonce: str

    def digest(self) -> str:
        """SHA-256 over the request's canonical JSON, as 'sha256:...'."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class Answer(Contract):
    """One person's response as Airflow's own record holds it (never as a task state or an XCom claims it)."""

    role: str
    received: bool
    user: str | None = None
    chosen: list[str] = []
    reason: str = ""
    at: datetime | None = None
    subject: str = Field(default="", description="what the person was shown as headline")
    body: str = Field(default="", description="what the person was shown")


class Approval(Contract):
    """An answer that counts: who, when, in which role, for which request."""

    role: str
    user: str
    at: datetime
    reason: str
    request_digest: Digest


class Decision(Contract):
    """What follows from the answers: approved only when `reasons` is empty."""

    approved: bool
    approvals: list[Approval]
    reasons: list[str]
