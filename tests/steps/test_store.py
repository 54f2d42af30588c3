"""The content-addressed store: idempotent, atomic, and suspicious of what it reads."""

import hashlib
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airgate.contracts.step import ArtifactRef
from airgate.errors import ArtifactError, DigestError
from airgate.steps.store import ArtifactStore, manifest, manifest_digest

HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
JELLO = "sha256:" + hashlib.sha256(b"jello").hexdigest()


@pytest.fixture(params=["file", "memory", "s3"])
def store(request, tmp_path) -> ArtifactStore:
    if request.param == "s3":
        return ArtifactStore(f"{request.getfixturevalue('s3_bucket')}/store")
    return ArtifactStore(f"{request.param}://{tmp_path}/store")


@pytest.fixture
def local(tmp_path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def hello(tmp_path) -> Path:
    path = tmp_path / "hello"
    path.write_bytes(b"hello")
    return path


def stored(ref: ArtifactRef) -> Path:
    return Path(ref.uri.removeprefix("file://"))


def test_a_file_lies_under_its_digest_and_comes_back(store, tmp_path):
    ref = store.put_file(hello(tmp_path))
    assert (ref.digest, ref.kind, ref.size) == (HELLO, "file", 5)
    assert ref.uri == f"{store.root}/sha256/2c/{HELLO[7:]}"
    assert store.put_file(hello(tmp_path)) == ref
    assert store.fetch(ref, tmp_path / "in" / "x").read_bytes() == b"hello"


def test_json_is_stored_as_one_byte_sequence_for_one_value(store, tmp_path):
    first, second = store.put_json({"b": 1.0, "a": [None, "é"]}), store.put_json({"a": [None, "é"], "b": 1})
    assert first == second
    assert store.fetch(first, tmp_path / "j").read_bytes() == '{"a":[null,"é"],"b":1}'.encode()


def test_a_directory_is_a_model(store, tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "header.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(b"hello")
    ref = store.put_directory(folder)
    assert (ref.kind, ref.size) == ("model", 7)
    assert ref.digest == manifest_digest(manifest(folder))
    back = store.fetch(ref, tmp_path / "back")
    assert manifest(back) == manifest(folder) == {"header.json": manifest(folder)["header.json"], "sub/weights": HELLO}


def test_changed_bytes_are_named_with_uri_and_both_digests(store, tmp_path):
    ref = store.put_file(hello(tmp_path))
    if store.root.startswith("file"):
        stored(ref).chmod(0o644)
        stored(ref).write_bytes(b"jello")
    else:
        import fsspec

        filesystem, key = fsspec.url_to_fs(ref.uri)
        filesystem.pipe_file(key, b"jello")
    with pytest.raises(DigestError) as caught:
        store.fetch(ref, tmp_path / "x")
    for part in (ref.uri, f"expected {HELLO}", f"found {JELLO}", "do not use them"):
        assert part in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_changed_file_of_a_model_is_found(local, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"hello")
    ref = local.put_directory(folder)
    blob = stored(local.put_file(folder / "weights"))
    blob.chmod(0o644)
    blob.write_bytes(b"jello")
    with pytest.raises(DigestError, match=HELLO):
        local.fetch(ref, tmp_path / "back")


def test_a_put_never_repairs_in_silence(local, tmp_path):
    ref = local.put_file(hello(tmp_path))
    stored(ref).chmod(0o644)
    stored(ref).write_bytes(b"jello")
    with pytest.raises(DigestError, match="do not use"):
        local.put_file(hello(tmp_path))


def test_missing_and_foreign(store, tmp_path):
    ref = ArtifactRef(uri=f"{store.root}/sha256/2c/{HELLO[7:]}", digest=HELLO, kind="file", size=5)
    with pytest.raises(ArtifactError, match=r"not in the store\. Was it removed"):
        store.fetch(ref, tmp_path / "x")
    with pytest.raises(ArtifactError, match="not of this store"):
        store.fetch(ref.model_copy(update={"uri": "file:///etc/passwd"}), tmp_path / "x")


def test_links_and_odd_files_are_refused(local, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match="symbolic link"):
        local.put_directory(folder)
    with pytest.raises(ArtifactError, match="symbolic link"):
        local.put_file(folder / "link")
    (folder / "link").unlink()
    with pytest.raises(ArtifactError, match="empty directory"):
        local.put_directory(folder)
    os.mkfifo(folder / "pipe")
    with pytest.raises(ArtifactError, match="no plain file"):
        local.put_directory(folder)
    with pytest.raises(ArtifactError, match="not a directory"):
        manifest(folder / "pipe")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "", "a//b", "./a"])
def test_a_manifest_cannot_lead_out(local, tmp_path, name):
    blob = local.put_json({name: HELLO})
    with pytest.raises(ArtifactError, match="could lead out"):
        local.fetch(blob.model_copy(update={"kind": "model"}), tmp_path / "back" / "model")


def test_json_that_is_no_manifest(local, tmp_path):
    blob = local.put_json([1])
    with pytest.raises(ArtifactError, match="not the manifest"):
        local.fetch(blob.model_copy(update={"kind": "model"}), tmp_path / "model")


def test_many_puts_of_one_content_at_once(store, tmp_path):
    path = tmp_path / "big"
    path.write_bytes(os.urandom(1 << 20))
    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(lambda _: store.put_file(path).model_dump_json(), range(16)))
    assert len(refs) == 1
    if store.root.startswith("file"):
        assert not list((tmp_path / "store" / "partial").iterdir())


def test_a_given_away_file_is_moved_and_cannot_be_written(local, tmp_path):
    path = hello(tmp_path)
    inode = path.stat().st_ino
    ref = local.put_file(path, consume=True)
    assert not path.exists()
    assert stored(ref).stat().st_ino == inode
    assert not stored(ref).stat().st_mode & 0o222


def test_a_copy_is_the_callers_own(local, tmp_path):
    ref = local.put_file(hello(tmp_path))
    copy = local.fetch_copy(ref, tmp_path / "mine" / "x")
    copy.write_text("changed")
    assert stored(ref).read_bytes() == b"hello"


def test_a_full_disk_says_how_much_is_needed_and_leaves_nothing(tmp_path):
    """A file size limit is a full disk that any user can make: the write fails in the kernel."""
    (tmp_path / "big").write_bytes(bytes(300_000))
    program = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from airgate.errors import ArtifactError, DigestError
        from airgate.steps.store import ArtifactStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        store = ArtifactStore(sys.argv[1] + "/store")
        for put in (lambda: store.put_file(Path(sys.argv[1], "big")), lambda: store.put_json("x" * 300_000)):
            try:
                put()
            except ArtifactError as error:
                print(error)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "include")}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environment,
                          check=True)
    first, second = done.stdout.splitlines()
    assert "/store/sha256/" in first
    assert "300000 bytes are needed. Make room" in first
    assert "300002 bytes are needed. Make room" in second
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
