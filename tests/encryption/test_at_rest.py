"""A store that keeps no plain byte, and says clearly why something does not open."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.encryption.conftest import NEW, OLD, ring

from airgate.contracts import small_files
from airgate.contracts.step import ArtifactRef
from airgate.encryption.at_rest import read_bytes
from airgate.encryption.envelope import EnvelopeError, sealed_size
from airgate.encryption.keys import WrongKeyError
from airgate.errors import ConfigError, DigestError, MissingArtifactError
from airgate.steps.store import ArtifactStore, manifest, manifest_digest

PLAIN = b"name,diagnosis\nana,positive\n" * 3


def file(tmp_path: Path, data: bytes = PLAIN) -> Path:
    path = tmp_path / "patients.csv"
    path.write_bytes(data)
    return path


def everything(root: str) -> dict[str, bytes]:
    """Every byte that lies in a store."""
    return {url: small_files.read_bytes(url) for url in small_files.files_below(root)}


def change(uri: str, data: bytes) -> None:
    path = small_files.local_path(uri)
    if path is not None and path.exists():
        path.chmod(0o644)
    filesystem, key = fsspec.url_to_fs(uri)
    filesystem.pipe_file(key, data)


def wrapped_key(root: str) -> str:
    (url,) = small_files.files_below(f"{root}/keys")
    return url


def test_no_plain_byte_is_in_the_store_and_the_ref_is_that_of_a_plain_one(store, root, tmp_path):
    ref = store.put_file(file(tmp_path))
    assert ref == ArtifactStore(f"{root}-plain").put_file(file(tmp_path)).model_copy(update={"uri": ref.uri})
    found = everything(root)
    assert len(found) == 2 and f"{ref.uri}.enc" in found
    assert not any(b"diagnosis" in data or b"ana" in data for data in found.values())
    assert len(found[f"{ref.uri}.enc"]) == sealed_size(len(PLAIN))


def test_what_was_put_comes_back_and_is_the_readers_alone(store, tmp_path):
    ref = store.put_file(file(tmp_path))
    path = store.fetch(ref, tmp_path / "work" / "x")
    assert path == tmp_path / "work" / "x" and path.read_bytes() == PLAIN
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["x"]
    copy = store.fetch_copy(ref, tmp_path / "mine")
    copy.write_text("changed")
    assert store.fetch(ref, tmp_path / "y").read_bytes() == PLAIN


def test_a_model_keeps_its_digest(store, root, tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "header.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(PLAIN)
    ref = store.put_directory(folder)
    assert (ref.kind, ref.digest) == ("model", manifest_digest(manifest(folder)))
    assert manifest(store.fetch(ref, tmp_path / "back")) == manifest(folder)
    assert not any(b"header.json" in data for data in everything(root).values())


def test_json_for_the_light_tasks(store, old, tmp_path):
    ref = store.put_json({"auc": 0.9})
    assert read_bytes(ref.uri, old) == b'{"auc":0.9}'
    plain = ArtifactStore(f"{store.root}-plain").put_json({"auc": 0.9})
    assert read_bytes(plain.uri, old) == read_bytes(plain.uri) == b'{"auc":0.9}'
    with pytest.raises(MissingArtifactError, match="nothing is there"):
        read_bytes(f"{store.root}/sha256/00/{'0' * 64}", old)
    with pytest.raises(WrongKeyError, match=f"{ref.uri} is stored encrypted, and this process has no keys. Set AIRGATE"):
        read_bytes(ref.uri)
    change(f"{ref.uri}.enc", b"nonsense")
    with pytest.raises(EnvelopeError, match=rf"{ref.uri}\.enc: not an envelope of Airgate's"):
        read_bytes(ref.uri, old)


def test_what_was_written_plain_before_is_read_and_not_written_again(root, tmp_path, old):
    before = ArtifactStore(root).put_file(file(tmp_path))
    store = ArtifactStore(root, old)
    assert store.put_file(file(tmp_path)) == before
    assert [name for name in everything(root) if name.endswith(".enc")] == []
    assert store.fetch(before, tmp_path / "x").read_bytes() == PLAIN
    assert store.fetch(store.put_json(1), tmp_path / "y").read_bytes() == b"1"


def test_a_process_without_keys_reads_plain_files_only_and_writes_none(store, root, tmp_path):
    ref = store.put_json(2)
    keyless = ArtifactStore(root)
    for put in (lambda: keyless.put_json(1), lambda: keyless.put_file(file(tmp_path)), lambda: keyless.put_json(2)):
        with pytest.raises(ConfigError, match="this store is encrypted, and this process has no keys to write to it"):
            put()
    with pytest.raises(WrongKeyError, match=f"{ref.uri} is stored encrypted, and this process has no keys"):
        keyless.fetch(ref, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_missing_and_wrong_keys(store, root, tmp_path):
    ref = store.put_file(file(tmp_path))
    with pytest.raises(WrongKeyError, match=f"{ref.uri} cannot be decrypted: it needs the key '2026-01', which AIRGATE"):
        ArtifactStore(root, ring(NEW)).fetch(ref, tmp_path / "x")
    other = ring(NEW.replace("2026-02", "2026-01"))
    with pytest.raises(WrongKeyError, match="the key '2026-01' of AIRGATE_STORE_KEYS does not open it: here it is another"):
        ArtifactStore(root, other).fetch(ref, tmp_path / "x")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "store") == ["patients.csv"]


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    lambda data: b"", lambda data: PLAIN,
])
def test_changed_bytes_are_named_and_never_repaired(store, tmp_path, damage):
    ref = store.put_file(file(tmp_path))
    change(f"{ref.uri}.enc", damage(small_files.read_bytes(f"{ref.uri}.enc")))
    with pytest.raises(DigestError, match=rf"{ref.uri}\.enc: .*Do not use it. Find out what changed it, remove the file"):
        store.fetch(ref, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    if store.root.startswith("file"):
        with pytest.raises(DigestError, match="Do not use it"):
            store.put_file(file(tmp_path))


def test_one_artifact_cannot_stand_for_another(store, tmp_path):
    one, two = store.put_json(1), store.put_json(2)
    change(f"{one.uri}.enc", small_files.read_bytes(f"{two.uri}.enc"))
    with pytest.raises(DigestError, match="segment 0 does not open: .* or it is another artifact's"):
        store.fetch(one, tmp_path / "x")


def test_a_wrapped_key_that_is_gone_or_damaged(store, root, tmp_path):
    ref = store.put_file(file(tmp_path))
    change(wrapped_key(root), b"{}")
    with pytest.raises(DigestError, match="holds no wrapped data key: it was changed, or a newer release wrote it. Restore"):
        store.fetch(ref, tmp_path / "x")
    filesystem, key = fsspec.url_to_fs(wrapped_key(root))
    filesystem.rm_file(key)
    with pytest.raises(MissingArtifactError, match=f"wrapped data key .* is gone. Restore .* or remove {ref.uri}.enc and run"):
        store.fetch(ref, tmp_path / "x")


def test_a_given_away_file_does_not_stay_plain(store, tmp_path):
    path = file(tmp_path)
    store.put_file(path, consume=True)
    assert not path.exists()


def test_a_file_that_changes_while_it_is_stored(root, old, tmp_path):
    path = file(tmp_path)
    store = ArtifactStore(root, old)
    with pytest.raises(DigestError, match=f"{path}: expected sha256:0000"):
        store._keep(path, "sha256:" + "0" * 64, len(PLAIN), False)
    assert [url for url in small_files.files_below(root) if "/keys/" not in url] == []


def test_many_puts_of_one_content_at_once(store, tmp_path):
    path = file(tmp_path, os.urandom(1 << 21))
    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(lambda _: store.put_file(path).model_dump_json(), range(8)))
    assert len(refs) == 1
    back = store.fetch(ArtifactRef.model_validate_json(refs.pop()), tmp_path / "x")
    assert back.read_bytes() == path.read_bytes()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_content_comes_back(store, tmp_path, data, times):
    path = file(tmp_path, data * (1 << (5 * times)))
    ref = store.put_file(path)
    assert store.fetch(ref, tmp_path / "back").read_bytes() == path.read_bytes()


def test_a_full_disk_is_said_to_be_full_and_leaves_no_plain_byte(tmp_path):
    """A file size limit is a full disk that any user can make: the write fails in the kernel."""
    (tmp_path / "keys").write_text(f"{OLD}\n")
    (tmp_path / "big").write_bytes(PLAIN * 4000)
    program = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from airgate.errors import ArtifactError
        from airgate.steps.store import ArtifactStore
        store = ArtifactStore(sys.argv[1] + "/store")
        small, big = Path(sys.argv[1], "small"), Path(sys.argv[1], "big")
        ref = store.put_file(big)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for action in (lambda: store.put_json("x" * 300_000), lambda: store.fetch(ref, Path(sys.argv[1], "work", "x"))):
            try:
                action()
            except ArtifactError as error:
                print(error)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "include"),
                   "AIRGATE_STORE_KEYS": f"file:{tmp_path}/keys"}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environment,
                          check=True)
    first, second = done.stdout.splitlines()
    assert "/store/sha256/" in first and "300002 bytes are needed. Make room" in first
    assert "/work/" in second and "Make room there" in second
    assert list((tmp_path / "work").iterdir()) == [] and list((tmp_path / "store" / "partial").iterdir()) == []
