"""What the demo shows at its end: what ran, the models' numbers, who approved, and what the audit log says of itself."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from airgate.audit.anchors import Anchor
from airgate.audit.completeness import AirflowAccount
from airgate.audit.entry import StoredEvent
from airgate.audit.event import AuditEvent, Kind
from airgate.audit.store import AuditStore
from airgate.audit.versions import RegistryAccount
from airgate.platform.airflow_client import Leg

# Callbacks write their record just after a state is sent; the account is taken again until they have.
SETTLE = 20.0


@dataclass(frozen=True)
class AuditVerdict:
    """Two verdicts: the log was not tampered with, and it lacks nothing of what Airflow and MLflow say happened."""

    integrity: list[str]
    completeness: list[str]
    events: int
    root: str
    ok: bool

    def lines(self) -> Iterator[str]:
        """As `airgate audit verify --complete` says it."""
        yield from self.integrity
        yield from self.completeness
        yield f"{self.events} events, root {self.root}"


def audit_verdict(store: AuditStore, account: AirflowAccount, registry: RegistryAccount | None = None,
                  anchors: Sequence[Anchor] = (), settle: float = SETTLE) -> AuditVerdict:
    """Verify the log and compare it with what the accounts say, for at most `settle` seconds until nothing is missing.

    Without a `registry` only Airflow is asked, without `anchors` no checkpoint is held against theirs.
    """
    from airgate.audit import trust
    from airgate.audit.sweep import compare

    deadline = time.monotonic() + settle
    while (found := compare(account, store, registry)).added and time.monotonic() < deadline:
        time.sleep(1)
    report = trust.verify(store, trust.configured_key(), anchors)
    complete = not found.added and not found.unexplained
    return AuditVerdict(list(report.lines()), list(found.verdict()), report.integrity.size, report.integrity.root.hex(),
                        report.ok and complete)


def runs(legs: list[Leg]) -> Iterator[str]:
    """A line a DAG run."""
    for leg in legs:
        yield f"{leg.run.dag_id:40} {leg.state:8} {leg.seconds:6.1f} s  {leg.run.run_id}"


def versions(events: list[StoredEvent]) -> Iterator[str]:
    """A line a version that met its gates or did not, with the gates' numbers."""
    for event in _of(events, "gate.verdict"):
        yield f"{event.model} version {event.version}: gates {'passed' if event.body.get('passed') else 'NOT passed'}"
        for gate in _list(event.body.get("gates")):
            yield f"    {'ok ' if gate.get('passed') else 'NO '} {gate.get('name')}: {gate.get('evidence')}"


def approvals(events: list[StoredEvent]) -> Iterator[str]:
    """A line an approval, and one a stage move."""
    for event in _of(events, "promotion.approved", "promotion.refused", "stage.moved"):
        about = f"{event.model} version {event.version}"
        if event.kind == "promotion.approved":
            yield f"{about}: {event.actor.name} approved as {event.body.get('role')} at {event.body.get('at')}"
        elif event.kind == "promotion.refused":
            yield f"{about}: REFUSED: {'; '.join(map(str, _list(event.body.get('reasons'))))}"
        else:
            before = event.body.get("from_version")
            yield f"{about}: in {event.body.get('stage')}, in place of {f'version {before}' if before else 'nothing'}"


def drift(events: list[StoredEvent]) -> Iterator[str]:
    """A line a drift verdict or a decision that followed from one."""
    for event in _of(events, "drift.verdict", "retraining.decided"):
        body: Any = event.body
        if event.kind == "drift.verdict":
            what = "drift" if body.get("drifted") else "no drift"
            yield f"{body['window']['start']}: {what}, {body['share']:.0%} of the columns differ from version {event.version}'s"
        else:
            yield f"governor: {'retrain' if body.get('retrain') else 'do not retrain'}, {body.get('reason')}"


def predictions(results: list[dict[str, Any]]) -> Iterator[str]:
    """A line a file of predictions."""
    for result in results:
        for file in result.get("files", []):
            yield f"{result.get('rows')} rows by version {result.get('version')}: {local_path(file)}"


def predictions_are_there(results: list[dict[str, Any]]) -> bool:
    """True when every batch run left rows, and its files are on disk where they are local."""
    return bool(results) and all(
        result.get("rows") and result.get("files")
        and all(not file.startswith(("/", "file:")) or Path(local_path(file)).is_file() for file in result["files"])
        for result in results)


def local_path(url: str) -> str:
    """The path of a file: URL; other URLs as they are."""
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def _of(events: list[StoredEvent], *kinds: Kind) -> Iterator[AuditEvent]:
    return (stored.event for stored in events if stored.event.kind in kinds)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
