"""How every `airgate` command speaks to whoever gave it."""

import sys


def say(line: str) -> None:
    """Print one line of an answer."""
    sys.stdout.write(f"{line}\n")


def plain(text: str) -> str:
    """Make text from elsewhere safe for a terminal and for one line: no control characters."""
    return "".join(char if char.isprintable() else " " for char in text)
