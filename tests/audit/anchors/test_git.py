import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.audit.anchors.conftest import NOTE, OTHER, one

from airgate.audit.anchors import AnchorError
from airgate.audit.anchors.git import GitAnchor

PATH = "checkpoints/00000000000000000007.note"
HAND = {"GIT_AUTHOR_NAME": "Eve", "GIT_AUTHOR_EMAIL": "e@x", "GIT_COMMITTER_NAME": "Eve", "GIT_COMMITTER_EMAIL": "e@x"}


def git(where: Path, *arguments: str) -> str:
    """What a person does by hand."""
    done = subprocess.run(["git", "-C", str(where), *arguments], env=os.environ | HAND, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.fixture
def local(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main", "Archiv für Prüfer")
    return tmp_path / "Archiv für Prüfer"


@pytest.fixture
def server(tmp_path):
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "server.git")
    return tmp_path / "server.git"


@pytest.fixture
def clone(tmp_path, server):
    git(tmp_path, "clone", "-q", str(server), "clone")
    return tmp_path / "clone"


def here(path: Path, options: str = "") -> GitAnchor:
    return one("git+file://" + str(path).replace(" ", "%20") + options)


def at_server(path: Path) -> GitAnchor:
    return here(path, "?remote=origin&branch=main")


def test_a_checkpoint_is_one_commit_by_airgate(local):
    anchor = here(local)
    assert anchor.notes() == {}
    assert anchor.put(7, NOTE) == anchor.put(8, OTHER) == b""
    assert anchor.notes() == {7: NOTE, 8: OTHER}
    anchor.check(7, NOTE, b"")
    assert git(local, "log", "--format=%s by %an <%ae>", "main").splitlines() == [
        "Checkpoint of size 8 by Airgate audit log <audit@airgate.invalid>",
        "Checkpoint of size 7 by Airgate audit log <audit@airgate.invalid>"]
    assert (local / PATH).read_bytes() == NOTE
    assert git(local, "status", "--porcelain") == ""


def test_the_same_note_again_is_no_commit_and_another_is_refused(local):
    anchor = here(local)
    anchor.put(7, NOTE)
    anchor.put(7, NOTE)
    with pytest.raises(AnchorError, match="holds another checkpoint of size 7.*Nothing was overwritten"):
        anchor.put(7, OTHER)
    assert git(local, "rev-list", "--count", "main").strip() == "1"
    assert anchor.notes() == {7: NOTE}


def test_what_people_have_in_the_repository_stays(local):
    for name in ("theirs", "staged"):
        (local / name).write_text("1")
    git(local, "add", "theirs")
    git(local, "commit", "-qm", "theirs")
    (local / "theirs").write_text("2")
    git(local, "add", "staged")
    here(local).put(7, NOTE)
    assert git(local, "status", "--porcelain") == "A  staged\n M theirs\n"
    assert git(local, "ls-tree", "-r", "--name-only", "main").splitlines() == [PATH, "theirs"]


def test_another_branch_than_the_one_checked_out(local):
    here(local).put(1, NOTE)
    anchor = here(local, "?branch=audit/checkpoints")
    anchor.put(7, NOTE)
    assert anchor.notes() == {7: NOTE}
    assert here(local).notes() == {1: NOTE}
    assert not (local / PATH).exists()


def test_a_bare_repository_of_its_own(server):
    anchor = here(server)
    anchor.put(7, NOTE)
    anchor.put(8, NOTE)
    assert anchor.notes() == {7: NOTE, 8: NOTE}


def test_settings_and_hooks_of_the_user_do_not_matter(local, server, monkeypatch, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "pre-push", "reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    (Path.home() / ".gitconfig").write_text(
        f"[core]\nhooksPath = {hooks}\nautocrlf = true\n[commit]\ngpgSign = true\n[user]\nuseConfigOnly = true\n"
        "[push]\ngpgSign = true\n[log]\nshowSignature = true\n[diff]\nrenames = copies\n[format]\npretty = oneline\n")
    (local / ".gitattributes").write_text("*.note eol=crlf\n")
    git(server, "config", "core.hooksPath", "hooks")  # the server here has the same user; a real one has its own hooks
    git(local, "remote", "add", "origin", str(server))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    for anchor in (here(local), at_server(local)):
        anchor.put(7, NOTE)
        anchor.put(8, NOTE)
        assert anchor.notes() == {7: NOTE, 8: NOTE}
    assert not (tmp_path / "hook-ran").exists()


def test_a_note_changed_by_a_commit_is_found(local):
    anchor = here(local)
    anchor.put(7, NOTE)
    (local / PATH).write_bytes(OTHER)
    anchor.check(7, NOTE, b"")  # what is committed counts, not what lies there
    git(local, "commit", "-qam", "innocent")
    commit = git(local, "rev-parse", "HEAD").strip()
    for act in (anchor.notes, lambda: anchor.check(7, NOTE, b""), lambda: anchor.check(7, OTHER, b"")):
        with pytest.raises(AnchorError, match=f"commit {commit} changed or removed {PATH}, which nobody may"):
            act()
    with pytest.raises(AnchorError, match="holds another checkpoint of size 7"):
        anchor.put(7, NOTE)
    git(local, "revert", "--no-edit", "HEAD")
    with pytest.raises(AnchorError, match="changed or removed"):
        anchor.notes()


@pytest.mark.parametrize("hide", [["rm", "-q", PATH], ["mv", PATH, "checkpoints/00000000000000000009.note"]])
def test_a_note_removed_or_renamed_by_a_commit_is_found(local, hide):
    anchor = here(local)
    anchor.put(7, NOTE)
    git(local, *hide)
    git(local, "commit", "-qm", "tidy")
    with pytest.raises(AnchorError, match="changed or removed"):
        anchor.notes()


def test_a_merge_that_drops_a_note_is_found_and_an_honest_merge_is_none(local):
    anchor = here(local)
    anchor.put(6, NOTE)
    git(local, "checkout", "-qb", "side")
    (local / "readme").write_text("about")
    git(local, "add", "readme")
    git(local, "commit", "-qm", "readme")
    anchor.put(7, NOTE)
    git(local, "checkout", "-q", "main")
    git(local, "merge", "-q", "--no-ff", "--no-edit", "side")
    assert anchor.notes() == {6: NOTE, 7: NOTE}
    git(local, "checkout", "-q", "side")
    git(local, "merge", "-q", "--no-ff", "--no-edit", "-s", "ours", "main")
    git(local, "checkout", "-qB", "main")
    with pytest.raises(AnchorError, match=f"changed or removed {PATH}"):
        anchor.notes()


def test_a_replacement_of_git_shows_nothing_else(local):
    anchor = here(local)
    anchor.put(7, NOTE)
    blob = git(local, "rev-parse", f"main:{PATH}").strip()
    (local / "other").write_bytes(OTHER)
    git(local, "replace", blob, git(local, "hash-object", "-w", "other").strip())
    assert git(local, "show", f"main:{PATH}").encode() == OTHER
    assert anchor.notes() == {7: NOTE}


def test_a_link_is_no_note(local):
    anchor = here(local)
    anchor.put(6, NOTE)
    (local / PATH).symlink_to("00000000000000000006.note")
    git(local, "add", PATH)
    git(local, "commit", "-qm", "link")
    with pytest.raises(AnchorError, match=f"{PATH} is no plain file of a few hundred bytes; find out who put it there"):
        anchor.notes()


def test_other_files_in_the_folder_are_left_alone(local):
    anchor = here(local)
    anchor.put(7, NOTE)
    for name in ("README", "ключ.note", "9.note"):
        (local / "checkpoints" / name).write_text("theirs")
    git(local, "add", ".")
    git(local, "commit", "-qm", "about")
    git(local, "rm", "-q", "checkpoints/README")
    git(local, "commit", "-qm", "not about")
    assert anchor.notes() == {7: NOTE}


def test_writers_at_the_same_time_lose_nothing(server, tmp_path):
    for number in range(3):
        git(tmp_path, "clone", "-q", str(server), f"clone{number}")
    anchors = [at_server(tmp_path / f"clone{number}") for number in range(3)]
    barrier = threading.Barrier(3)

    def put(number):
        barrier.wait()
        anchors[number].put(number, NOTE)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(put, range(3)))
    assert anchors[0].notes() == {0: NOTE, 1: NOTE, 2: NOTE}
    assert git(server, "rev-list", "--count", "main").strip() == "3"


