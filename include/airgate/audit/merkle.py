"""The Merkle tree of RFC 9162, section 2.1: hashes, an appendable frontier, and both kinds of proof. Pure functions.

Proofs are given as ranges of leaves first (`inclusion_ranges`, `consistency_ranges`); whoever can hash a range - from
leaves in memory here, from stored subtrees elsewhere - turns them into hashes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from airgate.errors import AuditError

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
Range = tuple[int, int]
NODE = b"\x01"  # what the hash of an inner node begins with (RFC 9162, 2.1.1)
# (level, index, hash): the root over the leaves [index * 2^level, (index + 1) * 2^level).
Node = tuple[int, int, bytes]


def leaf_hash(data: bytes) -> bytes:
    """Hash one leaf's bytes: SHA-256(0x00 || data) (RFC 9162, 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one: SHA-256(0x01 || left || right) (RFC 9162, 2.1.1)."""
    return sha256(NODE + left + right).digest()


@dataclass
class Frontier:
    """What an append needs of a tree of `size` leaves: the roots of its full subtrees, largest first, one a 1-bit.

    An append costs O(log n) hashes at worst and two on average; so does the root.
    """

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> list[Node]:
        """Add one leaf, given its leaf hash, and give the subtrees that it completes, smallest first."""
        rest, node, level = self.size, leaf, 0
        completed: list[Node] = []
        while rest & 1:
            node = node_hash(self.peaks.pop(), node)
            rest >>= 1
            level += 1
            completed.append((level, rest, node))
        self.peaks.append(node)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Give the tree's root; SHA-256 of nothing for the empty tree."""
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node

    def to_bytes(self) -> bytes:
        """Give the peaks one after another, 32 bytes each."""
        return b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> "Frontier":
        """Read what `to_bytes` wrote. Raises AuditError when it cannot belong to a tree of this size."""
        if size < 0 or len(data) != HASH_BYTES * size.bit_count():
            raise AuditError(f"a frontier of {len(data)} bytes cannot belong to a tree of {size} leaves")
        return cls(size, [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Give the root over leaf hashes, in O(log n) memory."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Name the leaf ranges [start, end) whose hashes prove leaf `index` to be in a tree of `size` (RFC 9162, 2.1.3.1).

    Raises AuditError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise AuditError(f"leaf {index} is not in a tree of {size} leaves; allowed: 0 to {size - 1}")
    ranges: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Name the ranges whose hashes prove the tree of `old` leaves to be a prefix of `new` leaves (RFC 9162, 2.1.4.1).

    Raises AuditError unless 0 < old <= new. Equal sizes need no proof: the list is empty.
    """
    if not 0 < old <= new:
        raise AuditError(f"no consistency proof from {old} to {new} leaves; allowed: 1 <= old <= new")
    ranges: list[Range] = []
    start, end, whole = 0, new, True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, whole = middle, False
    if not whole:
        ranges.append((start, end))
    return ranges[::-1]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Prove that leaf `index` is among these leaf hashes. Raises AuditError for an index outside them."""
    return hashes(inclusion_ranges(index, len(leaves)), lambda start, end: root_of(leaves[start:end]))


def consistency_proof(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """Prove that the first `old` of these leaf hashes are a prefix of all. Raises AuditError unless 0 < old <= len."""
    return hashes(consistency_ranges(old, len(leaves)), lambda start, end: root_of(leaves[start:end]))


def hashes(ranges: Iterable[Range], subtree: Callable[[int, int], bytes]) -> list[bytes]:
    """Turn ranges into a proof with a function that hashes the leaves [start, end)."""
    return [subtree(start, end) for start, end in ranges]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether the proof shows this leaf hash at `index` under `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, running = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            running = node_hash(sibling, running)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            running = node_hash(running, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and running == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether the proof shows that the tree of `old_root` is a prefix of that of `new_root` (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """Give the largest power of two smaller than count (count > 1)."""
    return 1 << (count - 1).bit_length() - 1
