"""A model's history as people and programs are told it, each answer with the proof of the events it stands on."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airgate.audit.event import PEOPLE, time_text
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import STAGES
from airgate.errors import PromotionError, nearest
from airgate.governance import history
from airgate.governance.history import Answer, Grounds, History, Period
from airgate.governance.stages import Move

if TYPE_CHECKING:
    from airgate.audit.entry import StoredEvent
    from airgate.audit.proven import Evidence
    from airgate.audit.store import AuditStore


@dataclass(frozen=True)
class HistoryReport:
    """What was asked and what the log says. `answer` and `then` are None when no moment was asked about.

    `answer` is what is known at `known_at` (now, if that is None), `then` what was known at the very moment that is asked about.
    """

    history: History
    stage: str
    known_at: datetime | None
    periods: list[Period]
    answer: Answer | None
    then: Answer | None
    evidence: "Evidence"

    @property
    def corrected(self) -> bool:
        """Whether the log says today, of the moment that is asked about, something else than it said then."""
        return self.answer is not None and self.then is not None and self.answer.version != self.then.version


def report(log: "AuditStore", model: str, *, stage: str = PRODUCTION, at: datetime | None = None,
           known_at: datetime | None = None) -> HistoryReport:
    """Answer: what was in the stage (at a moment, or ever), as it was known (at a moment, or now).

    Raises PromotionError for a model or a stage that is not there, AuditError when the log cannot be read or is not what was
    signed.
    """
    from airgate.audit import proven

    if stage not in STAGES:
        raise PromotionError(f"there is no stage '{stage}'; {nearest(stage, STAGES)}")
    history.refuse_unknown(log, model)
    whole = history.read(log, model)
    known = whole.known(known_at)
    periods = known.periods(stage)
    if at is None:
        seqs = [seq for period in periods for seq in (period.began.seq, *whole.grounds(period.began).seqs)]
        return HistoryReport(whole, stage, known_at, periods, None, None, proven.evidence(log, seqs))
    answer = whole.at(at, stage, known_at)
    then = whole.at(at, stage, known_at=at)
    seqs = [*answer.seqs, *then.seqs, *(whole.grounds(answer.period.began).seqs if answer.period else ())]
    return HistoryReport(whole, stage, known_at, periods, answer, then, proven.evidence(log, seqs))


def as_json(found: HistoryReport) -> dict[str, Any]:
    """The report as the API and `--json` give it. Times are UTC as the log writes them; `null` is 'nothing', or 'still so'."""
    return {
        "model": found.history.model, "stage": found.stage, "known_at": found.known_at and time_text(found.known_at),
        "periods": [period_json(found.history, period) for period in found.periods],
        "answer": found.answer and answer_json(found.history, found.answer),
        "known_then": found.then and answer_json(found.history, found.then), "corrected": found.corrected,
        "changed_behind": [event_json(item) for item in found.history.known(found.known_at).disturbances],
        "doubts": found.history.doubts(), "proofs": found.evidence.as_json(),
    }


def period_json(whole: History, period: Period) -> dict[str, Any]:
    """A time in a stage: version, digest, when it was so, when that was known, why, who said so, and by which events."""
    grounds = whole.grounds(period.began)
    return {
        "version": period.version, "digest": period.digest, "from": time_text(period.start),
        "until": period.end and time_text(period.end), "known_from": time_text(period.began.stored_at),
        "known_until": period.ended and time_text(period.ended.stored_at), "backdated": period.backdated,
        "cause": period.began.body.cause, "reason": period.began.body.reason, "who": list(who(period.began)),
        "request_digest": period.began.body.request_digest, "moved": event_json_of(period.began),
        "claim": grounds.claim and event_json(grounds.claim), "request": grounds.request and event_json(grounds.request),
        "approvals": [event_json(item) for item in grounds.approvals], "signed": grounds.signed and event_json(grounds.signed),
        "reviewed": grounds.reviewed and event_json(grounds.reviewed),
    }


def answer_json(whole: History, answer: Answer) -> dict[str, Any]:
    """What was in the stage at one moment."""
    return {"at": time_text(answer.at), "known_at": answer.known_at and time_text(answer.known_at), "version": answer.version,
            "period": answer.period and period_json(whole, answer.period),
            "under_way": answer.under_way and event_json_of(answer.under_way)}


def event_json(item: "StoredEvent") -> dict[str, Any]:
    """An event by its number and id; its text and proof stand under `proofs`."""
    return {"seq": item.seq, "event_id": str(item.event.event_id)}


def event_json_of(move: Move) -> dict[str, Any]:
    """The same of a move."""
    return {"seq": move.seq, "event_id": move.event_id}


def who(move: Move) -> tuple[str, ...]:
    """Who said so: the approvers of a promotion with their roles; for the rest, whoever did it."""
    body, actor = move.body, move.event.actor
    if body.cause == "promotion" or actor.kind not in PEOPLE:
        return tuple(f"{one.user} ({one.role})" for one in body.approvers)
    return (actor.name,)


def lines(found: HistoryReport) -> list[str]:
    """The report as text, one line a time; with a moment, the answer and what it stands on."""
    told = _answer_lines(found) if found.answer is not None else _table(found)
    behind = found.history.known(found.known_at).disturbances
    if behind:
        told.append(f"{len(behind)} changes behind the promotion's back were found (events {_numbers(behind)}); none of them was "
                    "used: inference asks the log")
    return [*told, *(f"DOUBT: {doubt}" for doubt in found.history.doubts()), found.evidence.line()]


def _answer_lines(found: HistoryReport) -> list[str]:
    answer, then, stage = found.answer, found.then, found.stage
    if answer is None or then is None:
        return []
    told = [f"{moment(answer.at)} UTC: {_named(answer.version)} of {answer.model} was in {stage}{_as_known(found)}"]
    if answer.period is not None:
        told += _period_lines(found.history, answer.period)
    if answer.under_way is not None:
        told.append(f"  a move was under way: {answer.under_way.line()} (event {answer.under_way.seq})")
    if found.known_at is None:
        told.append("  known then: the same" if not found.corrected else
                    f"  known then: {_named(then.version)}; what says otherwise was recorded later, at {_late(answer)}")
    return told


def _period_lines(whole: History, period: Period) -> list[str]:
    began, grounds = period.began, whole.grounds(period.began)
    until = moment(period.end) if period.end else "now"
    told = [f"  from {moment(period.start)} until {until}: {began.line()} (event {began.seq})",
            *([f"  reason: {began.body.reason}"] if began.body.reason else []),
            f"  recorded at {moment(began.stored_at)}" + (", after the time it claims" if period.backdated else "")]
    if period.digest:
        told.append(f"  files {period.digest}")
    told += _ground_lines(grounds, began.body.request_digest)
    return told


def _ground_lines(grounds: Grounds, request_digest: str | None) -> list[str]:
    told = []
    if grounds.request is not None:
        told.append(f"  request {request_digest} (event {grounds.request.seq})")
    for item in grounds.approvals:
        body = item.event.body
        told.append(f"  approved by {body.get('user')} ({body.get('role')}): {body.get('meaning') or body.get('reason')} "
                    f"(event {item.seq})")
    if grounds.signed is not None:
        told.append(f"  signed (event {grounds.signed.seq})")
    if grounds.reviewed is not None:
        body = grounds.reviewed.event.body
        by = f" by {body['reviewer']}" if body.get("reviewer") else ""
        told.append(f"  review afterwards: {body.get('answer')}{by} (event {grounds.reviewed.seq})")
    return told


def _table(found: HistoryReport) -> list[str]:
    if not found.periods:
        return [f"{found.history.model}: nothing had been in {found.stage}{_as_known(found)}"]
    rows = [("version", "from (UTC)", "until", "recorded", "cause", "who", "event")]
    rows += [(period.version or "none", moment(period.start), moment(period.end) if period.end else "now",
              moment(period.began.stored_at), period.began.body.cause, ", ".join(who(period.began)), str(period.began.seq))
             for period in found.periods]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [f"{found.history.model} in {found.stage}{_as_known(found)}",
            *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)]


def _as_known(found: HistoryReport) -> str:
    return f", as it was known at {moment(found.known_at)} UTC" if found.known_at else ""


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no version"


def _late(answer: Answer) -> str:
    """When the newest record that the answer stands on was stored."""
    moves = [move for move in (answer.period.began, answer.period.ended) if move is not None] if answer.period else []
    return moment(max(move.stored_at for move in moves)) if moves else "a time unknown"


def _numbers(items: "list[StoredEvent]") -> str:
    return ", ".join(str(item.seq) for item in items[:5]) + (" ..." if len(items) > 5 else "")


def moment(when: datetime | None) -> str:
    """A moment as people read it, UTC: '2026-01-08 14:03:59'."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if when else ""
