"""The documents of a promotion: what was asked, how a person answered, what follows from it."""

import json
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from airgate.contracts import digests
from airgate.contracts.base import Contract
from airgate.contracts.step import Digest

APPROVE, REFUSE = "Approve", "Refuse"
PRODUCTION = "production"
# Characters of a reason, of an approval as of what one person does alone; a record holds 64 KiB.
SHORTEST_REASON, LONGEST_REASON = 3, 4000
# The reports without which nobody can be asked; `drift` and `fairness` come with them where they exist.
REQUIRED_REPORTS = ("gates", "evaluation", "data_check")
# Release 0.2.0 wrote version 1, without these and with `evaluation_digest`. Each digest covers what its version has.
_SINCE_2 = frozenset({"schema_version", "environment", "from_stage", "reports", "statements", "links"})
_UNTIL_1 = frozenset({"evaluation_digest"})


class PromotionRequest(Contract):
    """What approvers are asked to agree to. Immutable; its digest is what an approval is given for, once.

    `reports` are the digests of the evidence: 'gates' is the SHA-256 of the verdict's leaf in the audit log, the others of files
    in the artifact store. `statements` says, by role, what an approval means. `links` lead to pages that show more.
    """

    schema_version: Literal[1, 2] = Field(default=1, description="a document that does not say is of version 1")
    model: str
    version: str
    environment: str | None = Field(default=None, description="the installation's AIRGATE_ENVIRONMENT")
    from_stage: str | None = None
    to_stage: str = PRODUCTION
    model_digest: Digest
    gates_hash: Digest
    evaluation_digest: Digest | None = None
    reports: dict[str, Digest] = {}
    statements: dict[str, str] = {}
    links: dict[str, str] = {}
    verdict_event: str = Field(description="event id of the gate verdict in the audit log")
    expected_current: str | None = Field(description="version in production when the request was made")
    requesters: list[str] = Field(description="everyone who asked: who started the training, who started this promotion")
    requested_at: AwareDatetime
    expires_at: AwareDatetime
    code_version: str
    nonce: str

    @model_validator(mode="after")
    def _as_its_version_says(self) -> Self:
        if self.schema_version == 1:
            if self.evaluation_digest is None:
                raise ValueError("a request of version 1 needs evaluation_digest; say schema_version: 2 to make a new one")
            return self
        missing = [name for name in REQUIRED_REPORTS if name not in self.reports]
        if missing:
            raise ValueError(f"reports lacks {', '.join(missing)}: nobody can agree to what was not shown")
        if not self.environment or not self.from_stage or not self.statements:
            raise ValueError("a request of version 2 names its environment, its from_stage and a statement for each role")
        if self.evaluation_digest is not None:
            raise ValueError("evaluation_digest belongs to version 1; version 2 has it in reports")
        return self

    def document(self) -> dict[str, Any]:
        """The request as JSON values: what is recorded, and what `digest` covers."""
        return self.model_dump(mode="json", exclude=set(_SINCE_2 if self.schema_version == 1 else _UNTIL_1))

    def digest(self) -> str:
        """SHA-256 over the document's canonical JSON (sorted keys, no spaces), as 'sha256:...'."""
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return digests.of_bytes(text.encode())


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
    """An answer that counts: who, when, in which role, for which request, and what it means.

    `user` is the account that answered, `person` whom it belongs to. `meaning` is the request's statement for the role, which
    was shown beside the answer; `reason` is what the person wrote. Release 0.2.0 recorded neither person nor meaning.
    """

    role: str
    user: str
    person: str = ""
    at: datetime
    meaning: str = ""
    reason: str
    request_digest: Digest


class Decision(Contract):
    """What follows from the answers: approved only when `reasons` is empty."""

    approved: bool
    approvals: list[Approval]
    reasons: list[str]
