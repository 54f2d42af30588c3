"""The demo, whole, in an installation of its own: interrupted once, then flown to its end, then stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from airgate.platform import environment, services
from airgate.platform.layout import Layout
from airgate.platform.processes import Processes

ROOT = Path(__file__).parents[2]
LIMIT = 900  # seconds; two minutes on two quiet cores, the start included

pytestmark = [pytest.mark.flight, pytest.mark.timeout(2 * LIMIT)]


def command(*words, home):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRGATE_", "AIRFLOW"))}
    environment |= {"AIRGATE_HOME": str(home), "PYTHONPATH": str(ROOT / "include")}
    # A shell that starts the tests in the background has told its children to ignore Ctrl-C.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from airgate.cli import main; sys.exit(main())")
    return {"args": [sys.executable, "-c", code, *words], "env": environment, "cwd": ROOT, "text": True}


def airgate(*words, home):
    done = subprocess.run(**command(*words, home=home), capture_output=True, timeout=LIMIT, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose path has a space in it; whatever happens, nothing is left running."""
    place = tmp_path_factory.mktemp("installation") / "air gate"
    yield place
    airgate("down", home=place)


@pytest.fixture(scope="module")
def interrupted(home):
    """The demo, stopped with Ctrl-C as soon as its first run has begun. Gives its exit code and what it said."""
    said = []
    with subprocess.Popen(**command("demo", home=home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as demo:
        for line in demo.stdout:
            said.append(line)
            if "started for" in line:
                demo.send_signal(signal.SIGINT)
    return demo.returncode, "".join(said)


@pytest.fixture(scope="module")
def flown(home, interrupted):
    """The demo again, to its end."""
    return airgate("demo", home=home)


def test_an_interrupted_demo_says_how_to_go_on(interrupted, home):
    code, said = interrupted
    assert code == 130, said
    assert "`make demo`" in said
    assert "`make down`" in said
    assert airgate("status", home=home)[0] == 0, "Airflow goes on"


def test_the_demo_ends_well(flown):
    code, said = flown
    assert code == 0, said
    assert "integrity: ok" in said
    assert "completeness: ok" in said


def test_two_versions_were_promoted_by_two_people_each(flown):
    promoted = re.findall(r"version (\d+): (ana|omar) approved as (\w+)", flown[1])
    by_version = {}
    for version, person, _ in promoted:
        by_version.setdefault(version, set()).add(person)
    # two of this demo, and the one that the interrupted demo had asked for
    assert list(by_version.values()) == [{"ana", "omar"}] * 3, flown[1]


def test_drift_led_to_the_second_version(flown):
    assert re.search(r"2026-01-10: drift, \d+% of the columns differ", flown[1])
    assert "governor: retrain" in flown[1]


def test_predictions_are_on_disk(flown):
    files = re.findall(r"rows by version \d+: (/.*\.parquet)", flown[1])
    assert len(files) == 2
    assert all(Path(file).stat().st_size for file in files)


def test_no_password_is_in_a_log_or_on_a_command_line(flown, home):
    from airgate.platform import credentials

    secrets = credentials.ensure(Layout(root=ROOT, home=home))
    values = {name: value.encode() for name, value in {**secrets.keys, **secrets.passwords}.items()}
    for log in [*home.glob("logs/*.log"), *home.glob("airflow/logs/**/*.log")]:
        content = log.read_bytes()
        assert [name for name, value in values.items() if value in content] == [], log
    for process in psutil.process_iter(["cmdline"]):
        line = "\0".join(process.info["cmdline"] or []).encode()
        assert [name for name, value in values.items() if value in line] == [], process


def test_down_stops_everything_and_nothing_else(flown, home):
    processes = Processes(home / "run", home / "logs")
    expected = services.expected(environment.find(Layout(root=ROOT, home=home)))
    ours = {process.pid for name in expected if (process := processes.find(name))}
    assert len(ours) == len(expected)
    descendants = {child.pid for pid in ours for child in psutil.Process(pid).children(recursive=True)}
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        code, said = airgate("down", home=home)
        assert code == 0, said
        deadline = time.monotonic() + 10
        while (left := {pid for pid in ours | descendants if alive(pid)}) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
        assert stranger.poll() is None
        assert airgate("down", home=home) == (0, "nothing was running\n")
    finally:
        stranger.kill()
        stranger.wait()


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
