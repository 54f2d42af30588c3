import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from airgate.platform.processes import Processes, Service, memory

SLEEPER = "import time; print('awake', flush=True); time.sleep(600)"
# A parent that starts a child in the same session and a stubborn grandchild that ignores SIGTERM.
FAMILY = """
import subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes(tmp_path):
    for folder in ("run", "logs"):
        (tmp_path / folder).mkdir()
    found = Processes(tmp_path / "run", tmp_path / "logs")
    yield found
    for name in found.names():
        found.stop(name, patience=2, grace=0.2)


def service(tmp_path: Path, code: str = SLEEPER, name: str = "sleeper") -> Service:
    return Service(name, [sys.executable, "-c", code], dict(os.environ), tmp_path)


def first_line(processes: Processes, name: str) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(IndexError, FileNotFoundError):
            return processes.log(name).read_text().splitlines()[0]
        time.sleep(0.02)
    raise AssertionError("the process said nothing")


def test_a_started_process_is_found_and_stopped(processes, tmp_path):
    started = processes.start(service(tmp_path))
    assert processes.find("sleeper") == started
    assert os.getsid(started.pid) == started.pid, "it must not share the terminal's session"
    assert processes.stop("sleeper")
    assert not psutil.pid_exists(started.pid)
    assert processes.names() == []


def test_starting_twice_starts_once(processes, tmp_path):
    assert processes.start(service(tmp_path)).pid == processes.start(service(tmp_path)).pid


def test_a_reused_pid_is_a_stranger(processes, tmp_path):
    """The record's pid lives, but began at another time: it is somebody else and is left alone."""
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE)
    try:
        began = psutil.Process(stranger.pid).create_time()
        record = {"pid": stranger.pid, "started": began - 3600, "stop_signal": int(signal.SIGTERM)}
        (processes.folder / "sleeper.json").write_text(json.dumps(record))
        assert processes.find("sleeper") is None
        assert not processes.stop("sleeper")
        assert stranger.poll() is None, "a stranger was killed"
    finally:
        stranger.kill()
        stranger.communicate()


@pytest.mark.parametrize("again", [False, True], ids=["not started again", "started again"])
def test_what_a_killed_process_left_is_stopped_too(processes, tmp_path, again):
    """Airflow's scheduler, killed, leaves its workers: they may finish what they do, but `down` finds them."""
    leader = processes.start(service(tmp_path, FAMILY))
    orphan = psutil.Process(int(first_line(processes, "sleeper")))
    leader.kill()
    leader.wait()
    if again:
        assert processes.start(service(tmp_path)).pid != leader.pid
        processes.start(service(tmp_path))
    assert orphan.is_running(), "what it does may be worth finishing"
    assert processes.stop("sleeper", patience=2, grace=0.2)
    assert not orphan.is_running()
    assert processes.names() == []


def test_stop_leaves_others_alone(processes, tmp_path):
    one, other = processes.start(service(tmp_path, name="one")), processes.start(service(tmp_path, name="other"))
    assert processes.stop("one")
    assert not psutil.pid_exists(one.pid)
    assert processes.find("other") == other


def test_stop_ends_stubborn_descendants(processes, tmp_path):
    processes.start(service(tmp_path, FAMILY, "family"))
    child = int(first_line(processes, "family"))
    assert processes.stop("family", grace=0.2)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_stop_ends_what_a_killed_parent_left(processes, tmp_path):
    """The leader dies at once at SIGTERM; its orphan stays in the leader's session and is found there."""
    leader = processes.start(service(tmp_path, FAMILY, "family"))
    child = int(first_line(processes, "family"))
    assert os.getsid(child) == leader.pid
    assert processes.stop("family", patience=5, grace=0.2)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_ended_is_not_found(processes, tmp_path):
    started = processes.start(service(tmp_path, "print('bye')"))
    os.waitpid(started.pid, 0)
    assert processes.find("sleeper") is None
    assert not processes.stop("sleeper")


def test_a_record_that_cannot_be_used_is_no_process(processes):
    (processes.folder / "odd.json").write_text("{}")
    assert processes.find("odd") is None


def test_the_stop_signal_is_the_services_own(processes, tmp_path):
    code = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(print('fast', flush=True))); " \
           "print('awake', flush=True); signal.pause()"
    processes.start(Service("polite", [sys.executable, "-c", code], dict(os.environ), tmp_path, stop_signal=signal.SIGINT))
    assert first_line(processes, "polite") == "awake"
    processes.stop("polite")
    assert processes.last_lines("polite") == "awake\nfast"


def test_last_lines_of_a_log_that_is_not_there(processes):
    assert processes.last_lines("nobody") == "(no log)"


def test_records_are_private_and_hold_no_environment(processes, tmp_path):
    secret = Service("sleeper", [sys.executable, "-c", SLEEPER], {**os.environ, "PASSWORD": "hunter2"}, tmp_path)
    processes.start(secret)
    record = processes.folder / "sleeper.json"
    assert record.stat().st_mode & 0o777 == 0o600
    assert "hunter2" not in record.read_text() + repr(secret)


def test_memory_counts_descendants(processes, tmp_path):
    leader = processes.start(service(tmp_path, FAMILY, "family"))
    first_line(processes, "family")
    assert memory(leader) > memory(leader.children()[0]) > 0
