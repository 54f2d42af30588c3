"""A git repository as an anchor: one commit a checkpoint, pushed to a server where nobody of ours may rewrite history.

The server must refuse forced pushes and deletions (`receive.denyNonFastForwards`, `receive.denyDeletes`, or a protected branch).
Commits name their parents by hash, so everybody who has ever cloned the repository can show a rewritten history.
"""

import re
import tempfile
from pathlib import Path
from typing import Self

from airgate.audit.anchors.base import NOTE_LIMIT, AnchorError, file_name, refuse_length, refuse_other, size_of
from airgate.audit.anchors.git_program import Git
from airgate.audit.anchors.url import AnchorUrl

FOLDER = "checkpoints"
_ATTEMPTS = 5  # of writers at the same time, all but one find that the branch has moved
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class GitAnchor:
    """Files under `checkpoints/` of one branch.

    Without `remote` the repository itself is the place. With it the remote's branch is, and the repository only carries: what is
    read is fetched first, and a commit that cannot be pushed is none. Objects are written without the working tree, so bytes
    are kept as they are, and what somebody has checked out or staged does not matter.
    """

    def __init__(self, name: str, repository: Path, remote: str = "", branch: str = "main", timeout: float = 60.0) -> None:
        """`timeout` in seconds is for each git command."""
        self.name = name
        self._git = Git(name, repository, timeout)
        self._history = Git(name, repository, 10 * timeout)  # 8 s for a year of hourly checkpoints, and it grows
        self._checked: str | None = None
        self._remote, self._branch = remote, f"refs/heads/{branch}"
        # Our own mark of what the remote had: a `git fetch` by hand moves git's own, also backwards.
        self._mark = f"refs/airgate/{remote}/{branch}" if remote else self._branch

    @classmethod
    def of(cls, url: AnchorUrl) -> Self:
        """Take `git+file:///path/to/clone?remote=origin&branch=main`. Raises ConfigError."""
        url.allow(("remote", "branch"))
        remote, branch = url.options.get("remote", ""), url.options.get("branch", "main")
        if remote and not _WORD.fullmatch(remote):
            raise url.error("has a remote that is no name; add it to the clone by `git remote add NAME URL`, and write its name")
        words = branch.split("/")
        if not all(_WORD.fullmatch(word) and not word.endswith((".lock", ".")) and ".." not in word for word in words):
            raise url.error("has a branch that is no name; allowed: letters, digits and -_./ as in 'main' or 'audit/checkpoints'")
        return cls(url.name, url.folder(), remote, branch)

    def put(self, size: int, note: bytes) -> bytes:
        """Commit and push the note unless it is there; the receipt is b"". Raises AnchorError as Anchor.put says."""
        refuse_length(self.name, note)
        path = f"{FOLDER}/{file_name(size)}"
        for _ in range(_ATTEMPTS):
            tip = self._tip()
            if tip and (held := self._read(tip, path)):
                refuse_other(self.name, size, held.get(size), note)
                return b""
            if self._advance(self._commit(tip, path, note, f"Checkpoint of size {size}"), tip):
                self._show(path)
                # Each commit has a new list of all notes; git keeps them small by packing.
                self._git.run("gc", "--auto", "--quiet")
                return b""
        raise AnchorError(f"the anchor {self.name}: others moved the branch {_ATTEMPTS} times while the checkpoint of size "
                          f"{size} was being committed; try again later, and give the log a branch of its own")

    def notes(self) -> dict[int, bytes]:
        """Read every note, after a fetch. Raises AnchorError, also when a commit changed or removed a note."""
        tip = self._tip()
        if not tip:
            return {}
        self._refuse_changes(tip)
        return self._read(tip, FOLDER + "/")

    def check(self, size: int, note: bytes, receipt: bytes) -> None:
        """Compare with the branch and its history, after a fetch. Raises AnchorError."""
        tip, path = self._tip(), f"{FOLDER}/{file_name(size)}"
        if tip:
            self._refuse_changes(tip)
        refuse_other(self.name, size, self._read(tip, path).get(size) if tip else None, note)

    def _tip(self) -> str | None:
        """Give the commit at the end of the branch, or None where there is none; fetch it first."""
        known = self._resolve()
        if not self._remote:
            return known
        listed = self._git("ls-remote", self._remote, self._branch).decode().split()
        if (not listed and known) or (listed and listed[0] != known and not self._fetch()):
            raise AnchorError(f"the anchor {self.name}: the remote '{self._remote}' no longer has what its branch had: its "
                              f"history was rewritten or removed. What it had is here under {self._mark} ({known}); keep it as "
                              "evidence")
        return self._resolve()

    def _fetch(self) -> bool:
        """Move our mark to where the remote's branch is; False when that would drop what the branch once had."""
        code, _, error = self._git.run("fetch", "--no-tags", "--refmap=", "--no-write-fetch-head", self._remote,
                                       f"{self._branch}:{self._mark}")
        if code and "[rejected]" not in error:
            raise self._git.error("fetch", error)
        return code == 0

    def _resolve(self) -> str | None:
        code, output, error = self._git.run("rev-parse", "--verify", "--quiet", f"{self._mark}^{{commit}}")
        if code not in (0, 1):
            raise self._git.error("rev-parse", error)
        return output.decode().strip() or None

    def _read(self, tip: str, path: str) -> dict[int, bytes]:
        """Give the notes at a path of a commit, by size."""
        listing = self._git("ls-tree", "-z", "-l", "--full-tree", tip, path).decode(errors="surrogateescape")
        found = dict[int, str]()
        for line in filter(None, listing.split("\0")):
            about, _, where = line.partition("\t")
            mode, _, blob, length = about.split()
            size = size_of(where.removeprefix(f"{FOLDER}/"))
            if size is None:
                continue
            if not mode.startswith("100") or int(length) > NOTE_LIMIT:
                raise AnchorError(f"the anchor {self.name}: {where} is no plain file of a few hundred bytes; find out who put it "
                                  "there")
            found[size] = blob
        output = self._git("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in found.values()).encode())
        notes, position = dict[int, bytes](), 0
        for size in found:
            header, _, _ = output[position:position + 200].partition(b"\n")
            start = position + len(header) + 1
            position = start + int(header.split()[2]) + 1
            notes[size] = output[start:position - 1]
        return notes

    def _commit(self, tip: str | None, path: str, note: bytes, message: str) -> str:
        """Write a commit that adds one file to `tip`; no branch knows it yet."""
        blob = self._git("hash-object", "-w", "--stdin", stdin=note).decode().strip()
        with tempfile.TemporaryDirectory() as folder:
            index = Path(folder, "index")
            self._git("read-tree", tip or "--empty", index=index)
            self._git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", index=index)
            tree = self._git("write-tree", index=index).decode().strip()
        return self._git("commit-tree", *(("-p", tip) if tip else ()), "-m", message, tree).decode().strip()

    def _advance(self, commit: str, tip: str | None) -> bool:
        """Move the branch from `tip` to `commit`; False when it is no longer at `tip`."""
        if self._remote:
            code, _, error = self._git.run("push", "--no-verify", "--no-follow-tags", self._remote, f"{commit}:{self._branch}")
            if code and self._resolve_remote() == tip:
                raise self._git.error("push", error)
            if code:
                return False
        code, _, error = self._git.run("update-ref", "-m", "checkpoint", self._mark, commit, tip or "0" * len(commit))
        if code and self._resolve() == tip:
            raise self._git.error("update-ref", error)
        return code == 0

    def _resolve_remote(self) -> str | None:
        listed = self._git("ls-remote", self._remote, self._branch).decode().split()
        return listed[0] if listed else None

    def _show(self, path: str) -> None:
        """Where the branch is checked out, put the file there too, or the next commit by hand would remove it."""
        _, head, _ = self._git.run("symbolic-ref", "--quiet", "HEAD")
        if head.decode().strip() == self._mark and self._git("rev-parse", "--is-bare-repository").strip() == b"false":
            self._git("checkout", "--quiet", self._mark, "--", f":/{path}")

    def _refuse_changes(self, tip: str) -> None:
        """Raise AnchorError when a commit of the branch did anything to a note but add it. Looks at each commit once."""
        new = [tip, *([f"^{self._checked}"] if self._checked else [])]
        log = self._history("log", "--format=commit %H", "--name-only", "--diff-filter=a", "--no-renames", "--full-history", "-m",
                            "--no-ext-diff", "--no-show-signature", *new, "--", f":/{FOLDER}").decode(errors="replace")
        commit = ""
        for line in log.splitlines():
            if line.startswith("commit "):
                commit = line.removeprefix("commit ")
            elif size_of(line.removeprefix(f"{FOLDER}/")) is not None:
                raise AnchorError(f"the anchor {self.name}: commit {commit} changed or removed {line}, which nobody may. See "
                                  f"`git show {commit}` for who did; the first note is in its parent")
        self._checked = tip
