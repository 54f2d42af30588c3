"""A model's moves as the log would hold them, with the ids by which they are a chain; for tests of whoever reads them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from airgate.audit.entry import StoredEvent
from airgate.audit.event import Actor, AuditEvent, TaskRef
from airgate.governance.stages import claim_id, settling_id

MODEL = "tumour"
DIGEST = "sha256:" + "d" * 64
START = datetime(2026, 1, 8, 9, tzinfo=UTC)


def clock(minutes: float) -> datetime:
    """So many minutes after the story's beginning."""
    return START + timedelta(minutes=minutes)


def digest_of(version: str) -> str:
    """The digest that these tests' version has."""
    return "sha256:" + version.rjust(64, "0")


class Chain:
    """Appends to `events`, in the order of the log. Times are minutes after START; `known` is the log's clock."""

    def __init__(self, model: str = MODEL) -> None:
        self.model = model
        self.events: list[StoredEvent] = []
        self.settled = ""

    def add(self, kind: Any, at: float, body: dict[str, Any], *, known: float | None = None, run: str = "r",
            task_id: str = "apply", **fields: Any) -> AuditEvent:
        """One event of the model."""
        task = TaskRef(dag_id=f"{self.model}_promotion", run_id=run, task_id=task_id, try_number=1)
        event = AuditEvent(
            event_id=fields.pop("event_id", uuid4()), kind=kind, occurred_at=clock(at), model=self.model, source="operator",
            actor=fields.pop("actor", Actor(kind="asset", name="tumour.validated")), body=body, task=task, **fields)
        self.events.append(StoredEvent(len(self.events), event, clock(at if known is None else known), b"", b""))
        return event

    def promote(self, version: str, at: float, *, known: float | None = None, run: str | None = None,
                finished_by: str | None = None) -> AuditEvent:
        """Request, two approvals, signature, claim, move."""
        run = run or f"p{version}"
        asked = f"sha256:{version.rjust(64, 'e')}"
        self.add("promotion.requested", at - 3, {"to_stage": "production"}, run=run, version=version, task_id="request")
        for role, user in (("owner", "mia"), ("risk", "raj")):
            self.add("promotion.approved", at - 2, {"role": role, "user": user, "request_digest": asked, "meaning": "I read it"},
                     run=run, version=version, actor=Actor(kind="user", name=user), personal={"user": user})
        signed = self.add("model.signed", at - 1, {"statement": "promotion"}, run=run, version=version)
        approvers = [{"role": "owner", "user": "mia"}, {"role": "risk", "user": "raj"}]
        return self.move(version, at, known=known, run=run, finished_by=finished_by, request_digest=asked, approvers=approvers,
                         signature=str(signed.event_id))

    def move(self, version: str | None, at: float, *, cause: str = "promotion", known: float | None = None, run: str = "r",
             finished_by: str | None = None, settles: bool = True, stage: str = "production", **body: Any) -> AuditEvent:
        """Claim and settle a move; without `settles` the claim stays open."""
        actor = Actor(kind="user", name="ana") if cause != "promotion" else Actor(kind="asset", name="tumour.validated")
        told = {"cause": cause, "stage": stage, "to_version": version, "model_digest": version and digest_of(version),
                "previous": self.settled, **body}
        people = {f"approvers.{place}.user": one["user"] for place, one in enumerate(body.get("approvers", ()))}
        fields = {"version": version or body.get("from_version"), "actor": actor, "personal": people}
        claim = claim_id(self.model, self.settled)
        event = self.add("stage.moving", at - 0.5, told, run=run, event_id=claim, **fields)
        if settles:
            event = self.add("stage.moved", at, told, known=known, run=finished_by or run, event_id=settling_id(claim), **fields)
            self.settled = str(event.event_id)
        return event
