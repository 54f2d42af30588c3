"""Small files of a store, read and written whole: a folder of this machine, or whatever fsspec opens. Both planes use this."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from airgate.errors import ArtifactError, MissingArtifactError


def read_bytes(url: str) -> bytes:
    """Read a whole file. Raises MissingArtifactError when it is not there, ArtifactError when it cannot be read."""
    data = read_if_there(url)
    if data is None:
        raise MissingArtifactError(f"{url}: nothing is there. Was the artifact store cleaned? Run the step that made it again.")
    return data


def read_if_there(url: str) -> bytes | None:
    """Read a whole file; None where it is not there. Raises ArtifactError when it cannot be read."""
    path = local_path(url)
    try:
        if path is not None:
            return path.read_bytes()
        filesystem, key = remote(url)
        return bytes(filesystem.cat_file(key))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _unreadable(url, error) from error


def write_bytes(url: str, data: bytes) -> None:
    """Write a small file whole or not at all. Raises ArtifactError when the store cannot be written."""
    path = local_path(url)
    try:
        if path is None:
            # An object store shows a put when it is complete; there is no half of it to see.
            filesystem, key = remote(url)
            filesystem.pipe_file(key, data)
        else:
            replace_file(path, data)
    except Exception as error:  # each kind of store has its own errors, and few of them are OSErrors
        raise ArtifactError(f"{url}: cannot be written ({len(data)} bytes): {reason(error)}. "
                            "Check that the artifact store is there, writable and not full.") from error


def exists(url: str) -> bool:
    """Whether a file or folder is there. Raises ArtifactError when the store cannot be asked."""
    path = local_path(url)
    try:
        if path is not None:
            return path.exists()
        filesystem, key = remote(url)
        return bool(filesystem.exists(key))
    except Exception as error:
        raise _unreadable(url, error) from error


def files_below(url: str) -> list[str]:
    """URLs of all files under a folder, sorted; none where it is not there. Raises ArtifactError as `exists` does."""
    path = local_path(url)
    try:
        if path is not None:
            return sorted(f"file://{found}" for found in path.rglob("*") if found.is_file())
        filesystem, key = remote(url)
        return sorted(str(filesystem.unstrip_protocol(found)) for found in filesystem.find(key))
    except Exception as error:
        raise _unreadable(url, error) from error


def remote(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it. Imported here: a local store does without it."""
    import fsspec

    # Object stores' file systems remember folders' contents, and somebody else writes there.
    filesystem, key = fsspec.url_to_fs(url, use_listings_cache=False)
    return filesystem, key


def reason(error: Exception) -> str:
    """What a store's error says, in a few words: each kind of store has its own errors."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"


def local_path(url: str) -> Path | None:
    """Give the path of a file:// URL or a plain path; None for any other store, which only fsspec can reach."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).absolute()
    return Path("/" + rest.lstrip("/")) if scheme in ("file", "local") else None


def replace_file(path: Path, data: bytes) -> None:
    """Write a local file so that a reader sees all of it or what was there before. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # mkstemp lets only its own user read; the store's readers may be others, as the umask says.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _unreadable(url: str, error: Exception) -> ArtifactError:
    return ArtifactError(f"{url}: cannot be read: {reason(error)}. Check that the artifact store is there "
                         "and that this process may read it.")


def _umask() -> int:
    """The process's umask without changing it, which would race with other threads."""
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
