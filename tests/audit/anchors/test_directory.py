import os
import resource
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.audit.anchors.conftest import NOTE, OTHER, one

from airgate.audit.anchors import AnchorError

FILE = "00000000000000000007.note"


def listed(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture(params=["plain", "Prüfung %20 ключ"])
def folder(request, tmp_path):
    path = tmp_path / request.param
    path.mkdir()
    return path


@pytest.fixture
def anchor(folder):
    return one("file://" + str(folder).replace("%", "%25").replace(" ", "%20"))


def test_a_note_is_one_read_only_file_with_exactly_its_bytes(anchor, folder):
    assert anchor.put(7, NOTE) == b""
    assert listed(folder) == [FILE]
    assert (folder / FILE).read_bytes() == NOTE
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o444
    assert anchor.notes() == {7: NOTE}
    anchor.check(7, NOTE, b"")


def test_the_same_note_again_changes_nothing_and_another_is_refused(anchor, folder):
    anchor.put(7, NOTE)
    before = (folder / FILE).stat()
    assert anchor.put(7, NOTE) == b""
    with pytest.raises(AnchorError, match=r"holds another checkpoint of size 7: its sha256 is [0-9a-f]{16}\.\.\..*Nothing was"):
        anchor.put(7, OTHER)
    assert (folder / FILE).stat() == before
    assert anchor.notes() == {7: NOTE}
    anchor.put(8, OTHER)
    assert list(anchor.notes()) == [7, 8]


def test_of_many_at_once_one_wins_and_the_others_hear_of_it(anchor, folder):
    def put(number):
        try:
            anchor.put(7, NOTE + bytes([number]))
        except AnchorError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(put, range(8)))
    assert said.count(None) == 1
    assert all("another checkpoint of size 7" in text for text in said if text)
    assert anchor.notes() == {7: NOTE + bytes([said.index(None)])}
    assert listed(folder) == [FILE]


def test_a_note_edited_by_hand_is_found(anchor, folder):
    anchor.put(7, NOTE)
    (folder / FILE).chmod(0o644)
    (folder / FILE).write_bytes(OTHER)
    with pytest.raises(AnchorError, match="holds another checkpoint of size 7"):
        anchor.check(7, NOTE, b"")
    with pytest.raises(AnchorError, match="holds another checkpoint of size 7"):
        anchor.put(7, NOTE)
    assert anchor.notes() == {7: OTHER}


def test_a_removed_note_is_found(anchor, folder):
    anchor.put(7, NOTE)
    (folder / FILE).unlink()
    with pytest.raises(AnchorError, match="holds no checkpoint of size 7: it was never put there, or somebody removed it"):
        anchor.check(7, NOTE, b"")


def test_files_of_others_are_left_alone(anchor, folder):
    for name in ("README", "7.note", FILE + ".bak", ".x.partial", "ключ.note"):
        (folder / name).write_text("theirs")
    anchor.put(7, NOTE)
    assert anchor.notes() == {7: NOTE}
    assert len(listed(folder)) == 6


@pytest.mark.parametrize("make", [
    lambda path: path.mkdir(),
    os.mkfifo,
    lambda path: path.symlink_to("elsewhere"),
    lambda path: path.symlink_to("/dev/zero"),
])
def test_what_is_no_file_is_no_note(anchor, folder, make):
    (folder / "elsewhere").write_bytes(NOTE)
    make(folder / FILE)
    for act in (lambda: anchor.put(7, NOTE), anchor.notes, lambda: anchor.check(7, NOTE, b"")):
        with pytest.raises(AnchorError, match=r"cannot (read|write) .*\.note|\.note is no plain file"):
            act()


def test_what_is_empty_or_too_large_is_no_note(anchor, folder):
    with pytest.raises(AnchorError, match="a note of more than 65536 bytes; a checkpoint has a few hundred"):
        anchor.put(7, b"x" * 65537)
    assert listed(folder) == []
    with pytest.raises(AnchorError, match="a note of no bytes; a checkpoint has a few hundred"):
        anchor.put(7, b"")
    (folder / FILE).write_bytes(b"x" * 65537)
    with pytest.raises(AnchorError, match="more than 65536 bytes"):
        anchor.notes()


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    anchor = one(f"file://{tmp_path}/disk")
    for act in (lambda: anchor.put(7, NOTE), anchor.notes, lambda: anchor.check(7, NOTE, b"")):
        with pytest.raises(AnchorError, match=r"cannot (read|write) .*No such file or directory.*a disk that is not mounted"):
            act()
    assert not (tmp_path / "disk").exists()


def test_a_size_that_is_none_writes_nowhere(anchor, folder):
    with pytest.raises(AnchorError, match="size is -1; allowed"):
        anchor.put(-1, NOTE)
    assert listed(folder) == []


def test_a_read_only_folder_is_an_error_and_what_it_holds_still_counts():
    nobody = 65534
    with tempfile.TemporaryDirectory() as place:
        anchor = one(f"file://{place}")
        anchor.put(7, NOTE)
        Path(place).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(nobody)  # root may write everywhere
        try:
            with pytest.raises(AnchorError, match=r"cannot write .*8\.note \(Permission denied\).*must be allowed to write"):
                anchor.put(8, NOTE)
            anchor.put(7, NOTE)
            anchor.check(7, NOTE, b"")
        finally:
            if root:
                os.seteuid(0)
        Path(place).chmod(0o755)
        assert listed(Path(place)) == [FILE]


def test_a_full_disk_leaves_no_half_note(anchor, folder):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(AnchorError, match=r"cannot write .*File too large.*with space left"):
            anchor.put(7, NOTE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert listed(folder) == []
    anchor.put(7, NOTE)
    assert anchor.notes() == {7: NOTE}
