from pathlib import Path

from airgate.contracts import digests

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4, of no bytes


def test_bytes_and_files_have_one_digest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert digests.of_bytes(b"") == EMPTY
    assert digests.of_file(tmp_path / "file") == digests.of_bytes(b"x" * 3_000_000)


def test_a_place_in_a_store() -> None:
    for store in ("s3://bucket/artifacts", "s3://bucket/artifacts/"):
        assert digests.place_in(store, EMPTY) == f"s3://bucket/artifacts/sha256/e3/{EMPTY.removeprefix('sha256:')}"
