"""Which version made a prediction file. What the file says of itself is a claim; the audit log's record of that run decides."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgate.audit.clocks import TOLERANCE
from airgate.audit.event import time_text
from airgate.contracts import digests
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.provenance import Provenance, claim_in, file_name
from airgate.contracts.standard_steps import PREDICT
from airgate.contracts.step import Window
from airgate.errors import ArtifactError, ConfigError, DataError
from airgate.governance import history
from airgate.governance.history import Period
from airgate.lifecycle import recording

if TYPE_CHECKING:
    from airgate.audit.entry import StoredEvent
    from airgate.audit.proven import Evidence
    from airgate.audit.store import AuditStore

_PAGE = 200


@dataclass(frozen=True)
class Origin:
    """Where a file of predictions comes from, by the log. `run` is the success event of the step that wrote these very bytes.

    `period` is the time in production of the version that made it. `problems` say what contradicts; without a `run` they say
    why nothing is known.
    """

    digest: str
    claim: Provenance | None
    run: "StoredEvent | None"
    period: Period | None
    problems: tuple[str, ...]
    evidence: "Evidence"

    @property
    def confirmed(self) -> bool:
        """Whether the log confirms the file, and all that it says of itself."""
        return self.run is not None and not self.problems


def of_file(log: "AuditStore", path: Path, model: str | None = None) -> Origin:
    """Which version made this file. `model` is needed for a file that says nothing of itself.

    Raises DataError for a file that cannot be read as Parquet, ConfigError where Parquet cannot be read at all, AuditError
    when the log cannot be read or is not what was signed.
    """
    try:
        digest = digests.of_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Give a file that batch inference wrote.") from None
    claim = _claim(path) if model is None else None
    if claim is None and model is None:
        raise DataError(f"{path}: says nothing of where it comes from: an earlier release wrote it, or not Airgate. "
                        "Name the model (--model) to look it up by its bytes.")
    return of_digest(log, model or (claim.model if claim else ""), digest, claim)


def of_digest(log: "AuditStore", model: str, digest: str, claim: Provenance | None = None) -> Origin:
    """The same for the file's SHA-256 ('sha256:...') alone, for whoever has the file somewhere else. Raises AuditError."""
    from airgate.audit import proven

    run, problems = _run_of(log, model, digest, claim)
    if run is None:
        return Origin(digest, claim, None, None, tuple(problems), proven.evidence(log, ()))
    whole = history.read(log, model)
    period, wrong = _live_then(log, whole, run)
    problems += [*_differs(claim, run), *wrong, *whole.doubts()]
    seqs = [run.seq, *((period.began.seq, *whole.grounds(period.began).seqs) if period else ())]
    return Origin(digest, claim, run, period, tuple(problems), proven.evidence(log, seqs))


def _claim(path: Path) -> Provenance | None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError("reading a Parquet file needs pyarrow, which is not installed here. Name the model (--model) to look "
                          "the file up by its bytes, or ask where the steps run.") from None
    try:
        return claim_in(pq.read_metadata(path).metadata, str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {str(error).rstrip('.')}. Give a file that batch inference wrote, "
                        "or name the model (--model) to look it up by its bytes.") from None


def _run_of(log: "AuditStore", model: str, digest: str, claim: Provenance | None) -> "tuple[StoredEvent | None, list[str]]":
    """The newest run that recorded these bytes. The claim says which run to look at first; the bytes decide."""
    unread: list[str] = []
    claimed = [] if claim is None else [item for item in log.events(
        kind="task.succeeded", dag_id=claim.dag_id, run_id=claim.run_id, task_id=claim.task_id, newest_first=True)
        if _scored(item)]
    for item in (*claimed, *_successes(log, model)):
        try:
            if _wrote(item, digest):
                return item, []
        except ArtifactError as error:
            unread.append(f"event {item.seq}: {error}")
    if claim is not None and claimed:
        return None, [f"the run it names, {claim.run_id} of {claim.dag_id}, is on record and wrote other bytes: this file was "
                      "changed afterwards", *unread]
    if claim is not None:
        return None, [f"the run it names, {claim.run_id} of {claim.dag_id}, is not on record: this file was not written by this "
                      "installation, or its metadata were made up", *unread]
    return None, [f"no run of {model} on record wrote these bytes: the file was changed, or written elsewhere", *unread]


