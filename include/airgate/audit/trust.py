"""Whether the log is still what was signed: its checkpoints held against the log, against each other, and against the anchors.

This is the owner's own check, made inside the installation and beginning with the key that is configured. An outsider makes it on
an export, with a key that reached them by another way (`airgate.audit.verifier`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection, select

from airgate import settings
from airgate.audit import checkpoints, signing
from airgate.audit.anchors import Anchor
from airgate.audit.integrity import IntegrityReport, verify_database
from airgate.audit.schema import RECEIPTS
from airgate.audit.store import AuditStore
from airgate.audit.verifier import Note, VerifierKey
from airgate.errors import AuditError


@dataclass
class TrustReport:
    """`reasons` say what contradicts the signatures; `silent` which anchors could not be asked, which is no contradiction;
    `believed` that no key was given to begin with.
    """

    integrity: IntegrityReport
    notes: list[Note] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    believed: bool = False

    @property
    def ok(self) -> bool:
        """Whether the bytes and the signatures both hold."""
        return self.integrity.ok and not self.reasons

    @property
    def unsigned(self) -> int:
        """How many events came after the newest checkpoint."""
        return self.integrity.size - (self.notes[-1].size if self.notes else 0)

    def lines(self) -> Iterator[str]:
        """Say it: one line on integrity, one on the checkpoints, one an anchor, and what somebody should look at."""
        yield self.integrity.line()
        if self.reasons:
            yield f"checkpoints: TAMPERED {self.reasons[0]}"
            yield from (f"  {reason}" for reason in self.reasons[1:])
        elif self.notes:
            later = f"; the {self.unsigned} since then are not signed yet" if self.unsigned else ""
            yield f"checkpoints: ok, {len(self.notes)} of them, the newest over {self.notes[-1].size} events{later}"
        else:
            yield "checkpoints: none yet; `airgate audit checkpoint`, or the DAG audit_upkeep, makes one"
        yield from (f"anchor: {name} agrees" for name in self.asked)
        yield from (f"anchor: could not be asked: {reason}" for reason in self.silent)
        if self.believed:
            yield "no AIRGATE_AUDIT_KEY is configured here: the log's own word for its key was believed"
        yield from self.integrity.notices


def configured_key() -> VerifierKey | None:
    """Give the public half of AIRGATE_AUDIT_KEY, None where none is configured. Raises ConfigError for one that cannot serve."""
    now = settings.load()
    return signing.load(now.audit_key, now.audit_origin).public if now.audit_key else None


def verify(store: AuditStore, key: VerifierKey | None, anchors: Sequence[Anchor] = ()) -> TrustReport:
    """Hash the whole log again and hold every checkpoint against it; then ask the anchors what they hold.

    `key` is the public half of the key that is configured; without it, the keys that the log itself names are believed.
    Raises AuditError when the store cannot be read.
    """
    # The anchors first: a checkpoint is in the database before any anchor has it.
    held, silent = _held(anchors)
    receipts = {anchor.name: store.database.transact(partial(_receipts, anchor=anchor.name), write=False) for anchor in anchors}
    try:
        notes = checkpoints.notes(store)
        named = checkpoints.keys_named(store)
    except AuditError as error:
        return TrustReport(store.verify(), reasons=[str(error)])
    sizes = {note.size for note in notes}
    wanted = sizes | {size for found in held.values() for size in found}
    signed = [(note.size, note.time) for note in notes]
    integrity = store.database.transact(lambda connection: verify_database(connection, wanted, signed), write=False)
    report = TrustReport(integrity, notes, silent=silent, believed=key is None and bool(notes))
    keys = checkpoints.succession(named, notes)
    report.reasons += _key_differs(key, keys[-1])
    report.reasons += _chain_differs(notes, keys, integrity)
    for anchor in anchors:
        if anchor.name in held:
            reasons = [*_anchor_differs(anchor.name, held[anchor.name], report),
                       *_receipts_differ(anchor, receipts[anchor.name], report)]
            report.reasons += reasons
            report.asked += [] if reasons else [anchor.name]
    return report


def require_agreement(store: AuditStore, anchors: Sequence[Anchor]) -> None:
    """Call before anything new is signed. Raises AuditError when an anchor holds a checkpoint that the database lacks.

    Else whoever rebuilt the log and removed its checkpoints would have it signed by the next hour's run.
    """
    found = contradictions(store, anchors)
    if found:
        raise AuditError(f"nothing is signed: {found[0]}. Run `airgate audit verify --anchors`")


def contradictions(store: AuditStore, anchors: Sequence[Anchor]) -> list[str]:
    """Say what the anchors hold that the database does not, without hashing the log."""
    held, _ = _held(anchors)
    report = TrustReport(IntegrityReport(True, *store.head()), checkpoints.notes(store))
    return [reason for name, found in held.items() for reason in _anchor_differs(name, found, report)]


def _held(anchors: Sequence[Anchor]) -> tuple[dict[str, dict[int, bytes]], list[str]]:
    held: dict[str, dict[int, bytes]] = {}
    silent = []
    for anchor in anchors:
        try:
            held[anchor.name] = anchor.notes()
        except AuditError as error:
            silent.append(str(error))
    return held, silent


def _key_differs(key: VerifierKey | None, in_force: VerifierKey | None) -> Iterator[str]:
    if key is not None and in_force is not None and in_force != key:
        yield (f"the key in force is {in_force.text()}, configured is {key.text()}: somebody else signs this log, or "
               "AIRGATE_AUDIT_KEY was not changed after a rotation")


def _chain_differs(notes: Sequence[Note], keys: Sequence[VerifierKey | None], integrity: IntegrityReport) -> Iterator[str]:
    before: Note | None = None
    for note, key in zip(notes, keys, strict=False):
        about = f"the checkpoint over {note.size} events"
        if note.previous != (before.digest() if before else None):
            yield f"{about} does not follow the one before it: a checkpoint is missing, or was exchanged"
        if key is None or not note.signed_by(key):
            yield f"{about} is not signed by the key that was in force: it is forged, or was changed"
        if note.size > integrity.size:
            yield f"{about} is older than this log, which has {integrity.size}: events were lost, or an old backup was restored"
        elif integrity.ok and integrity.roots.get(note.size) != note.root:
            yield f"the first {note.size} events are not those that their checkpoint signed"
        before = note


def _anchor_differs(name: str, held: dict[int, bytes], report: TrustReport) -> Iterator[str]:
    ours = {note.size: note.raw for note in report.notes}
    for size, raw in sorted(held.items()):
        if ours.get(size) == raw:
            continue
        if size in ours:
            yield f"{name} holds another checkpoint over {size} events than the database"
        elif size > report.integrity.size:
            yield (f"{name} holds a checkpoint over {size} events, the log has {report.integrity.size}: events were lost, or an "
                   "old backup was restored")
        else:
            yield f"{name} holds a checkpoint over {size} events that is missing in the database"


def _receipts_differ(anchor: Anchor, receipts: list[tuple[int, bytes]], report: TrustReport) -> Iterator[str]:
    """What the anchor took, by our record, it must still vouch for."""
    by_size = {note.size: note for note in report.notes}
    for size, receipt in receipts:
        note = by_size.get(size)
        if note is None:
            yield f"{anchor.name} took a checkpoint over {size} events that is missing in the database"
            continue
        try:
            anchor.check(size, note.raw, receipt)
        except AuditError as error:
            yield str(error)


def _receipts(connection: Connection, anchor: str) -> list[tuple[int, bytes]]:
    query = select(RECEIPTS.c.size, RECEIPTS.c.receipt).where(RECEIPTS.c.anchor == anchor).order_by(RECEIPTS.c.size)
    return [(size, bytes(receipt)) for size, receipt in connection.execute(query)]