def test_an_outsider_clones_what_was_pushed(clone, server, tmp_path):
    at_server(clone).put(7, NOTE)
    git(tmp_path, "clone", "-q", str(server), "outsider")
    assert (tmp_path / "outsider" / PATH).read_bytes() == NOTE


def test_a_new_clone_goes_on_where_the_old_one_ended(clone, server, tmp_path):
    at_server(clone).put(7, NOTE)
    git(tmp_path, "clone", "-q", str(server), "second")
    second = at_server(tmp_path / "second")
    assert second.notes() == {7: NOTE}
    second.put(8, NOTE)
    with pytest.raises(AnchorError, match="another checkpoint of size 8"):
        at_server(clone).put(8, OTHER)
    assert at_server(clone).notes() == {7: NOTE, 8: NOTE}


def test_what_the_clone_alone_holds_counts_for_nothing(clone, server):
    here(clone).put(7, NOTE)
    assert at_server(clone).notes() == {}
    with pytest.raises(AnchorError, match="holds no checkpoint of size 7"):
        at_server(clone).check(7, NOTE, b"")


def test_a_history_rewritten_at_the_remote_is_found_and_never_pushed_over(clone, server, tmp_path):
    anchor = at_server(clone)
    anchor.put(7, NOTE)
    git(tmp_path, "clone", "-q", str(server), "eve")
    (tmp_path / "eve" / PATH).write_bytes(OTHER)
    git(tmp_path / "eve", "commit", "-qa", "--amend", "-m", "Checkpoint of size 7")
    git(tmp_path / "eve", "push", "-qf", "origin", "main")
    git(clone, "fetch", "-q")  # somebody here does what people do
    forged = git(server, "rev-parse", "main")
    for act in (lambda: anchor.put(8, NOTE), anchor.notes, lambda: anchor.check(7, NOTE, b"")):
        with pytest.raises(AnchorError, match="the remote 'origin' no longer has what its branch had: its history was rewritten"):
            act()
    assert git(server, "rev-parse", "main") == forged
    assert git(clone, "show", f"refs/airgate/origin/main:{PATH}").encode() == NOTE


