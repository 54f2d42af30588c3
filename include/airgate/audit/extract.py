"""Some events, each with its proof: an outsider can check one model's or one run's events and sees no others.

docs/audit-format.md, section 9, describes the folder; the verifier knows it by its manifest.
"""

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
from airgate.audit.verifier import FORMATS, Note, VerifierKey
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

    The folder appears when it is whole. Raises AuditError when it is there and not empty, when there is no checkpoint yet,
    or when the newest one is signed by no key on record.
    """
    notes = checkpoints.notes(store)
    if not notes:
        raise AuditError("there is no checkpoint, so nothing can be proven to an outsider yet: `airgate audit checkpoint` makes "
                         "one")
    size = notes[-1].size
    found = store.events(**wanted)
    selected = {stored.seq: (stored, size) for stored in found if stored.seq < size}
    introduced = _introduced(store.events(kind="audit.key", before=size), notes)
    under = dict(sorted((selected | introduced).items()))
    with appearing(folder) as place:
        store.database.transact(lambda connection: _write_leaves(connection, place, list(under.values())), write=False)
        (place / "checkpoints").mkdir()
        for note in notes:
            if note.size in {size, *(covered for _, covered in introduced.values())}:
                (place / "checkpoints" / f"{note.size:020d}.note").write_bytes(note.raw)
        keys = [_key_of(stored).text() for stored, _ in introduced.values()]
        (place / "keys.txt").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8", newline="\n")
        write_json(place / "manifest.json",
                   {"format": FORMATS[1], "made_at": time_text(datetime.now(UTC)), "origin": origin, "size": size})
    return Extracted(folder, len(under), size, sum(stored.seq >= size for stored in found))


def _introduced(named: list[StoredEvent], notes: list[Note]) -> dict[int, tuple[StoredEvent, int]]:
    """Give the leaves that name keys, each with the first checkpoint under which a key trusted before vouches for it."""
    found: dict[int, tuple[StoredEvent, int]] = {}
    trusted = [_key_of(named[0])] if named else []
    signed = False
    for note in notes:
        signed = any(note.signed_by(key) for key in trusted)
        if signed:
            new = [stored for stored in named if stored.seq < note.size and stored.seq not in found]
            found |= {stored.seq: (stored, note.size) for stored in new}
            trusted += [_key_of(stored) for stored in new]
    if not signed:
        raise AuditError(f"the checkpoint over {notes[-1].size} events is signed by no key on record; run `airgate audit verify`")
    return found


def _key_of(stored: StoredEvent) -> VerifierKey:
    try:
        return VerifierKey.parse(str(stored.event.body.get("vkey")))
    except ValueError as error:
        raise AuditError(f"event {stored.seq} names a key that cannot be read: {error}") from None


def _write_leaves(connection: Connection, place: Path, under: list[tuple[StoredEvent, int]]) -> None:
    tree = StoredTree(connection)
    with (place / "leaves.jsonl").open("wb") as leaves, (place / "proofs.jsonl").open("wb") as proofs:
        for stored, size in under:
            leaves.write(stored.entry + b"\n")
            proof = [node.hex() for node in tree.inclusion(stored.seq, size)]
            proofs.write(json_line({"proof": proof, "seq": stored.seq, "size": size}))
