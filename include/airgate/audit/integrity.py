"""Whether the log is what was written: every leaf is hashed again from the bytes as stored, never from a copy.

What this cannot see: somebody with the owner's rights who rebuilds rows, hashes and head together. Signed checkpoints
kept elsewhere are the answer to that one (`airgate.audit.checkpoints`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from airgate.audit.canonical_json import loads
from airgate.audit.clocks import Clocks
from airgate.audit.entry import columns_in
from airgate.audit.expired import Expired
from airgate.audit.merkle import Frontier, leaf_hash
from airgate.audit.schema import EVENTS, TREE
from airgate.audit.writing import TILE, head
from airgate.errors import AuditError

_BATCH = 500  # rows held while verifying: 32 MiB when every event has the largest size


@dataclass(frozen=True)
class IntegrityReport:
    """The verdict. `size` counts events as the head does; `first_bad` is None where no single row can be named.

    `roots` are the roots at the sizes that were asked for; `notices` are what somebody should look at, though it is no
    tampering: clocks that disagree.
    """

    ok: bool
    size: int
    root: bytes
    first_bad: int | None = None
    reason: str = ""
    roots: dict[int, bytes] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Give the verdict as one line: 'integrity: ok', or 'integrity: TAMPERED' with the place and what differs."""
        if self.ok:
            return "integrity: ok"
        place = "" if self.first_bad is None else f"at event {self.first_bad}: "
        return f"integrity: TAMPERED {place}{self.reason}"


def verify_database(connection: Connection, sizes: Iterable[int] = (),
                    signed: Sequence[tuple[int, str]] | None = None) -> IntegrityReport:
    """Hash every leaf of the log behind this connection, in one snapshot and bounded memory.

    `sizes` are sizes at which the root is wanted too. With `signed`, the checkpoints' sizes and times, contents may be gone only
    where an event that one of them covers says so, and the time was over. Raises AuditError when the log cannot be read.
    """
    found = head(connection)
    stored = {(level, index): bytes(node) for level, index, node in connection.execute(select(TREE))}
    rows = connection.execution_options(yield_per=_BATCH).execute(select(EVENTS).order_by(EVENTS.c.seq))
    with rows:
        return _Check(found, stored, sizes, signed).run(rows)


class _Check:
    """One walk over the rows, in the order of seq: O(log n) hashes, the stored subtrees, and one row at a time."""

    def __init__(self, found: Any, stored: dict[tuple[int, int], bytes], sizes: Iterable[int],
                 signed: Sequence[tuple[int, str]] | None) -> None:
        self.size, self.root, self.frontier = found.size, bytes(found.root), bytes(found.frontier)
        self.stored, self.sizes, self.signed = stored, set(sizes), signed
        self.tree, self.expired, self.clocks = Frontier(), Expired(), Clocks()
        self.last = ""  # when the last row that has its contents was stored
        self.roots = {0: self.tree.root()} if 0 in self.sizes else {}

    def run(self, rows: Iterable[Any]) -> IntegrityReport:
        for row in rows:
            reason = self._row(row)
            if reason:
                return self._report(min(row.seq, self.tree.size - 1) if row.seq < self.tree.size else self.tree.size, reason)
            for level, index, node in self.tree.append(row.leaf_hash):
                if level % TILE == 0 and self.stored.pop((level, index), None) != node:
                    return self._report(None, f"the stored root over {1 << level} events from {index << level} on is wrong")
            if self.tree.size in self.sizes:
                self.roots[self.tree.size] = self.tree.root()
        return self._end()

    def _end(self) -> IntegrityReport:
        if self.tree.size < self.size:
            return self._report(self.tree.size, f"the log ends here, the head counts {self.size} events: "
                                                f"{self.size - self.tree.size} are missing")
        unexplained = self.expired.unexplained(self.signed)
        if unexplained is not None:
            return self._report(unexplained, "its contents are gone and no audit.expired event that counts says so")
        for reason in self._whole():
            return self._report(None, reason)
        return self._report(None, "")

    def _whole(self) -> Iterator[str]:
        if self.tree.root() != self.root:
            yield f"the tree of the {self.size} events has root {self.tree.root().hex()}, the head says {self.root.hex()}"
        if self.tree.to_bytes() != self.frontier:
            yield "the head's frontier does not belong to its root"
        if self.stored:
            level, index = min(self.stored)
            yield f"a root is stored over {1 << level} events from {index << level} on, which are not there"

    def _row(self, row: Any) -> str:
        reason = _place_differs(row.seq, self.tree.size, self.size)
        if reason:
            return reason
        if row.entry is None:
            self.expired.gone(row.seq, self.last)
            return ""
        if leaf_hash(row.entry) != row.leaf_hash:
            return "its bytes do not have the hash that was recorded"
        try:
            record = loads(row.entry)
            event = record["event"]
            said = columns_in(event) | {"seq": record["seq"], "stored_at": record["stored_at"]}
            self.expired.read(row.seq, event)
            self.clocks.read(row.seq, event["occurred_at"], record["stored_at"])
            self.last = record["stored_at"]
        except (AuditError, KeyError, TypeError, ValueError) as error:
            return f"its bytes are not an entry: {error!r}"
        different = sorted(name for name, value in said.items() if getattr(row, name) != value)
        return f"its bytes and its columns differ in: {', '.join(different)}" if different else ""

    def _report(self, first_bad: int | None, reason: str) -> IntegrityReport:
        return IntegrityReport(not reason, self.size, self.root, first_bad, reason, self.roots, self.clocks.notices())


def _place_differs(seq: int, expected: int, size: int) -> str:
    if seq > expected:
        return f"it is missing; the next event is {seq}"
    if seq < expected:
        return f"there is an event {seq} outside the order"
    return f"it is not counted by the head, which counts {size} events" if seq >= size else ""
