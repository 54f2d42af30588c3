"""What the commands print. Plain lines, so that a log file reads like the terminal."""

import sys
import time


def say(text: str = "") -> None:
    """One line to the person at the terminal, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Progress:
    """Lines with the seconds since the start and how far we are."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._count = 0
        self._began = time.monotonic()

    def tell(self, name: str) -> None:
        """One more part is done."""
        self._count += 1
        self.done(f"{self._what} {self._count}/{self._total}: {name}")

    def done(self, text: str) -> None:
        """A line with the time, without counting."""
        say(f"[{time.monotonic() - self._began:5.1f} s] {text}")
