"""Reading a DVC data repository at a fixed commit, without its locks, its cache or its working tree.

A data set is a folder under DVC, `<dataset>/date=YYYY-MM-DD/*.parquet`. Every step opens the repository for itself:
the commit is read from git objects, the bytes come from the DVC remote into a private folder, and DVC's own bookkeeping
(cache, index) lives in a temporary folder that goes with the step. So steps that run at the same time share no lock,
and a read-only repository is enough. Every file is compared with the MD5 that the commit names before it is parsed.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from airgate.errors import ConfigError, DataError, StepError, nearest
from airgate.redaction import redact

_PARTITION = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
_DATASET = re.compile(r"[a-z][a-z0-9_]{1,62}")
_REVISION = re.compile(r"[^\x00-\x20\x7f:]+")
_CLONE_SECONDS = 600


@dataclass(frozen=True)
class DataFile:
    """One file of a partition as the commit names it: its path in the repository and the MD5 of its bytes."""

    path: str
    md5: str
    algorithm: str


@dataclass(frozen=True)
class Dataset:
    """One data set at one commit. `data_hash` is what its .dvc file says, such as '7833...e324.dir'."""

    name: str
    commit: str
    data_hash: str
    partitions: dict[date, list[DataFile]]

    def days(self, start: date, end: date) -> list[date]:
        """The days d with start <= d < end that have a partition, in order."""
        return sorted(day for day in self.partitions if start <= day < end)

    def nearest_days(self, day: date, count: int = 4) -> str:
        """Name the partitions closest to a day that has none, for an error message."""
        close = sorted(sorted(self.partitions, key=lambda one: (abs((one - day).days), one))[:count])
        span = f"{min(self.partitions)} to {max(self.partitions)}, {len(self.partitions)} days"
        return f"nearest days with data: {', '.join(map(str, close))} (all: {span})"


class Snapshot:
    """An opened repository at one commit. Made by `open_snapshot`, valid inside its `with` block."""

    def __init__(self, repository: str, commit: str, remote: str, filesystem: Any) -> None:
        self.repository = redact(repository)
        self.remote = redact(remote)
        self.commit = commit
        self._fs = filesystem

    def datasets(self) -> list[str]:
        """Names of the folders under DVC at the top of the repository."""
        with _explained(self, "listing the repository"):
            found = self._fs.ls("/", detail=True, dvc_only=True)
            return sorted(one["name"].strip("/") for one in found if one.get("dvc_info", {}).get("isout"))

    def dataset(self, name: str) -> Dataset:
        """List a data set's partitions.

        Raises DataError when the name is no data set (with the nearest), when it holds no partition, or when the
        listing is not the one that the .dvc file promises.
        """
        info = self._info(name)
        with _explained(self, f"listing '{name}'"):
            entries: dict[str, dict[str, Any]] = self._fs.find(f"/{name}", detail=True)
        partitions: dict[date, list[DataFile]] = {}
        for path in sorted(entries):
            match = _PARTITION.fullmatch(path.strip("/").split("/")[1]) if path.count("/") >= 2 else None
            hashed = entries[path]["dvc_info"]["entry"].hash_info
            if match and path.endswith(".parquet"):
                day = date.fromisoformat(match[1])
                partitions.setdefault(day, []).append(DataFile(path, hashed.value, hashed.name))
        self._check_listing(name, info, entries)
        if not partitions:
            raise DataError(
                f"{self}: '{name}' holds no partition. Write {name}/date=YYYY-MM-DD/*.parquet and run `dvc add {name}`."
            )
        return Dataset(name, self.commit, str(info["md5"]), partitions)

    def fetch(self, files: Iterable[DataFile], to: Path) -> list[Path]:
        """Copy files into the folder `to`, as 0.parquet, 1.parquet and so on, each compared with its MD5.

        Raises DataError when the remote lacks a file or holds other bytes than the commit names.
        """
        from dvc_data.hashfile.hash import file_md5

        to.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, file in enumerate(files):
            # Our own name: a path from the listing must never decide where bytes are written.
            target = to / f"{number}.parquet"
            with _explained(self, f"fetching {file.path}"):
                self._fs.get_file(file.path, str(target))
                found = file_md5(str(target), name=file.algorithm)
            if found != file.md5:
                raise DataError(
                    f"{self}: {file.path.strip('/')} is corrupt in the DVC remote: its MD5 is {found}, "
                    f"the commit names {file.md5}. Push the file again from a good copy (`dvc push`)."
                )
            paths.append(target)
        return paths

    def _info(self, name: str) -> dict[str, Any]:
        """DVC's entry of the data set's folder; DataError when there is none."""
        if not _DATASET.fullmatch(name):
            raise DataError(f"dataset '{name}' is no name; allowed: small letters, digits and _, as in 'breast_cancer'")
        try:
            info: dict[str, Any] = self._fs.info(f"/{name}")["dvc_info"]
        except (FileNotFoundError, KeyError):
            raise DataError(f"{self}: no data set '{name}' under DVC; {nearest(name, self.datasets())}") from None
        if not info.get("isout") or not str(info.get("md5", "")).endswith(".dir"):
            raise DataError(f"{self}: '{name}' is not one folder under DVC, so it has no hash. Run `dvc add {name}`.")
        return info

    def _check_listing(self, name: str, info: dict[str, Any], entries: dict[str, dict[str, Any]]) -> None:
        """Refuse a listing whose own hash is not the one in the .dvc file: the remote could name other files."""
        from dvc_data.hashfile.tree import Tree

        tree = Tree()  # type: ignore[no-untyped-call]
        for path, entry in entries.items():
            tree.add(tuple(path.strip("/").split("/")[1:]), None, entry["dvc_info"]["entry"].hash_info)
        tree.digest(name=info["entry"].hash_info.name)
        if tree.hash_info.value != info["md5"]:
            raise DataError(
                f"{self}: the listing of '{name}' in the DVC remote is corrupt: its hash is {tree.hash_info.value}, "
                f"the commit names {info['md5']}. Push it again from a good copy (`dvc push`)."
            )

    def __str__(self) -> str:
        return f"data repository {self.repository} at {self.commit[:12]}"


@contextmanager
def open_snapshot(repository: str, revision: str | None = None) -> Iterator[Snapshot]:
    """Open a repository (a path, or any URL that git clones) at a revision; None means the head of its default branch.

    Raises DataError for an unknown revision, ConfigError when the repository cannot be opened or names no DVC remote,
    StepError when the remote fails in a way that may pass.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError
    from pygit2 import GitError

    folder = Path(repository.removeprefix("file://"))
    with tempfile.TemporaryDirectory(prefix="airgate-data-") as scratch:
        root = folder if (folder / ".dvc").is_dir() else _clone(repository, Path(scratch) / "clone")
        try:
            commit = _resolve(root, repository, revision)
            config = _configuration(root, repository, Path(scratch), commit)
            opened = Repo(str(root), rev=commit, config=config)
        except (NotDvcRepoError, SCMError):
            raise ConfigError(
                f"data repository {redact(repository)} is not a git repository with DVC in it. Run `git init` and "
                "`dvc init` there, or set AIRGATE_DATA_REPOSITORY to one that is."
            ) from None
        except GitError as error:  # above all: the folder belongs to another user
            raise ConfigError(
                f"data repository {redact(repository)} cannot be opened: {error}. Give the folder to the user that steps run "
                "as, or name the repository by a URL that git clones."
            ) from None
        with opened as repo:
            # DVC would name this folder after the user, and a pod's user may have no name.
            repo.__dict__["site_cache_dir"] = str(Path(scratch) / "site")
            yield Snapshot(repository, commit, config["remote"][config["core"]["remote"]]["url"], DVCFileSystem(repo))


