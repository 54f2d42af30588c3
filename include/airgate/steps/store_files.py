"""The store's files, local or at an fsspec URL: read, written whole or not at all, and what is said when that fails."""

import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from airgate.contracts.small_files import local_path, reason, remote
from airgate.errors import AirgateError, ArtifactError, DigestError, MissingArtifactError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check(uri: str, expected: str, found: str) -> None:
    """Raise DigestError unless both digests are the same."""
    if expected != found:
        raise DigestError(f"{uri}: expected {expected}, found {found}. They changed after they were stored: do not use "
                          "them. Find out what changed them, remove the file, and run the step that made them again.")


@contextmanager
def opened(uri: str) -> Iterator[BinaryIO]:
    """Open a stored file to read it in pieces. Raises whatever its kind of store raises."""
    path = local_path(uri)
    if path is not None:
        with path.open("rb") as file:
            yield file
        return
    filesystem, key = remote(uri)
    with filesystem.open(key, "rb") as file:
        yield file


@contextmanager
def slot(root: str, uri: str) -> Iterator[Path]:
    """Give a hidden path to write to; it becomes `uri` in the store at `root`, whole and durable, when the block ends well."""
    folder, target = local_path(root), local_path(uri)
    if folder is not None and target is not None:
        with _local_slot(folder, target) as partial:
            yield partial
        return
    descriptor, name = tempfile.mkstemp(prefix="airgate-put-")
    os.close(descriptor)
    try:
        yield Path(name)
        # An object store shows a put when it is complete; there is no half of it to see.
        filesystem, key = remote(uri)
        filesystem.put_file(name, key)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Say of what is raised within that `uri` cannot be read, and why."""
    try:
        yield
    except FileNotFoundError:
        raise MissingArtifactError(f"{uri}: not in the store. Was it removed? Run the step that made it again.") from None
    except AirgateError:
        raise
    except Exception as error:  # each kind of store has its own errors, and few of them are OSErrors
        raise ArtifactError(f"{uri}: {reason(error)}. Check that this process may read the artifact store.") from error


@contextmanager
def writing(uri: str, size: int) -> Iterator[None]:
    """Say of what is raised within that `uri` cannot be written, why, and how many bytes it takes."""
    try:
        yield
    except AirgateError:
        raise
    except Exception as error:
        hint = "Check that the artifact store is there and that this process may write it."
        if isinstance(error, OSError) and error.errno in FULL:
            hint = "Make room there, or raise the quota."
        raise ArtifactError(f"{uri}: cannot be written: {reason(error)}; {size} bytes are needed. {hint} Nothing "
                            "half-written was left.") from error


@contextmanager
def _local_slot(root: Path, target: Path) -> Iterator[Path]:
    partial = root / "partial" / uuid.uuid4().hex
    partial.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.chmod(0o444)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
