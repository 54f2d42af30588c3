"""A step's output reaches the task's log line by line, and the step's end ends the reading."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.errors import StepError
from airgate.runtime.forkserver_client import Exit
from airgate.runtime.output import LINE_LIMIT, follow


class Process:
    """A child of the test, as a runtime would hold it."""

    def __init__(self, code: str) -> None:
        self.reader, writer = os.pipe()
        self.child = subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=writer)
        os.close(writer)

    def wait(self) -> Exit:
        return Exit(code=self.child.wait())

    def kill(self) -> None:
        self.child.kill()


class Said:
    """A step that is over at once; what it printed lies in the pipe."""

    def __init__(self, data: bytes, error: BaseException | None = None) -> None:
        self.reader, writer = os.pipe()
        self.error = error
        self.written = threading.Event()
        threading.Thread(target=self._write, args=(writer, data), daemon=True).start()

    def _write(self, writer: int, data: bytes) -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(data)
        self.written.set()

    def wait(self) -> Exit:
        self.written.wait()
        if self.error:
            raise self.error
        return Exit(code=0)

    def kill(self) -> None:
        """It is over."""


def lines_of(step: Process | Said) -> tuple[list[str], Exit]:
    lines: list[str] = []
    try:
        return lines, follow(step, step.reader, lines.append)
    finally:
        os.close(step.reader)


def test_lines_come_whole_and_in_order() -> None:
    lines, end = lines_of(Process("import sys\nprint('one', flush=True)\nprint('two', file=sys.stderr)\nsys.exit(3)"))
    assert lines == ["one", "two"] and end == Exit(code=3)


def test_the_steps_end_counts_though_a_grandchild_holds_the_pipe() -> None:
    code = ("import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])\n"
            "print(child.pid)")
    lines, end = lines_of(Process(code))
    os.kill(int(lines[0]), 9)
    assert end == Exit(code=0)


def test_a_carriage_return_ends_a_line() -> None:
    assert lines_of(Said(b"10%\r50%\r100%\nready"))[0] == ["10%", "50%", "100%", "ready"]


def test_bytes_that_are_no_text_do_not_stop_the_log() -> None:
    assert lines_of(Said(b"a\xff b\n\xe2\x82"))[0] == ["a\ufffd b", "\ufffd"]


def test_a_line_without_end_comes_in_pieces() -> None:
    lines, _ = lines_of(Said(b"x" * (3 * LINE_LIMIT + 5)))
    assert [len(line) for line in lines] == [LINE_LIMIT] * 3 + [5]


def test_an_end_that_nobody_saw_is_raised_after_the_output() -> None:
    step = Said(b"last words\n", StepError("the step server ended"))
    lines: list[str] = []
    with pytest.raises(StepError, match="the step server ended"):
        follow(step, step.reader, lines.append)
    os.close(step.reader)
    assert lines == ["last words"]


TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1, max_size=50)


@given(st.lists(TEXT, max_size=30))
def test_any_text_comes_through(texts: list[str]) -> None:
    assert lines_of(Said("\n".join(texts).encode()))[0] == texts


def test_a_time_limit_that_comes_while_a_line_is_told_waits_until_it_is() -> None:
    """Airflow's handler logs, and whoever writes to a log holds its lock: the handler would wait for its own thread, for ever."""
    log, told = threading.Lock(), []

    def over(*_: object) -> None:
        assert log.acquire(blocking=False), "a line is being written"
        log.release()
        told.append("over")

    def say(line: str) -> None:
        with log:
            signal.raise_signal(signal.SIGALRM)
            told.append(line)

    before = signal.signal(signal.SIGALRM, over)
    try:
        step = Said(b"one\ntwo\n")
        follow(step, step.reader, say)
        assert told == ["one", "over", "two", "over"]
        assert signal.getsignal(signal.SIGALRM) is over
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(step.reader)
