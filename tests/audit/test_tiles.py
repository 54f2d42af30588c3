"""Proofs from stored subtrees are those that the leaves themselves give."""

import pytest

from airgate.audit import merkle
from airgate.audit.schema import TREE
from airgate.audit.tiles import StoredTree
from airgate.errors import AuditError

# Over two tiles, ragged at both levels.
SIZE = 2 * 256 + 77


@pytest.fixture
def leaves(store, make):
    for start in range(0, SIZE, 100):
        store.append_many([make(number) for number in range(start, min(SIZE, start + 100))])
    return [stored.leaf_hash for stored in store.events()]


def test_every_append_stores_the_full_subtrees(store, leaves):
    rows = store.database.transact(lambda connection: connection.execute(TREE.select()).all(), write=False)
    assert [(level, index, bytes(node)) for level, index, node in sorted(rows)] == [
        (8, 0, merkle.root_of(leaves[:256])), (8, 1, merkle.root_of(leaves[256:512]))]


def test_proofs(store, leaves):
    for size in (1, 2, 255, 256, 257, 512, 513, SIZE):
        assert store.root_at(size) == merkle.root_of(leaves[:size])
        for index in {0, size // 3, size // 2, size - 1}:
            proof = store.inclusion_proof(index, size)
            assert proof == merkle.inclusion_proof(leaves[:size], index)
            assert merkle.verify_inclusion(leaves[index], index, size, proof, merkle.root_of(leaves[:size]))
        for old in {1, (size + 1) // 2, size}:
            assert store.consistency_proof(old, size) == merkle.consistency_proof(leaves[:size], old)
    assert store.root_at(0) == merkle.EMPTY_ROOT


def test_a_proof_reads_each_tile_once(store, leaves):
    def work(connection):
        tree = StoredTree(connection)
        tree.inclusion(300, SIZE)
        return sorted(tree._tiles)

    assert store.database.transact(work, write=False) == [(0, 1), (0, 2), (8, 0)]


def test_outside_the_log(store, leaves):
    with pytest.raises(AuditError, match=f"leaf {SIZE} is not in a tree of {SIZE} leaves"):
        store.inclusion_proof(SIZE, SIZE)
    with pytest.raises(AuditError, match=f"the log has {SIZE} events, so it has no root at {SIZE + 1}; allowed: 0 to {SIZE}"):
        store.root_at(SIZE + 1)
    with pytest.raises(AuditError, match="hashes of level 8 are missing from 2 on"):
        store.inclusion_proof(1, SIZE + 300)