def _successes(log: "AuditStore", model: str) -> "Iterator[StoredEvent]":
    """The runs of batch inference that are on record, newest first."""
    before: int | None = None
    while True:
        page = log.events(kind="task.succeeded", model=model, before=before, limit=_PAGE, newest_first=True)
        yield from filter(_scored, page)
        if len(page) < _PAGE:
            return
        before = page[-1].seq


def _scored(item: "StoredEvent") -> bool:
    """Whether it is the scoring step's own record. What a callback or a sweep adds tells of work that nobody saw."""
    return item.event.source == "operator" and item.event.body.get("function") == PREDICT


def _wrote(item: "StoredEvent", digest: str) -> bool:
    """Whether a run recorded a file of these bytes. Raises ArtifactError when its output is gone or was changed.

    The record holds the digest of the manifest of all files. A run of one day has one, whose name is known; what a run of several
    days wrote stands in its output.
    """
    recorded = _facts(item).get("predictions_digest")
    days = Window.model_validate(item.event.body.get("window"))
    if (days.end - days.start).days == 1:
        return manifest_digest({file_name(days.start): digest}) == recorded
    files = recording.output_of(item.event).get("digests")  # earlier releases gave none
    return isinstance(files, dict) and digest in files.values() and manifest_digest(files) == recorded


def _facts(item: "StoredEvent") -> dict[str, Any]:
    found = item.event.body.get("facts")
    return found if isinstance(found, dict) else {}


def _differs(claim: Provenance | None, run: "StoredEvent") -> list[str]:
    """What the file says of itself and the record does not."""
    if claim is None or run.event.task is None:
        return []
    facts, task = _facts(run), run.event.task
    pairs = [
        ("version", claim.version, facts.get("model_version")), ("model digest", claim.model_digest, facts.get("model_digest")),
        ("DAG", claim.dag_id, task.dag_id), ("run", claim.run_id, task.run_id), ("task", claim.task_id, task.task_id),
        ("model", claim.model, run.event.model),
    ]
    return [f"the file says {name} {said}, the run recorded {recorded}" for name, said, recorded in pairs if said != recorded]


def _live_then(log: "AuditStore", whole: history.History, run: "StoredEvent") -> tuple[Period | None, list[str]]:
    """The time in production of the version that scored, which must touch the time of the run."""
    task, facts = run.event.task, _facts(run)
    if task is None:
        return None, []
    started = next((item.event.occurred_at for item in log.events(
        kind="task.started", dag_id=task.dag_id, run_id=task.run_id, task_id=task.task_id, newest_first=True)
        if item.event.task and item.event.task.map_index == task.map_index), run.event.occurred_at)
    slack = timedelta(seconds=TOLERANCE)  # the worker that scored and the one that moved have clocks of their own
    for period in whole.periods():
        touches = period.start - slack <= run.event.occurred_at and (period.end is None or started - slack <= period.end)
        if touches and (period.version, period.digest) == (facts.get("model_version"), facts.get("model_digest")):
            return period, []
    return None, [f"version {facts.get('model_version')} was not in production when the run began, at {time_text(started)}"]


def as_json(found: Origin) -> dict[str, Any]:
    """The origin as the API and `--json` give it."""
    from airgate.lifecycle.history_report import event_json, event_json_of, who

    run, period = found.run, found.period
    task = run.event.task if run else None
    facts = _facts(run) if run else {}
    return {
        "digest": found.digest, "confirmed": found.confirmed, "problems": list(found.problems),
        "claim": found.claim and found.claim.model_dump(mode="json"),
        "model": run and run.event.model, "version": facts.get("model_version"), "model_digest": facts.get("model_digest"),
        "run": run and {**event_json(run), "dag_id": task and task.dag_id, "run_id": task and task.run_id,
                        "task_id": task and task.task_id, "try_number": task and task.try_number,
                        "recorded_at": time_text(run.stored_at)},
        "production": period and {"from": time_text(period.start), "until": period.end and time_text(period.end),
                                  "cause": period.began.body.cause, "who": list(who(period.began)),
                                  "moved": event_json_of(period.began)},
        "proofs": found.evidence.as_json(),
    }
