"""The warm parent of steps, a real one: what a child sees, and that nothing a child does harms the server."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.steps.results import result_of

from airgate.contracts import calls
from airgate.contracts.fork_protocol import address, supported
from airgate.errors import ConfigError, ContractError, StepError
from airgate.runtime.forkserver_client import Exit, ensure_server, run_in_fork, start_in_fork, stop_server
from airgate.steps import fork_request, forkserver_main

pytestmark = pytest.mark.skipif(not supported(), reason="the fork server needs Linux")


def start(server: Path, call) -> tuple[str, object]:
    """Start a call with its output thrown away."""
    url = calls.write_call(call)
    with Path(os.devnull).open("w") as null:
        return url, start_in_fork(server, url, os.environ, null.fileno(), null.fileno())


def until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs. One that ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_step_runs_in_a_fork(fork, make_call):
    found, result, output = fork(make_call("make", rows=3))
    assert found == Exit(code=0), output
    assert result.output.kind == "table"
    assert "airgate: toy.steps:make" in output


def test_the_exit_code_is_the_runners(fork, make_call):
    found, result, output = fork(make_call("refuse"))
    assert found == Exit(code=65)
    assert result.failure.error == "DataError"
    assert "column 'age'" in output
    assert fork(make_call("leak", url="x"))[0] == Exit(code=1)


def test_what_a_child_sees(fork, make_call, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secrets = {"AIRGATE_AUDIT_URL": "postgresql://a:b@c/d", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "x", "MY_TOKEN": "t"}
    _, result, _ = fork(make_call("seen"), **secrets, AWS_ACCESS_KEY_ID="for-the-store")
    seen = result.value
    assert not set(secrets) & set(seen["env"])
    assert seen["env"]["AWS_ACCESS_KEY_ID"] == "for-the-store"
    assert (seen["env"]["DO_NOT_TRACK"], seen["env"]["GX_ANALYTICS_ENABLED"]) == ("true", "false")
    assert Path(seen["cwd"]) == tmp_path
    assert seen["pid"] == seen["group"]
    assert seen["stdin"] == ""
    assert seen["files"] < 20
    pid = ensure_server(server, tmp_path / "unused.log")
    initial = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"secret" not in initial
    assert b"AIRFLOW__" not in initial, "the server was started with secrets in the caller's environment"


def test_children_do_not_share_random_numbers(fork, make_call):
    assert fork(make_call("seen"))[1].value["random"] != fork(make_call("seen", attempt=2))[1].value["random"]


def test_code_is_read_anew_for_each_step(fork, make_call, toy):
    assert fork(make_call("nothing"))[0] == Exit(code=0)
    (toy / "toy" / "steps.py").write_text("def fresh() -> int:\n    return 42\n")
    assert fork(make_call("fresh"))[1].value == 42


def test_thread_pools_are_as_wide_as_asked(fork, make_call):
    for width in (1, 2):
        found = fork(make_call("width", attempt=width), OMP_NUM_THREADS=str(width))[1]
        assert set(found.value) == {width}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_killed_child_is_reported_and_harms_nobody(fork, make_call, server, tmp_path, number):
    before = ensure_server(server, tmp_path / "log")
    found, result, _ = fork(make_call("signal_self", number=int(number)))
    assert found == Exit(signal=int(number))
    assert found.describe() == f"killed by {number.name}"
    assert result is None
    assert fork(make_call("nothing", task="after"))[0] == Exit(code=0)
    assert ensure_server(server, tmp_path / "log") == before


def test_a_child_that_vanishes(fork, make_call):
    found, result, _ = fork(make_call("vanish"))
    assert (found, result) == (Exit(code=7), None)
    assert found.describe() == "exit code 7"


def test_four_at_once(server, make_call, tmp_path):
    started = [start(server, make_call("nap", task=f"t{n}", seconds=30, mark=str(tmp_path / f"m{n}"))) for n in range(4)]
    marks = [tmp_path / f"m{n}" for n in range(4)]
    until(lambda: all(mark.exists() and mark.read_text() for mark in marks))
    os.kill(started[0][1].pid, signal.SIGKILL)
    assert started[0][1].wait() == Exit(signal=9)
    assert all(alive(step.pid) for _, step in started[1:])
    for _, step in started[1:]:
        step.kill()
    assert [step.wait() for _, step in started[1:]] == [Exit(code=143)] * 3
    folders = [Path(mark.read_text().split()[1]) for mark in marks]
    assert not any(folder.parent.exists() for folder in folders), "what a killed step left on disk is gone too"


def test_a_client_that_goes_away_ends_its_step(server, make_call, tmp_path):
    mark = tmp_path / "mark"
    url, step = start(server, make_call("nap", seconds=30, mark=str(mark)))
    until(lambda: mark.exists() and mark.read_text())
    step._connection.close()
    until(lambda: not alive(step.pid))
    assert result_of(url) is None


def test_kill_ends_the_steps_own_children_too(server, make_call, tmp_path):
    mark = tmp_path / "mark"
    _, step = start(server, make_call("family", mark=str(mark)))
    until(lambda: mark.exists() and mark.read_text())
    waiter = threading.Thread(target=step.wait)
    waiter.start()
    step.kill()
    step.kill()
    waiter.join(10)
    assert not waiter.is_alive()
    until(lambda: not alive(int(mark.read_text())))
    step.kill()


def ask(server: Path, data: bytes) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as client, address(server) as name:
        client.connect(name)
        client.sendall(data)
        return json.loads(client.recv(4096))


@pytest.mark.parametrize(("data", "text"), [
    (b"nonsense\n", "a request is a JSON object with 'op'"),
    (b'{"op": "format"}\n', "unknown op 'format'. Allowed: ping, run, stop"),
    (b'{"op": "run", "call_url": "u", "env": {}, "cwd": "/"}\n', "expected the descriptors of stdout and stderr, got 0"),
    (b'{"op": "run", "call_url": "u", "env": {"AIRGATE_AUDIT_URL": "x"}, "cwd": "/"}\n',
     "a step may not see AIRGATE_AUDIT_URL"),
    (b"[]\n", "a request is a JSON object"),
    (b"x" * 300_000, "a request has at most 262144 bytes"),
])
def test_bad_requests_are_refused(server, data, text):
    assert text in ask(server, data)["error"]
    assert "pid" in ask(server, b'{"op": "ping"}\n')


@pytest.mark.parametrize(("change", "text"), [
    ({"call_url": "--help"}, "'call_url' must be"), ({"env": {"PATH": 1}}, "'env' must map"),
    ({"cwd": "/nowhere"}, "folder that"),
])
def test_requests_that_are_not_whole(change, text):
    whole = {"call_url": "u", "env": {}, "cwd": "/"}
    fork_request.check(whole, [1, 2])
    with pytest.raises(fork_request.RefusedError, match=text):
        fork_request.check({**whole, **change}, [1, 2])


def test_a_folder_that_went_away_is_the_callers_error(server, make_call, tmp_path):
    with pytest.raises(ContractError, match="'cwd' must be a folder that exists"):
        start_in_fork(server, "u", {}, 1, 2, cwd=tmp_path / "gone")


def test_no_server(tmp_path):
    with pytest.raises(StepError, match=r"no step server answers on .*Start one with ensure_server"):
        run_in_fork(tmp_path / "none.sock", "u", {}, 1, 2)
    assert stop_server(tmp_path / "none.sock") is False


def test_a_server_of_its_own_with_a_long_path(tmp_path, make_call):
    """Ten at once start one server; it ends when stopped, and takes its steps with it."""
    server = tmp_path / ("x" * 80) / "run" / "steps.sock"
    assert len(str(server)) > 107
    said, pids = [], []

    def ensure() -> None:
        pids.append(ensure_server(server, tmp_path / "log", arguments=("--preload", ""), progress=said.append))

    askers = [threading.Thread(target=ensure) for _ in range(10)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    assert len(set(pids)) == 1
    assert len(pids) == 10
    mark = tmp_path / "mark"
    _, step = start(server, make_call("nap", seconds=30, mark=str(mark)))
    until(lambda: mark.exists() and mark.read_text(), 30)
    assert stop_server(server) is True
    assert step.wait() == Exit(code=143)
    assert not alive(step.pid)
    assert not server.exists()
    assert ensure_server(server, tmp_path / "log", arguments=("--preload", "", "--idle-seconds", "0.2")) != pids[0]
    until(lambda: not server.exists())
    assert "idle for 0.2 s" in (tmp_path / "log").read_text()


def test_a_killed_servers_steps_die_with_it(tmp_path, make_call):
    server = tmp_path / "run" / "steps.sock"
    pid = ensure_server(server, tmp_path / "log", arguments=("--preload", ""))
    mark = tmp_path / "mark"
    _, step = start(server, make_call("nap", seconds=30, mark=str(mark)))
    until(lambda: mark.exists() and mark.read_text(), 30)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(StepError, match="the step server ended while step process"):
        step.wait()
    until(lambda: not alive(step.pid))
    os.waitpid(pid, 0)


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(ConfigError, match=r"ended before it was ready\. Its log, .*unrecognized arguments: --nonsense"):
        ensure_server(tmp_path / "run" / "s.sock", tmp_path / "log", arguments=("--nonsense",))
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="others could reach the socket in it.*chmod 700"):
        ensure_server(tmp_path / "open" / "s.sock", tmp_path / "log")
    with pytest.raises(ConfigError, match="cannot be started with /no/python"):
        ensure_server(tmp_path / "run" / "s.sock", tmp_path / "log", python="/no/python")


def test_a_library_that_starts_a_thread_makes_forking_unsafe(tmp_path):
    (tmp_path / "busy.py").write_text("import threading, time\n"
                                      "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n")
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2] / 'include'}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-m", "airgate.steps.forkserver", str(tmp_path / "run" / "s.sock"),
                           "--preload", "busy,no_such_library"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == forkserver_main.UNFIT_TO_FORK
    assert "threads are alive after loading" in done.stdout
    assert "not loaded: no_such_library: ModuleNotFoundError" in done.stdout


def test_the_client_is_light():
    """An operator imports it in every task: no heavy library, and none of the heavy plane."""
    program = ("import sys, airgate.runtime.forkserver_client, airgate.contracts.calls\n"
               "print([m for m in sys.modules if m.split('.')[0] in ('pandas', 'numpy', 'fsspec', 'mlflow', 'pyarrow')"
               " or m.startswith('airgate.steps')])")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "include")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
