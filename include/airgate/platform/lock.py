"""One `up` or `down` at a time in one installation."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airgate.errors import ConfigError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; the system lets go of it when the process ends, however it ends.

    Raises ConfigError when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another `airgate up` or `airgate down` is at work in {path.parent}; wait for it to end.") from None
        yield
