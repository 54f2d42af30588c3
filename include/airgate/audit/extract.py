"""Some events, each with its proof: an outsider can check one model's or one run's events and sees no others.

docs/audit-format.md, section 9, describes the folder; the verifier knows it by its manifest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from airgate.audit import checkpoints
from airgate.audit.entry import StoredEvent
from airgate.audit.event import time_text
from airgate.audit.export import appearing, json_line, write_json
from airgate.audit.store import AuditStore
from airgate.audit.tiles import StoredTree
from airgate.audit.verifier import FORMATS, Note, verify
from airgate.errors import AuditError


@dataclass(frozen=True)
class Extracted:
    """What was written: the folder, how many events, and the size of the checkpoint that covers them.

    `later` counts events that fit but came after that checkpoint; they cannot be proven yet and were left out.
    """

    folder: Path
    events: int
    size: int
    later: int


def extract(store: AuditStore, folder: Path, *, origin: str, **wanted: Any) -> Extracted:
    """Write the events that fit `wanted` (the filters of `AuditStore.events`), each with its proof against a checkpoint.

    Raises as `extract_events` does.
    """
    return extract_events(store, folder, store.events(**wanted), origin=origin)


def extract_events(store: AuditStore, folder: Path, found: Iterable[StoredEvent], *, origin: str) -> Extracted:
    """Write these events of the log, each with its proof against the newest checkpoint.

    The folder appears when it is whole and verifies. Raises AuditError when it is there and not empty, when there is no
    checkpoint yet, or when the log or its checkpoints were changed.
    """
    found = list(found)
    notes = checkpoints.notes(store)
    if not notes:
        raise AuditError("there is no checkpoint, so nothing can be proven to an outsider yet: `airgate audit checkpoint` makes "
                         "one")
    size = notes[-1].size
    selected = {stored.seq: (stored, size) for stored in found if stored.seq < size}
    # A key counts by the first checkpoint over the leaf that names it, so that is what these are proven under.
    named = {stored.seq: (stored, _first_over(stored.seq, notes)) for stored in store.events(kind="audit.key", before=size)}
    under = [pair for _, pair in sorted((selected | named).items())]
    with appearing(folder) as place:
        store.database.transact(lambda connection: _write_leaves(connection, place, under), write=False)
        (place / "checkpoints").mkdir()
        for note in notes:
            if note.size in {size, *(covered for _, covered in named.values())}:
                (place / "checkpoints" / f"{note.size:020d}.note").write_bytes(note.raw)
        keys = [str(stored.event.body.get("vkey")) for stored, _ in named.values()]
        (place / "keys.txt").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8", newline="\n")
        write_json(place / "manifest.json",
                   {"format": FORMATS[1], "made_at": time_text(datetime.now(UTC)), "origin": origin, "size": size})
        verdict = verify(place)
        if verdict.word != "ok":
            raise AuditError(f"these events cannot be proven: {verdict.text}. Run `airgate audit verify`")
    return Extracted(folder, len(under), size, sum(stored.seq >= size for stored in found))


def _first_over(seq: int, notes: list[Note]) -> int:
    return next(note.size for note in notes if note.size > seq)


def _write_leaves(connection: Connection, place: Path, under: list[tuple[StoredEvent, int]]) -> None:
    tree = StoredTree(connection)
    with (place / "leaves.jsonl").open("wb") as leaves, (place / "proofs.jsonl").open("wb") as proofs:
        for stored, size in under:
            leaves.write(stored.entry + b"\n")
            proof = [node.hex() for node in tree.inclusion(stored.seq, size)]
            proofs.write(json_line({"proof": proof, "seq": stored.seq, "size": size}))
