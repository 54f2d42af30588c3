"""Proofs from the stored tree: subtrees of 256, 65,536, ... leaves are rows, so a proof takes a few reads, not a walk.

A tile is 256 neighbouring hashes of one stored level, as in C2SP tlog-tiles; what lies between is hashed when asked for.
"""

from functools import reduce
from hashlib import sha256

from sqlalchemy import Connection, text

from airgate.audit import merkle
from airgate.audit.merkle import NODE, node_hash
from airgate.audit.writing import TILE
from airgate.errors import AuditError

_WIDTH = 1 << TILE
_SIZE = 32  # bytes of a hash
_LEAVES = "SELECT leaf_hash AS hash, seq AS place FROM airgate_events WHERE seq >= :first AND seq < :end ORDER BY seq"
_NODES = ('SELECT hash, "index" AS place FROM airgate_tree WHERE level = :level AND "index" >= :first AND "index" < :end '
          'ORDER BY "index"')
# One value instead of 256 rows, which is most of a proof's time. SQLite joins no blobs, and its rows are cheap.
_JOINED = "SELECT string_agg(t.hash, ''::bytea ORDER BY t.place) FROM (%s) t"
_QUERIES = {("sqlite", False): text(_LEAVES), ("sqlite", True): text(_NODES),
            ("postgresql", False): text(_JOINED % _LEAVES), ("postgresql", True): text(_JOINED % _NODES)}


class StoredTree:
    """The tree behind one connection; it reads each tile once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tiles: dict[tuple[int, int], bytes] = {}  # hashes, one after the other

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
        start = _SIZE * (first % _WIDTH)
        row = self._tile(base, first // _WIDTH)[start : start + _SIZE * width]
        if len(row) != _SIZE * width:
            raise AuditError(f"hashes of level {base} are missing from {first} on. Run `airgate audit verify`")
        while len(row) > _SIZE:  # two neighbours are the contents of the node above them
            row = b"".join([sha256(NODE + row[at : at + 2 * _SIZE]).digest() for at in range(0, len(row), 2 * _SIZE)])
        return row

    def _tile(self, level: int, number: int) -> bytes:
        if (level, number) not in self._tiles:
            wanted = {"first": number * _WIDTH, "end": (number + 1) * _WIDTH} | ({"level": level} if level else {})
            found = self._connection.execute(_QUERIES[self._connection.dialect.name, level > 0], wanted)
            self._tiles[level, number] = b"".join([bytes(row[0]) for row in found if row[0] is not None])
        return self._tiles[level, number]
