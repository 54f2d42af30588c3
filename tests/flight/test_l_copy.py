"""What an outsider gets after the demo: a copy of the log that verifies, and does not once a byte of it was changed."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.flight.place import Place, wait_until

from airgate.audit import checkpoints
from airgate.platform.story import MODEL, UPKEEP, Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]


def verify(place: Place, folder: Path, *words: str) -> tuple[int, str]:
    """Run the one file that an outsider has, in an empty environment."""
    done = subprocess.run(
        [sys.executable, "-I", place.root / "include" / "airgate" / "audit" / "verifier.py", folder, *words],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_promotion_is_signed_at_once(place: Place, story: Story) -> None:
    """Each decided promotion sets off an upkeep run, which signs what is there."""
    moves = [stored.seq for stored in place.audit.events(kind="stage.moved", model=MODEL)]
    wait_until(lambda: (note := checkpoints.newest(place.audit)) and note.size > max(moves), "the promotion is signed")
    runs = place.admin.get(f"dags/{UPKEEP}/dagRuns")["dag_runs"]
    assert "asset_triggered" in {run["run_type"] for run in runs}


def test_an_outsider_verifies_a_copy(place: Place, story: Story, tmp_path: Path) -> None:
    assert place.airgate("audit", "checkpoint")[0] == 0
    code, said = place.airgate("audit", "keys")
    assert code == 0
    key = said.splitlines()[0]
    anchor = place.home / "audit-checkpoints"
    code, said = place.airgate("audit", "export", str(tmp_path / "copy"), "--readable", "--complete")
    assert code == 0, said
    code, said = verify(place, tmp_path / "copy", "--key", key, "--anchor", str(anchor))
    assert code == 0, said
    assert said.startswith("ok: ")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "copy" / "log").glob("*.jsonl"))
    assert b'"omar"' not in raw
    assert b'"omar"' in (tmp_path / "copy" / "readable.jsonl").read_bytes()
    [log] = (tmp_path / "copy" / "log").glob("*.jsonl")
    log.write_bytes(raw.replace(b'"risk_officer"', b'"risk_0fficer"', 1))
    code, said = verify(place, tmp_path / "copy", "--key", key, "--anchor", str(anchor))
    assert code == 1
    assert said.startswith("tampered: at number ")


def test_the_owner_asks_the_anchors_too(place: Place, story: Story) -> None:
    code, said = place.airgate("audit", "verify", "--anchors")
    assert code == 0, said
    assert "checkpoints: ok" in said
    assert "audit-checkpoints agrees" in said
