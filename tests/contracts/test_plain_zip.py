"""Bundles' file format: any ZIP tool opens what is written, and of what is read no byte is free."""

import io
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgate.contracts import plain_zip
from airgate.errors import BundleError

FILES = {"bundle.json": b"{}", "model/weights.bin": bytes(range(256)) * 9, "model/empty": b"", "log/leaves.jsonl": b"a\nb\n"}
PART = st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,8}", fullmatch=True)
CONTENTS = st.dictionaries(PART, st.binary(max_size=200), max_size=5)


def written(files: dict[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.zip"
        plain_zip.write(path, files.items())
        assert [one.name for one in Path(folder).iterdir()] == ["b.zip"]
        return path.read_bytes()


def read(data: bytes) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.zip"
        path.write_bytes(data)
        with plain_zip.reading(path) as archive:
            return {name: archive.read(name, 1 << 20) for name in archive.entries}


@given(CONTENTS)
@settings(max_examples=30)
def test_what_is_written_is_read_again_by_us_and_by_any_zip_tool(files: dict[str, bytes]) -> None:
    data = written(files)
    assert read(data) == files
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert written(files) == data


@given(st.integers(0, len(written(FILES)) - 1), st.integers(1, 255))
@settings(max_examples=150)
def test_no_byte_can_be_changed(place: int, change: int) -> None:
    data = bytearray(written(FILES))
    data[place] ^= change
    with pytest.raises(BundleError):
        read(bytes(data))


@given(st.integers(0, len(written(FILES)) - 1))
@settings(max_examples=60)
def test_no_beginning_of_a_bundle_is_one(length: int) -> None:
    with pytest.raises(BundleError) as found:
        read(written(FILES)[:length])
    assert found.value.reason == "truncated"


@given(st.integers(0, len(written(FILES))), st.binary(min_size=1, max_size=40))
@settings(max_examples=60)
def test_nothing_can_be_put_in(place: int, added: bytes) -> None:
    data = written(FILES)
    with pytest.raises(BundleError):
        read(data[:place] + added + data[place:])


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    whole = written(FILES)
    for tried in (data, whole[: -len(data)] + data if data else data):
        if tried == whole:  # its last bytes are zeros, and so may those be that were drawn
            continue
        with pytest.raises(BundleError):
            read(tried)


def by_zipfile(build: Callable[[zipfile.ZipFile], object]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        build(archive)
    return buffer.getvalue()


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr, info.create_system = mode << 16, 3
    return info


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr(entry("model/weights.bin"), bytes(1 << 20), zipfile.ZIP_DEFLATED)


def twice(archive: zipfile.ZipFile) -> None:
    archive.writestr(entry("Model/a"), b"1")
    archive.writestr(entry("model/A"), b"2")


def as_folder_too(archive: zipfile.ZipFile) -> None:
    archive.writestr(entry("a"), b"1")
    archive.writestr(entry("a/b"), b"2")


def tool(data: bytes) -> bytes:
    """As `zipfile` wrote it, but with the version in the headers that a plain file needs."""
    return data.replace(b"PK\3\4\x14\0", b"PK\3\4\x0a\0").replace(b"PK\1\2\x14\3\x14\0", b"PK\1\2\x0a\3\x0a\0")


@pytest.mark.parametrize(("attack", "reason", "text"), [
    (bomb, "too large", r"model/weights.bin is compressed and would unfold from 1\d{3} to 1048576 bytes"),
    (lambda a: a.writestr(entry("../../etc/passwd"), b""), "unsafe name", r"a file of the name '../../etc/passwd'."),
    (lambda a: a.writestr(entry("/etc/passwd"), b""), "unsafe name", "a file of the name '/etc/passwd'"),
    (lambda a: a.writestr(entry("model\\..\\x"), b""), "unsafe name", "a file of the name"),
    (lambda a: a.writestr(entry("C:x"), b""), "unsafe name", "a file of the name 'C:x'"),
    (lambda a: a.writestr(entry("model/modèl"), b""), "unsafe name", "a file of the name"),
    (lambda a: a.writestr(entry("a" * 300), b""), "unsafe name", "a file of the name"),
    (lambda a: a.writestr(entry("model/w", stat.S_IFLNK | 0o777), b"/etc/passwd"), "unsafe name", "model/w is a link"),
    (lambda a: a.writestr(entry("model", stat.S_IFDIR | 0o755), b""), "unsafe name", "model is a folder"),
    (twice, "unsafe name", "it holds model/A twice"),
    (as_folder_too, "unsafe name", "a/b lies in a folder that is a file of the bundle too"),
    (lambda a: setattr(a, "comment", b"hello"), "truncated", "does not end as a bundle does"),
])
def test_attacks_are_named(attack: Callable[[zipfile.ZipFile], object], reason: str, text: str) -> None:
    with pytest.raises(BundleError, match=text) as found:
        read(tool(by_zipfile(attack)))
    assert found.value.reason == reason


def test_two_files_that_share_bytes_are_refused() -> None:
    data = written({"a": b"1" * 50, "b": b"2" * 50})
    first, second = data.index(b"PK\1\2"), data.rindex(b"PK\1\2")
    moved = bytearray(data)
    moved[second + 42 : second + 46] = data[first + 42 : first + 46]
    with pytest.raises(BundleError, match="b begins at byte 0, not at 81: something is hidden between"):
        read(bytes(moved))


def test_bounds(tmp_path: Path) -> None:
    many = ((f"f{number}", b"") for number in range(plain_zip.MAX_FILES + 1))
    with pytest.raises(BundleError, match="it holds 4097 files; allowed are 4096"):
        plain_zip.write(tmp_path / "b.zip", many)
    plain_zip.write(tmp_path / "b.zip", [("a", b"12345")])
    with plain_zip.reading(tmp_path / "b.zip") as archive, pytest.raises(BundleError, match="a has 5 bytes; allowed are 4"):
        archive.read("a", 4)
    huge = tmp_path / "huge.zip"
    with huge.open("wb") as file:
        file.truncate(1 << 32)  # holes: it takes no room
    with pytest.raises(BundleError, match="more than 4294967295 bytes"), plain_zip.reading(huge):
        pass


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(b"before")
    with pytest.raises(BundleError, match="a file of the name '../a'"):
        plain_zip.write(path, [("../a", b"")])
    with pytest.raises(FileNotFoundError):
        plain_zip.write(path, [("a", tmp_path / "missing")])
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_files_are_read_in_pieces_and_unpacked(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * (3 << 20))
    plain_zip.write(tmp_path / "b.zip", [("model/big", big)])
    with plain_zip.reading(tmp_path / "b.zip") as archive:
        assert [len(chunk) for chunk in archive.chunks("model/big")] == [1 << 20] * 3
        assert archive.extract("model/big", tmp_path / "out" / "big") == archive.digest("model/big")
        with pytest.raises(FileExistsError):
            archive.extract("model/big", tmp_path / "out" / "big")
        with pytest.raises(BundleError, match="model/small is not in the bundle, which has 1 files"):
            archive.digest("model/small")
    assert (tmp_path / "out" / "big").read_bytes() == big.read_bytes()
