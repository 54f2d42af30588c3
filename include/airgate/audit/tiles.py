"""Proofs from the stored tree: subtrees of 256, 65,536, ... leaves are rows, so a proof takes a few reads, not a walk.

A tile is 256 neighbouring hashes of one stored level, as in C2SP tlog-tiles; what lies between is hashed when asked for.
"""

from functools import reduce
from typing import Any

from sqlalchemy import Connection, select

from airgate.audit import merkle
from airgate.audit.merkle import node_hash
from airgate.audit.schema import EVENTS, TREE
from airgate.audit.writing import TILE
from airgate.errors import AuditError

_WIDTH = 1 << TILE


class StoredTree:
    """The tree behind one connection; it reads each tile once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Prove that leaf `index` is in the tree of the first `size` leaves (RFC 9162, 2.1.3.1). Raises AuditError."""
        return merkle.hashes(merkle.inclusion_ranges(index, size), self.root)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the tree of `old` leaves is a prefix of that of `new` (RFC 9162, 2.1.4.1). Raises AuditError."""
        return merkle.hashes(merkle.consistency_ranges(old, new), self.root)

    def root(self, start: int, end: int) -> bytes:
        """Give the root over the leaves [start, end), which RFC 9162's splits made: start is a multiple of the width.

        Raises AuditError when hashes are missing.
        """
        if start == end:
            return merkle.EMPTY_ROOT
        peaks = []
        while start < end:  # the full subtrees, largest first
            level = (end - start).bit_length() - 1
            peaks.append(self._full(level, start >> level))
            start += 1 << level
        return reduce(lambda right, left: node_hash(left, right), reversed(peaks))

    def _full(self, level: int, index: int) -> bytes:
        """The root of a full subtree of 2^level leaves."""
        base = level // TILE * TILE
        width = 1 << level - base
        first = index * width
        row = self._tile(base, first // _WIDTH)[first % _WIDTH : first % _WIDTH + width]
        if len(row) != width:
            raise AuditError(f"hashes of level {base} are missing from {first} on. Run `airgate audit verify`")
        while len(row) > 1:
            row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
        return row[0]

    def _tile(self, level: int, number: int) -> list[bytes]:
        if (level, number) not in self._tiles:
            first = number * _WIDTH
            query: Any = select(EVENTS.c.leaf_hash).where(EVENTS.c.seq >= first, EVENTS.c.seq < first + _WIDTH)
            query = query.order_by(EVENTS.c.seq)
            if level:
                query = select(TREE.c.hash).where(TREE.c.level == level, TREE.c.index >= first, TREE.c.index < first + _WIDTH)
                query = query.order_by(TREE.c.index)
            self._tiles[level, number] = [bytes(node) for node in self._connection.execute(query).scalars()]
        return self._tiles[level, number]
