"""Rotation wraps data keys anew and rewrites no data; the command line says which keys are needed."""

import json
from pathlib import Path

import pytest
from tests.encryption.conftest import NEW, OLD, ring

from airgate import cli
from airgate.contracts import small_files
from airgate.encryption import rotation
from airgate.encryption.keys import KeySources, WrongKeyError
from airgate.errors import AirgateError
from airgate.steps.store import ArtifactStore


def data_of(root: str) -> dict[str, bytes]:
    return {url: small_files.read_bytes(url) for url in small_files.files_below(f"{root}/sha256")}


def test_after_a_rotation_the_old_key_may_go_and_no_data_was_rewritten(store, root, tmp_path):
    refs = [store.put_json(number) for number in range(3)]
    before = data_of(root)
    done = rotation.rotate(root, ring(NEW, OLD))
    assert (done.rewrapped, done.current, done.failed) == (3, 0, [])
    assert data_of(root) == before
    assert rotation.status(root).wrapped_by == {"2026-02": 3}
    alone = ArtifactStore(root, ring(NEW))
    assert [alone.fetch(ref, tmp_path / ref.digest[7:]).read_bytes() for ref in refs] == [b"0", b"1", b"2"]
    with pytest.raises(WrongKeyError, match="needs the key '2026-02'"):
        store.fetch(refs[0], tmp_path / "x")


def test_a_rotation_may_be_repeated_and_leaves_what_it_cannot_open(store, root):
    store.put_json(1)
    ArtifactStore(root, ring(NEW)).put_json(2)
    done = rotation.rotate(root, ring(NEW))
    assert (done.rewrapped, done.current, len(done.failed)) == (0, 1, 1)
    assert "needs the key '2026-01', which AIRGATE_STORE_KEYS does not hold" in done.failed[0] and "/keys/" in done.failed[0]
    done = rotation.rotate(root, ring(NEW, OLD))
    assert (done.rewrapped, done.current, done.failed) == (1, 1, [])


def test_a_half_written_key_file_is_no_wrapped_key(store, root, tmp_path):
    store.put_json(1)
    if root.startswith("file"):
        (url,) = small_files.files_below(f"{root}/keys")
        path = Path(url.removeprefix("file://"))
        path.with_name(f".{path.name}.abc").write_bytes(b"{")
    assert rotation.status(root).wrapped_by == {"2026-01": 1}


class Forgetful:
    """A KMS that gives back something else than it was given."""

    current = "forgetful"

    def holds(self, name: str) -> bool:
        return name == self.current

    def wrap(self, data_key: bytes, data_key_id: str) -> bytes:
        return b"x"

    def unwrap(self, name: str, wrapped: bytes, data_key_id: str) -> bytes:
        return bytes(32)


def test_a_service_that_loses_keys_is_found_before_the_old_wrapping_goes(store, root, old, tmp_path):
    ref = store.put_json(1)
    (url,) = small_files.files_below(f"{root}/keys")
    with pytest.raises(AirgateError, match="gives back another data key than it was given; nothing was changed"):
        rotation.rewrap(url, KeySources([Forgetful(), old]))
    assert store.fetch(ref, tmp_path / "x").read_bytes() == b"1"


@pytest.fixture
def place(tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with a key file and an empty store."""
    monkeypatch.setenv("AIRGATE_ARTIFACT_STORE", f"file://{tmp_path}/store")
    monkeypatch.setenv("AIRGATE_STORE_KEYS", f"file:{tmp_path}/keys")
    monkeypatch.setenv("AIRGATE_MLFLOW_URI", mlflow_uri)
    return tmp_path


def test_the_life_of_a_key(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = place / "keys"
    assert cli.main(["store", "keygen", str(file), "2026-01"]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"Set AIRGATE_STORE_KEYS=file:{file}" in capsys.readouterr().out
    assert cli.main(["store", "status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "0 files are stored encrypted, 0 plain; 0 versions are encrypted in MLflow", "key 2026-01: current, wraps nothing yet"]
    ArtifactStore(f"file://{place}/store").put_json({"a": 1})
    assert cli.main(["store", "keygen", str(file), "2026-02"]) == 0
    assert "below 2026-01, which stays the current one" in capsys.readouterr().out
    first, second = file.read_text().splitlines()
    file.write_text(f"{second}\n{first}\n")
    assert cli.main(["store", "status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 files are stored encrypted, 0 plain; 0 versions are encrypted in MLflow",
        "key 2026-01: wraps 1 data keys; here; `airgate store rotate` frees it",
        "key 2026-02: current, wraps nothing yet"]
    assert cli.main(["store", "rotate"]) == 0
    assert capsys.readouterr().out == "1 data keys wrapped with 2026-02, 0 were so already, 0 cannot be read\n"
    file.write_text(f"{first}\n")
    assert cli.main(["store", "status"]) == 1
    assert "key 2026-02: wraps 1 data keys; NOT in AIRGATE_STORE_KEYS: these cannot be read" in capsys.readouterr().out
    assert cli.main(["store", "rotate"]) == 1
    captured = capsys.readouterr()
    assert "0 data keys wrapped with 2026-01, 0 were so already, 1 cannot be read" in captured.out
    assert "needs the key '2026-02'" in captured.err
    monkeypatch.delenv("AIRGATE_STORE_KEYS")
    assert cli.main(["store", "status"]) == 1
    assert "wraps 1 data keys; no keys are configured" in capsys.readouterr().out
    assert cli.main(["store", "rotate"]) == 2
    assert "no keys are configured, so there is nothing to rotate to" in capsys.readouterr().err


def test_no_key_is_printed_or_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "keys"
    file.write_text(OLD)  # no line end
    assert cli.main(["store", "keygen", str(file), "2026-01"]) == 2
    assert "has a key named '2026-01' already; a key is never replaced" in capsys.readouterr().err
    assert cli.main(["store", "keygen", str(file), "2026-02"]) == 0
    lines = file.read_text().splitlines()
    captured = capsys.readouterr()
    assert lines[0] == OLD and lines[1].startswith("2026-02 ")
    assert not any(line.split()[1] in captured.out + captured.err for line in lines)
    assert cli.main(["store", "keygen", str(place / "nowhere" / "keys"), "a"]) == 2
    assert "cannot be written: No such file" in capsys.readouterr().err


def test_a_damaged_wrapped_key_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "keys").write_text(OLD)
    ArtifactStore(f"file://{place}/store").put_json(1)
    (url,) = small_files.files_below(f"file://{place}/store/keys")
    found = json.loads(small_files.read_bytes(url))
    assert set(found) == {"schema_version", "key", "wrapped"} and found["key"] == "2026-01"
    small_files.write_bytes(url, b"[]")
    assert cli.main(["store", "status"]) == 2
    assert "holds no wrapped data key" in capsys.readouterr().err
