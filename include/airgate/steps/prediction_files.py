"""Where a model's predictions lie, and how a day's file comes there: beside its place under a hidden name, then in one move."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from fsspec.core import url_to_fs

from airgate.contracts.provenance import FILE, file_name
from airgate.contracts.step import RunContext
from airgate.errors import ArtifactError


@dataclass(frozen=True)
class Day:
    """One day's predictions, finished on this machine."""

    day: date
    path: Path
    rows: int
    digest: str

    @property
    def name(self) -> str:
        """The file below the model's folder."""
        return file_name(self.day)


def run_mark(run: RunContext) -> str:
    """What the hidden files of a DAG run have in common: 16 hex digits."""
    return hashlib.sha256(f"{run.dag_id}\n{run.run_id}".encode()).hexdigest()[:16]


def try_mark(run: RunContext) -> str:
    """What those of one task try have: no other try writes to them, not even one that was given up and still runs."""
    return f"{run_mark(run)}-{hashlib.sha256(run.task_id.encode()).hexdigest()[:8]}-{run.map_index}-{run.try_number}"


class PredictionFiles:
    """The files below one model's folder, at any fsspec URL. Names are those of `Day`, relative to it."""

    def __init__(self, root: str) -> None:
        self.filesystem, self.base = url_to_fs(root)

    def stage(self, days: Iterable[Day], mark: str) -> dict[str, str]:
        """Copy finished files beside their places, under a hidden name; give {name: hidden name}. A failure leaves none."""
        staged: dict[str, str] = {}
        try:
            for one in days:
                staged[one.name] = f"{one.name.rpartition('/')[0]}/.{mark}.{FILE}"
                self.put(one.path, staged[one.name])
        except BaseException:
            self.discard(staged.values())
            raise
        return staged

    def put(self, path: Path, hidden: str) -> None:
        """Copy a file of this machine to a hidden name."""
        self.filesystem.makedirs(self._path(hidden).rpartition("/")[0], exist_ok=True)
        self.filesystem.put_file(str(path), self._path(hidden))

    def get(self, hidden: str, to: Path) -> None:
        """Copy a hidden file to this machine."""
        self.filesystem.get_file(self._path(hidden), str(to))

    def commit(self, staged: Mapping[str, str], digests: Mapping[str, str]) -> list[str]:
        """Move every hidden file into its place and give the URLs. May be repeated: what is in its place already stays.

        Nothing is moved unless all are there. Raises ArtifactError when one is neither hidden nor, with its digest, in place.
        """
        self.filesystem.invalidate_cache()
        waiting = {name: hidden for name, hidden in staged.items() if self.filesystem.exists(self._path(hidden))}
        lost = [name for name in staged if name not in waiting and self._digest(name) != digests[name]]
        if lost:
            raise ArtifactError(f"{self._path(lost[0])}: what was scored for it is gone: it lies neither under its hidden name "
                                f"nor in its place ({len(lost)} of {len(staged)} days). Nothing was published; clear the run's "
                                "scoring tasks of these days so that they run again.")
        for name, hidden in waiting.items():
            self.filesystem.mv(self._path(hidden), self._path(name))
        return [str(self.filesystem.unstrip_protocol(self._path(name))) for name in staged]

    def discard(self, hidden: Iterable[str]) -> None:
        """Remove hidden files where they are there."""
        for name in hidden:
            with suppress(FileNotFoundError):
                self.filesystem.rm_file(self._path(name))

    def discard_run(self, mark: str, names: Iterable[str]) -> None:
        """Remove what tries of a run that came to nothing left hidden beside the files `names`."""
        for folder in {name.rpartition("/")[0] for name in names}:
            found = self.filesystem.ls(self._path(folder), detail=False)
            left = [path.rpartition("/")[2] for path in map(str, found) if path.rpartition("/")[2].startswith(f".{mark}-")]
            self.discard(f"{folder}/{name}" for name in left)

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}"

    def _digest(self, name: str) -> str | None:
        """SHA-256 of a published file, None when there is none."""
        try:
            with self.filesystem.open(self._path(name), "rb") as file:
                return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None
