"""`airgate audit export` and `proof`, and what `airgate-verify` says of the result."""

import json
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit.accounts import Airflow, attempt, ended
from tests.audit.conftest import make_event
from tests.audit.under_attack import InDatabase

from airgate import cli
from airgate.audit import checkpoints, proofs, signing, verifier
from airgate.audit.airflow_account import RestAccount
from airgate.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from airgate.audit.store import AuditStore
from airgate.errors import AuditError

NAME = "audit.example.org/airgate"
KEY = signing.signer_of(Ed25519PrivateKey.generate(), NAME)


@pytest.fixture
def log(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/audit.db"
    monkeypatch.setenv("AIRGATE_AUDIT_URL", url)
    monkeypatch.setenv("AIRGATE_AUDIT_ORIGIN", NAME)
    store = AuditStore(url)
    store.create()
    store.append_many([make_event(number, model="m" if number else None) for number in range(4)])
    return store


def run(capsys, *words):
    code = cli.main(["audit", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out.splitlines(), out.err


def test_export(log, tmp_path, capsys):
    assert run(capsys, "export", tmp_path / "bare") == (
        0, [f"{tmp_path}/bare: 4 events, 0 checkpoints", "nothing of it is signed: `airgate audit checkpoint` signs the log"], "")
    checkpoints.checkpoint(log, KEY)
    assert run(capsys, "export", tmp_path / "export", "--readable") == (
        0, [f"{tmp_path}/export: 5 events, 1 checkpoints"], "")
    assert (tmp_path / "export" / "readable.jsonl").exists()
    assert verifier.main([str(tmp_path / "export"), "--key", KEY.public.text()]) == 0
    code, _, err = run(capsys, "export", tmp_path / "export")
    assert (code, "is there already" in err) == (2, True)


def test_some_events(log, tmp_path, capsys):
    checkpoints.checkpoint(log, KEY)
    log.append(make_event(9, model="m"))
    assert run(capsys, "export", tmp_path / "model", "--model", "m", "--run", "r1") == (
        0, [f"{tmp_path}/model: 2 events, proven under the checkpoint over 5"], "")
    assert run(capsys, "export", tmp_path / "all", "--model", "m")[1][1] == (
        "1 came after it and were left out: `airgate audit checkpoint` signs them")
    assert verifier.main([str(tmp_path / "all"), "--key", KEY.public.text()]) == 0
    code, _, err = run(capsys, "export", tmp_path / "x", "--model", "m", "--complete")
    assert (code, err) == (2, "airgate: --model and --run select events with their proofs; --readable and --complete belong to a "
                              "whole export\n")


def test_a_complete_export_asks_for_runs_and_tries(log, tmp_path, capsys, monkeypatch):
    """A run that ended without a task, and of which the log knows nothing, is named."""
    monkeypatch.setattr(RestAccount, "from_environment", lambda: Airflow(attempt("t0", run_id="r0"), ended("empty")))
    checkpoints.checkpoint(log, KEY)
    folder = tmp_path / "export"
    assert run(capsys, "export", folder, "--complete") == (
        0, [f"{folder}: 5 events, 1 checkpoints, 1 runs and 1 task tries told by Airflow"], "")
    assert verifier.verify(folder, [KEY.public]).missing == ["d empty: Airflow says the run ended as success, no run.ended"]


def test_complete_needs_an_airflow_user(log, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AIRGATE_API_USER", raising=False)
    code, _, err = run(capsys, "export", tmp_path / "x", "--complete")
    assert code == 2
    assert "set AIRGATE_API_USER and AIRGATE_API_PASSWORD" in err


@pytest.mark.parametrize("size", [None, 3])
def test_proof(log, capsys, size):
    words = ["--size", size] if size else []
    code, (line,), _ = run(capsys, "proof", 2, *words)
    said = json.loads(line)
    assert code == 0
    assert (said["index"], said["size"], said["root"]) == (2, size or 4, log.root_at(size or 4).hex())
    assert leaf_hash(said["entry"].encode()).hex() == said["leaf_hash"]
    hashes = [bytes.fromhex(node) for node in said["proof"]]
    assert verify_inclusion(bytes.fromhex(said["leaf_hash"]), 2, said["size"], hashes, bytes.fromhex(said["root"]))


@pytest.mark.parametrize(("words", "message"), [
    ([4], "airgate: there is no event 4 among the first 4; allowed: 0 to 3"),
    ([2, "--size", 2], "airgate: there is no event 2 among the first 2; allowed: 0 to 1"),
    ([2, "--size", 5], "airgate: the log has 4 events, so there is no tree of 5; allowed: 0 to 4"),
])
def test_no_proof(log, capsys, words, message):
    assert run(capsys, "proof", *words) == (2, [], message + "\n")


def test_a_proof_between_two_sizes(log):
    said = proofs.consistency(log, 3)
    assert (said["old"], said["new"]) == (3, 4)
    hashes = [bytes.fromhex(node) for node in said["proof"]]
    assert verify_consistency(3, 4, bytes.fromhex(said["old_root"]), bytes.fromhex(said["new_root"]), hashes)
    with pytest.raises(AuditError, match="no consistency proof from 0 to 4 leaves"):
        proofs.consistency(log, 0)


def test_a_proof_of_an_expired_event_has_no_contents(log):
    stored = log.events()[1]
    assert proofs.seq_of(log, stored.event.event_id) == 1
    before = proofs.inclusion(log, 1)
    assert before["entry"] == stored.entry.decode()
    with closing(InDatabase(f"sqlite:///{log.where}")) as place:
        place.put(1, None)
    assert proofs.inclusion(log, 1) == before | {"entry": None}
