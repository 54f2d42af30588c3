"""A step's output, line by line as it comes, until the step is over."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airgate.errors import StepError
from airgate.redaction import LineRedactor
from airgate.runtime.forkserver_client import Exit

if TYPE_CHECKING:
    from airgate.runtime.process import RunningStep

CHUNK = 64 * 1024
# A step that prints no line ends must not fill the memory of the task.
LINE_LIMIT = 16 * 1024
LINE_END = re.compile(r"\r\n|\n|\r")


def follow(step: RunningStep, reader: int, say: Callable[[str], None]) -> Exit:
    """Give every line that arrives on the descriptor `reader` to `say`, and how the step ended when it did.

    What looks like a credential is replaced by *** before.
    The end of the step counts, not the end of the output: a stray grandchild may hold the pipe open for ever.
    `say` is called in the caller's thread. Raises what `step.wait` raises.
    """
    done, over = os.pipe()
    ends: list[Exit | BaseException] = []

    def wait() -> None:
        try:
            ends.append(step.wait())
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            ends.append(error)
        finally:
            os.close(over)

    threading.Thread(target=wait, name="step-end", daemon=True).start()
    lines = _Lines(say)
    try:
        _pump(reader, done, lines)
    finally:
        os.close(done)
    lines.close()
    end = ends[0] if ends else StepError("nobody can say how the step ended")
    if isinstance(end, BaseException):
        raise end
    return end


def _pump(reader: int, done: int, lines: _Lines) -> None:
    """Read until `done` is closed, then what is left without waiting for more."""
    os.set_blocking(reader, False)
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        selector.register(done, selectors.EVENT_READ)
        over = False
        while not over:
            ready = {key.fd for key, _ in selector.select()}
            over = done in ready
            if (over or reader in ready) and reader in selector.get_map() and _drain(reader, lines, whole=over):
                selector.unregister(reader)


def _drain(reader: int, lines: _Lines, *, whole: bool) -> bool:
    """Read one chunk, or all there is; True at the end of the output."""
    while True:
        try:
            data = os.read(reader, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            return True
        lines.feed(data)
        if not whole:
            return False


class _Lines:
    """Bytes in, lines out. A carriage return ends a line too: progress bars print nothing else."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._redact = LineRedactor()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        *whole, self._rest = LINE_END.split(self._rest + self._decode.decode(data))
        for line in whole:
            self._tell(line)
        while len(self._rest) > LINE_LIMIT:
            self._tell(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]

    def close(self) -> None:
        self.feed(b"")
        self._tell(self._rest + self._decode.decode(b"", final=True))
        self._rest = ""

    def _tell(self, line: str) -> None:
        shown = self._redact(line)
        if shown:
            with _time_limit_waits():
                self._say(shown)


@contextmanager
def _time_limit_waits() -> Iterator[None]:
    """Let SIGALRM, by which Airflow ends a task at its time limit, come afterwards.

    Its handler logs, and whoever writes to a log holds the log's lock: the handler would wait for its own thread, for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no handler runs here
        return
    came: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGALRM)
