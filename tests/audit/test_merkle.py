"""Against the definitions of RFC 9162, section 2.1, written down as they stand there, and against known vectors."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.audit import merkle
from airgate.errors import AuditError

VECTORS = json.loads((Path(__file__).parent.parent / "golden" / "certificate_transparency_merkle.json").read_text())
LEAVES = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]


def split(n):
    return next(k for k in (2**e for e in range(64)) if k < n <= 2 * k)


def mth(leaves):
    if not leaves:
        return merkle.EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return merkle.node_hash(mth(leaves[:k]), mth(leaves[k:]))


def path(m, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def numbered(count):
    return [merkle.leaf_hash(bytes([number])) for number in range(count)]


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size):
    assert merkle.root_of(LEAVES[:size]).hex() == VECTORS["roots"][size]


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: f"{case['index']} of {case['size']}")
def test_known_inclusion_proofs(case):
    assert [node.hex() for node in merkle.inclusion_proof(LEAVES[: case["size"]], case["index"])] == case["proof"]


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: f"{case['old']} to {case['new']}")
def test_known_consistency_proofs(case):
    assert [node.hex() for node in merkle.consistency_proof(LEAVES[: case["new"]], case["old"])] == case["proof"]


@pytest.mark.parametrize("size", range(40))
def test_frontier_roots_and_bytes(size):
    tree = merkle.Frontier()
    for leaf in numbered(size):
        tree = merkle.Frontier.from_bytes(tree.size, tree.to_bytes())
        tree.append(leaf)
    assert (tree.size, tree.root()) == (size, mth(numbered(size)))
    assert len(tree.peaks) == size.bit_count()


def test_proofs_are_those_of_the_definition_and_verify():
    for size in range(1, 20):
        leaves = numbered(size)
        for index in range(size):
            proof = merkle.inclusion_proof(leaves, index)
            assert proof == path(index, leaves)
            assert merkle.verify_inclusion(leaves[index], index, size, proof, mth(leaves))
            old = index + 1
            proof = merkle.consistency_proof(leaves, old)
            assert proof == subproof(old, leaves, True)
            assert merkle.verify_consistency(old, size, mth(leaves[:old]), mth(leaves), proof)


@given(st.data(), st.integers(1, 130))
def test_a_changed_inclusion_proof_fails(data, size):
    leaves = numbered(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(leaves, index), mth(leaves)
    assert merkle.verify_inclusion(leaves[index], index, size, proof, root)
    other = data.draw(st.integers(-2, size + 2).filter(lambda value: value != index))
    assert not merkle.verify_inclusion(leaves[index], other, size, proof, root)
    assert not merkle.verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not merkle.verify_inclusion(merkle.EMPTY_ROOT, index, size, proof, root)
    if proof:
        assert not merkle.verify_inclusion(leaves[index], index, size, proof[:-1], root)
        spoilt = data.draw(st.integers(0, len(proof) - 1))
        wrong = [*proof[:spoilt], root, *proof[spoilt + 1 :]]
        assert not merkle.verify_inclusion(leaves[index], index, size, wrong, root)


@given(st.data(), st.integers(2, 130))
def test_a_changed_consistency_proof_fails(data, new):
    leaves = numbered(new)
    old = data.draw(st.integers(1, new - 1))
    proof, before, after = merkle.consistency_proof(leaves, old), mth(leaves[:old]), mth(leaves)
    assert merkle.verify_consistency(old, new, before, after, proof)
    assert not merkle.verify_consistency(old, new, after, after, proof)
    assert not merkle.verify_consistency(old, new, before, before, proof)
    assert not merkle.verify_consistency(old, new, before, after, proof[:-1])
    assert not merkle.verify_consistency(old, new, before, after, [*proof, after])
    spoilt = data.draw(st.integers(0, len(proof) - 1))
    assert not merkle.verify_consistency(old, new, before, after, [*proof[:spoilt], after, *proof[spoilt + 1 :]])


def test_equal_trees_need_no_proof():
    root = mth(LEAVES)
    assert merkle.verify_consistency(8, 8, root, root, [])
    assert not merkle.verify_consistency(8, 8, root, root, [root])
    assert not merkle.verify_consistency(0, 8, merkle.EMPTY_ROOT, root, [])


def test_proofs_outside_the_tree_are_refused():
    with pytest.raises(AuditError, match="leaf 8 is not in a tree of 8 leaves; allowed: 0 to 7"):
        merkle.inclusion_proof(LEAVES, 8)
    with pytest.raises(AuditError, match="no consistency proof from 9 to 8 leaves; allowed: 1 <= old <= new"):
        merkle.consistency_proof(LEAVES, 9)
    with pytest.raises(AuditError, match="a frontier of 31 bytes cannot belong to a tree of 1 leaves"):
        merkle.Frontier.from_bytes(1, b"x" * 31)
