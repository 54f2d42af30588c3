"""The fork server's start: become its only one, load the libraries, make sure that forking is safe, listen."""

import argparse
import fcntl
import gc
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airgate.contracts.fork_protocol import address
from airgate.steps import preload
from airgate.steps.environment import versions
from airgate.steps.forkserver import Server
from airgate.steps.preload import say

UNFIT_TO_FORK, IN_USE, NO_PLACE = 70, 75, 73
# Tenths of a second: a server that is stopping gives its steps 5 s to end.
PATIENCE = 80


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Gives the exit code: 70 when forking is unsafe, 75 when another serves, 73 no place."""
    options = _options(argv)
    path: Path = options.socket.absolute()
    if (wrong := _private_folder(path.parent)) is not None:
        say(wrong)
        return NO_PLACE
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _is_ours(lock):
        say(f"another server serves {path}")
        return IN_USE
    os.chdir("/")
    begin = time.perf_counter()
    preload.quiet()
    preload.load(options.preload)
    if len(alive := preload.threads()) > 1:
        say(f"threads are alive after loading: {', '.join(alive)}. A child forked now could hang in a lock that such a "
            "thread holds. Find the library that starts it (the log has the order), and take it out of --preload.")
        return UNFIT_TO_FORK
    pools = _pools()
    versions()  # reading them takes 20 ms, once here instead of in each child
    gc.collect()
    gc.freeze()
    with _listening(path) as listener:
        say(f"ready on {path} after {time.perf_counter() - begin:.1f} s, {preload.memory_mib():.0f} MiB, pid {os.getpid()}")
        Server(listener, lock, options.idle_seconds, pools).serve()
    return 0


def _is_ours(lock: int) -> bool:
    """Take the lock; whoever has it may be about to stop."""
    for _ in range(PATIENCE):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
            continue
        return True
    return False


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m airgate.steps.forkserver", description=__doc__)
    parser.add_argument("socket", type=Path, help="where to listen; its folder must be the user's alone")
    parser.add_argument("--preload", type=lambda text: tuple(filter(None, text.split(","))), default=preload.LIBRARIES,
                        help="modules to load, separated by commas; empty loads none")
    parser.add_argument("--idle-seconds", type=float, default=1800, help="end when nobody connected for so long")
    return parser.parse_args(argv)


def _private_folder(folder: Path) -> str | None:
    """Make the socket's folder where it is missing; say what is wrong with one that others can enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return None
    return (f"{folder} belongs to user id {found.st_uid} and has mode {found.st_mode & 0o777:o}: others could reach the "
            f"socket in it. Allowed: a folder of user id {os.getuid()} with mode 700. Run 'chmod 700 {folder}' or choose "
            "another.")


def _pools() -> Any:
    """threadpoolctl's view of the loaded thread pools; None where it was not loaded."""
    threadpoolctl = sys.modules.get("threadpoolctl")
    return threadpoolctl.ThreadpoolController() if threadpoolctl else None


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Bind the socket; whoever left an old one there is gone, since we hold the lock."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o077)
    try:
        with address(path) as name:
            listener.bind(name)
    finally:
        os.umask(before)
    listener.listen(64)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
