"""Whether the log is what was written: every leaf is hashed again from the bytes as stored, never from a copy.

What this cannot see: somebody with the owner's rights who rebuilds rows, hashes and head together. Signed checkpoints
kept elsewhere are the answer to that one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airgate.audit.entry import columns
from airgate.audit.event import load_json
from airgate.audit.merkle import Frontier, leaf_hash
from airgate.errors import AuditError


@dataclass(frozen=True)
class IntegrityReport:
    """The verdict. `size` counts events as the head does; `first_bad` is None where no single row can be named."""

    ok: bool
    size: int
    root: bytes
    first_bad: int | None = None
    reason: str = ""

    def line(self) -> str:
        """Give the verdict as one line: 'integrity: ok', or 'integrity: TAMPERED' with the place and what differs."""
        if self.ok:
            return "integrity: ok"
        place = "" if self.first_bad is None else f"at event {self.first_bad}: "
        return f"integrity: TAMPERED {place}{self.reason}"


def check(rows: Iterable[Any], size: int, root: bytes, frontier: bytes) -> IntegrityReport:
    """Compare rows, in the order of seq, with the head. Memory is bounded: O(log n) hashes and one row at a time.

    A row is any object with the columns of `airgate_events` as attributes.
    """
    tree = Frontier()
    for row in rows:
        reason = _place_differs(row.seq, tree.size, size) or _row_differs(row)
        if reason:
            return IntegrityReport(False, size, root, min(row.seq, tree.size), reason)
        tree.append(row.leaf_hash)
    if tree.size < size:
        reason = f"the log ends here, the head counts {size} events: {size - tree.size} are missing"
        return IntegrityReport(False, size, root, tree.size, reason)
    if tree.root() != root:
        reason = f"the tree of the {size} events has root {tree.root().hex()}, the head says {root.hex()}"
        return IntegrityReport(False, size, root, None, reason)
    if tree.to_bytes() != frontier:
        return IntegrityReport(False, size, root, None, "the head's frontier does not belong to its root")
    return IntegrityReport(True, size, root)


def _place_differs(seq: int, expected: int, size: int) -> str:
    if seq > expected:
        return f"it is missing; the next event is {seq}"
    if seq < expected:
        return f"there is an event {seq} outside the order"
    return f"it is not counted by the head, which counts {size} events" if seq >= size else ""


def _row_differs(row: Any) -> str:
    if leaf_hash(row.entry) != row.leaf_hash:
        return "its bytes do not have the hash that was recorded"
    try:
        record = load_json(row.entry)
        said = columns(record["event"]) | {"seq": record["seq"], "stored_at": record["stored_at"]}
    except (AuditError, KeyError, TypeError) as error:
        return f"its bytes are not an entry: {error!r}"
    different = sorted(name for name, value in said.items() if getattr(row, name) != value)
    return f"its bytes and its columns differ in: {', '.join(different)}" if different else ""
