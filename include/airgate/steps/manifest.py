"""Digests of files and of directories. A directory's digest is that of its manifest: {relative path: file digest}."""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from airgate.contracts.digests import of_file as digest_of
from airgate.contracts.manifest import manifest_bytes, manifest_digest
from airgate.errors import ArtifactError

__all__ = ["digest_of", "manifest", "manifest_bytes", "manifest_digest", "parse_manifest", "refuse_unless_plain"]

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def manifest(path: Path) -> dict[str, str]:
    """Give {path relative to `path`, with slashes: digest} for every file under a directory, sorted.

    Raises ArtifactError when `path` is no directory, or a link or anything that is no file or folder lies in it.
    """
    if path.is_symlink() or not path.is_dir():
        raise ArtifactError(f"{path}: not a directory. A model is stored as a directory of its own.")
    return {name: digest_of(path / name) for name in sorted(_walk(path, path))}


def parse_manifest(uri: str, data: bytes) -> dict[str, str]:
    """Read a manifest whose digest was checked; its maker is not trusted to name only files inside the directory.

    Raises ArtifactError.
    """
    try:
        files = json.loads(data)
    except ValueError:
        files = None
    if not isinstance(files, dict) or not all(DIGEST.fullmatch(str(digest)) for digest in files.values()):
        raise ArtifactError(f"{uri}: not the manifest of a directory. Is the ref's kind right?")
    for name in files:
        _refuse_unless_inside(uri, name)
    return files


def refuse_unless_plain(path: Path) -> None:
    """Raise ArtifactError unless `path` is a plain file: no link, no folder, no device."""
    if path.is_symlink():
        raise ArtifactError(f"{path}: a symbolic link is not stored: what it points to can change. Copy the file.")
    if not path.is_file():
        what = "is missing" if not path.exists() else "is no plain file"
        raise ArtifactError(f"{path}: {what}. Allowed: a plain file.")


def _walk(folder: Path, root: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, root)
            continue
        refuse_unless_plain(path)
        name = path.relative_to(root).as_posix()
        _refuse_unless_inside(str(root), name)
        yield name


def _refuse_unless_inside(where: str, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or "\\" in name or "\0" in name or name.startswith("/") or "/".join(parts) != name:
        raise ArtifactError(f"{where}: file name {name!r} could lead out of the directory. Allowed: relative names "
                            "without '..' and backslashes.")