def test_a_branch_removed_at_the_remote_is_found(clone, server):
    anchor = at_server(clone)
    anchor.put(7, NOTE)
    git(server, "update-ref", "-d", "refs/heads/main")
    with pytest.raises(AnchorError, match="history was rewritten or removed"):
        anchor.put(8, NOTE)


def test_a_push_that_the_server_refuses_is_an_error_and_leaves_nothing(clone, server):
    hook = server / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'the server says no' >&2\nexit 1\n")
    hook.chmod(0o755)
    anchor = at_server(clone)
    with pytest.raises(AnchorError, match="`git push` failed: .*the server says no"):
        anchor.put(7, NOTE)
    hook.unlink()
    assert anchor.notes() == {}
    anchor.put(7, NOTE)
    assert anchor.notes() == {7: NOTE}


def test_an_unreachable_remote_is_an_error_without_its_password(clone):
    git(clone, "remote", "set-url", "origin", "http://ana:s3cr@et@127.0.0.1:1/r?token=s3cret")
    anchor = at_server(clone)
    for act in (lambda: anchor.put(7, NOTE), anchor.notes, lambda: anchor.check(7, NOTE, b"")):
        with pytest.raises(AnchorError, match=r"`git ls-remote` failed: .*127.0.0.1.*run git there as this") as caught:
            act()
        assert "s3cr" not in str(caught.value) and "et@" not in str(caught.value)


def test_a_remote_that_does_not_answer_ends_in_bounded_time(clone):
    git(clone, "remote", "set-url", "origin", "ext::sleep 600")
    git(clone, "config", "protocol.ext.allow", "always")
    anchor = GitAnchor("git+file:///clone", clone, "origin", timeout=0.5)
    with pytest.raises(AnchorError, match="`git ls-remote` failed: no end after 0.5 s; is the remote reachable"):
        anchor.put(7, NOTE)


@pytest.mark.parametrize("options", ["", "?remote=origin"])
def test_what_is_no_repository_is_an_error(tmp_path, options, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "plain").mkdir()
    for name, said in (("plain", "not a git repository"), ("missing", "No such file or directory")):
        anchor = here(tmp_path / name, options)
        for act in (lambda anchor=anchor: anchor.put(7, NOTE), anchor.notes):
            with pytest.raises(AnchorError, match=f"{name}: `git rev-parse` failed: .*{said}"):
                act()


def test_a_remote_that_the_clone_does_not_know(local):
    with pytest.raises(AnchorError, match="`git ls-remote` failed: .*upstream"):
        here(local, "?remote=upstream").put(7, NOTE)


def test_without_git_it_says_so(local, monkeypatch, tmp_path):
    anchor = here(local)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AnchorError, match="git cannot be started: No such file or directory; is it installed"):
        anchor.put(7, NOTE)


def test_a_size_that_is_none_and_a_note_too_large_are_no_commits(local):
    anchor = here(local)
    with pytest.raises(AnchorError, match="size is -1; allowed"):
        anchor.put(-1, NOTE)
    with pytest.raises(AnchorError, match="more than 65536 bytes"):
        anchor.put(7, b"x" * 65537)
    assert anchor.notes() == {}