def resolve(repository: str, revision: str | None = None) -> str:
    """Give the commit (40 hex digits) that a revision names now. Errors as `open_snapshot`."""
    with open_snapshot(repository, revision) as snapshot:
        return snapshot.commit


def _clone(repository: str, to: Path) -> Path:
    """Clone the git part (small: the data are in the DVC remote) into a private folder."""
    git = shutil.which("git")
    if git is None:
        raise ConfigError("git is not on the PATH, so the data repository cannot be cloned. Install git in this image.")
    command = [git, "clone", "--quiet", "--no-checkout", "--", repository, str(to)]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=_CLONE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StepError(f"data repository {redact(repository)}: git clone took over {_CLONE_SECONDS} s") from None
    if done.returncode != 0:
        raise ConfigError(
            f"data repository {redact(repository)} cannot be cloned: {redact(done.stderr.strip()) or 'no reason'}. "
            "Set AIRGATE_DATA_REPOSITORY to a DVC repository's path or git URL that this machine may read."
        )
    return to


def _resolve(root: Path, repository: str, revision: str | None) -> str:
    """Turn a revision into a commit, or raise DataError with the nearest branch or tag."""
    from dvc.scm import SCM, RevError
    from dvc.scm import resolve_rev as dvc_resolve
    from scmrepo.exceptions import SCMError

    wanted = revision or "HEAD"
    scm = SCM(str(root))
    try:
        if not _REVISION.fullmatch(wanted):
            raise RevError(wanted)
        # Asked twice: the first answer may be a file or a folder, which the library then takes for a commit.
        return str(scm.resolve_commit(dvc_resolve(scm, wanted)).hexsha)
    except (RevError, SCMError, AttributeError):
        names = {*scm.list_tags(), *scm.list_branches()}
        hint = nearest(wanted, names) if names else "it has no commit yet"
        raise DataError(
            f"data repository {redact(repository)}: unknown revision {wanted!r}; {hint}, or any commit"
        ) from None
    finally:
        scm.close()


def _configuration(root: Path, repository: str, scratch: Path, commit: str) -> dict[str, Any]:
    """DVC's settings for one isolated reading: the remotes as they stand today, and a cache and index of our own.

    Remotes are taken from the folder where there is one, so that a relative URL means what it means there, and a
    remote that moved after the commit is found where it is now.
    """
    from dvc.config import Config
    from dvc.repo import Repo

    if (root / ".dvc").is_dir():
        known = Config(dvc_dir=str(root / ".dvc"))
    else:
        with Repo(str(root), rev=commit, config={}) as bare:
            known = bare.config
    name = known["core"].get("remote")
    if not name:
        raise ConfigError(
            f"data repository {redact(repository)} has no default DVC remote, so only one machine could read its data. "
            "Run `dvc remote add -d NAME URL`, commit .dvc/config and `dvc push`."
        )
    return {
        "core": {"remote": name, "analytics": False},
        "cache": {"dir": str(scratch / "cache")},
        "remote": {name: dict(known["remote"][name])},
    }


@contextmanager
def _explained(snapshot: Snapshot, doing: str) -> Iterator[None]:
    """Sort DVC's errors: what the repository lacks is a DataError, a remote that fails may be tried again."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    try:
        yield
    except (FileNotFoundError, DataIndexDirError, DvcException, OSError) as error:
        # DVC wraps whatever kept it from a listing, a missing object as well as a refused login.
        if isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError):
            raise DataError(
                f"{snapshot}: {doing}: not in the DVC remote {snapshot.remote}. Run `dvc push` where the data are."
            ) from error
        raise StepError(f"{snapshot}: {doing} failed: {redact(str(error))}") from error
