"""Steps that misbehave, for pods of the real image."""

import os
import signal
import time
from pathlib import Path


def work(mark: str, seconds: float) -> int:
    """Say that it runs, work for a while, and say how often it was begun."""
    with Path(mark).open("a") as file:
        file.write("begun\n")
    for second in range(int(seconds * 2)):
        print(f"step {second} of the work", flush=True)
        time.sleep(0.5)
    return len(Path(mark).read_text().splitlines())


def deaf(mark: str) -> int:
    """Hear no SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(mark).write_text("begun")
    time.sleep(600)
    return 1


def hungry(mebibytes: int) -> int:
    """Use so much memory."""
    return len(bytearray(os.urandom(2**20)) * mebibytes) // 2**20


def large(mebibytes: int) -> Path:
    """Give a file of this size."""
    path = Path(os.environ["TMPDIR"], "large.bin")
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(2**20))
    return path
