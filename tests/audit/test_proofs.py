"""Proofs that are handed out, by command and over HTTP, come from the stored tree: a few reads, however long the log."""

import pytest
from sqlalchemy import event
from tests.audit.conftest import make_event

from airgate.audit import merkle, proofs
from airgate.audit.store import AuditStore

TILE = 256


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Three full tiles and a part of one."""
    store = AuditStore(f"sqlite:///{tmp_path_factory.mktemp('proofs')}/audit.db")
    store.create()
    store.append_many([make_event(number) for number in range(3 * TILE + 70)])
    return store


@pytest.fixture(scope="module")
def leaves(log):
    return [stored.leaf_hash for stored in log.events()]


@pytest.fixture
def statements(log, leaves):
    found = []

    def note(connection, cursor, statement, *_):
        if "airgate_events" in statement or "airgate_tree" in statement:
            found.append(statement)

    event.listen(log.database.engine, "before_cursor_execute", note)
    yield found
    event.remove(log.database.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("seq", [0, 2 * TILE - 1, 3 * TILE + 69])
def test_an_inclusion_proof_reads_a_tile_of_each_level_and_the_last(log, leaves, statements, seq):
    proof = proofs.inclusion(log, seq)
    assert len(statements) <= 1 + 2 + 1  # the event; its tile and that of the leaves at the end; the subtrees' tile
    assert [bytes.fromhex(node) for node in proof["proof"]] == merkle.inclusion_proof(leaves, seq)
    assert proof["root"] == merkle.root_of(leaves).hex()


def test_a_consistency_proof_reads_a_tile_of_each_level_and_the_last(log, leaves, statements):
    proof = proofs.consistency(log, 2 * TILE + 3)
    assert len(statements) <= 2 + 1
    assert [bytes.fromhex(node) for node in proof["proof"]] == merkle.consistency_proof(leaves, 2 * TILE + 3)
    assert (proof["old_root"], proof["new_root"]) == (merkle.root_of(leaves[: 2 * TILE + 3]).hex(), merkle.root_of(leaves).hex())
