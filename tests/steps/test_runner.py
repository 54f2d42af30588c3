"""One call from its URL to its result, in this process and as the pod runs it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.steps.results import result_of

from airgate.contracts import calls
from airgate.contracts.step import StepCall, StepResult
from airgate.steps import runner
from airgate.steps.store import ArtifactStore

INCLUDE = str(Path(__file__).parents[2] / "include")


def run(call: StepCall) -> tuple[int, StepResult]:
    url = calls.write_call(call)
    code = runner.main([url])
    result = result_of(url)
    assert result is not None
    return code, result


def test_a_chain_of_steps(make_call, capsys):
    code, made = run(make_call("make", task="make", rows=4))
    assert (code, made.failure) == (0, None)
    assert made.output.kind == "table"
    assert made.metrics == {"rows": 4.0}
    assert made.facts == {"revision": "abc"}
    assert made.attachments["report.html"].size == len("<p>made</p>")
    assert made.environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"fetch", "call", "store", "log"} <= set(made.seconds)
    code, summed = run(make_call("total", inputs={"data": made.output}, facts=made.facts, scale=2))
    assert (code, summed.value, summed.output.kind) == (0, {"sum": 12}, "json")
    assert summed.facts == {"revision": "abc"}, "facts flow on"
    _, contract = run(make_call("summary", inputs={"data": made.output}))
    assert contract.value == {"total": 6, "mean": 0.5}
    assert run(make_call("read_summary", inputs={"found": contract.output}))[1].value == 6
    out = capsys.readouterr().out
    assert "airgate: toy.steps:make for toy_training, run manual__2026-01-08T00:00:00+00:00, task make, try 1\n" in out
    assert "airgate: fetch 0.0" in out


def test_files_and_nothing(make_call, tmp_path):
    store = ArtifactStore(str(tmp_path / "store"))
    (tmp_path / "x").write_text("ab")
    _, result = run(make_call("lines", inputs={"path": store.put_file(tmp_path / "x")}))
    assert store.fetch(result.output, tmp_path / "y").read_text() == "abab"
    code, empty = run(make_call("nothing"))
    assert (code, empty.output, empty.value, empty.failure) == (0, None, None, None)


def test_refused_data_is_not_worth_another_try(make_call, capsys):
    code, result = run(make_call("refuse"))
    assert code == 65
    assert result.output is None
    failure = result.failure
    assert (failure.error, failure.message, failure.retryable) == ("DataError", "column 'age': 3 rows below 0", False)
    assert "in refuse" in failure.traceback
    assert "runner.py" not in failure.traceback
    assert set(result.attachments) == {"why.json"}, "a failed step's report says why"
    assert result.metrics == {"bad_rows": 3.0}
    assert "no other try can help" in capsys.readouterr().err


def test_secrets_stay_out_of_a_failure(make_call, capsys):
    code, result = run(make_call("leak", url="postgresql://ana:s3cret@db/x"))
    assert (code, result.failure.retryable) == (1, True)
    assert result.failure.message == "cannot reach postgresql://***@db/x, password='***'"
    for text in (result.model_dump_json(), capsys.readouterr().err):
        assert "s3cret" not in text
        assert "abc123" not in text
        assert "hunter2" not in text


@pytest.mark.parametrize(("function", "code", "error", "text"), [
    ("nan", 1, "StepError", r"value.scores[1] is nan, which JSON does not have"),
    ("wrong", 65, "WiringError", "what the step returned does not fit its annotation dict[str, int]"),
    ("leave", 1, "StepError", "the step called sys.exit(3)"),
    ("absent", 65, "WiringError", "models.toy.steps has no function 'absent'; "),
    ("mak", 65, "WiringError", "did you mean 'make'?"),
    ("other.steps:f", 65, "WiringError", "there is no module 'models.other' here"),
    ("airgate.steps.nowhere:f", 65, "WiringError", "there is no module 'airgate.steps.nowhere' here"),
])
def test_what_goes_wrong_is_told(make_call, function, code, error, text):
    got, result = run(make_call(function))
    assert (got, result.failure.error) == (code, error)
    assert text in result.failure.message
    assert result.output is None


@pytest.mark.parametrize(("function", "parameters", "text"), [
    ("make", {}, "no value for rows"), ("make", {"rows": 1, "row": 2}, "takes no argument 'row'; did you mean 'rows'?"),
    ("make", {"rows": "many"}, "argument 'rows' does not fit its annotation int"),
    ("make", {"rows": 1, "ctx": {}}, "takes no argument 'ctx'"),
])
def test_arguments_that_do_not_fit(make_call, function, parameters, text):
    code, result = run(make_call(function, **parameters))
    assert code == 65
    assert text in result.failure.message


def test_changed_input_is_not_worth_another_try(make_call, tmp_path):
    _, made = run(make_call("make", rows=4))
    blob = Path(made.output.uri.removeprefix("file://"))
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[::-1])
    code, result = run(make_call("total", inputs={"data": made.output}))
    assert (code, result.failure.error) == (65, "DigestError")
    assert made.output.digest in result.failure.message
    blob.unlink()
    code, result = run(make_call("total", inputs={"data": made.output}))
    assert (code, result.failure.error) == (1, "MissingArtifactError")


def test_a_module_that_needs_what_is_not_there(make_call, toy):
    (toy / "toy" / "steps.py").write_text("import no_such_library\n")
    assert "needs 'no_such_library', which is not installed" in run(make_call("make"))[1].failure.message
    (toy / "toy" / "steps.py").write_text("def broken(:\n")
    os.utime(toy / "toy" / "steps.py", (1, 1))
    code, result = run(make_call("make"))
    assert code == 65
    assert "cannot be imported: SyntaxError" in result.failure.message


def test_the_workdir_is_gone_afterwards(make_call, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run(make_call("make", rows=1))
    run(make_call("refuse"))
    assert not list(tmp_path.glob("airgate-step-*"))


def test_a_call_that_is_not_there(tmp_path, capsys):
    folder = tmp_path / f"0a1b2c3d-{hashlib.sha256(b'{}').hexdigest()}"
    folder.mkdir()
    assert runner.main([f"file://{folder}/call.json"]) == 1
    assert "there is no call" in capsys.readouterr().err
    (folder / "call.json").write_text("{}")
    assert runner.main([f"file://{folder}/call.json"]) == 65
    (folder / "call.json").write_text("{ }")
    assert runner.main([f"file://{folder}/call.json"]) == 65
    assert "Somebody changed it after it was written" in capsys.readouterr().err
    assert runner.main([]) == 64


def spawn(url: str, tmp_path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": INCLUDE, "TMPDIR": str(tmp_path)}
    return subprocess.Popen([sys.executable, "-m", "airgate.steps.runner", url], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_as_a_process_that_is_told_to_stop(make_call, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    url = calls.write_call(make_call("nap", seconds=60, mark=str(tmp_path / "mark")))
    process = spawn(url, scratch)
    wait_for(tmp_path / "mark")
    assert len(list(scratch.iterdir())) == 1
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert time.monotonic() - begin < 5
    assert "told to stop (SIGTERM); no result was written" in output
    assert result_of(url) is None
    assert list(scratch.iterdir()) == []


def test_the_result_is_plain_json_and_has_a_receipt(make_call, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRGATE_RECEIPT_FILE", str(tmp_path / "receipt"))
    url = calls.write_call(make_call("make", rows=1))
    runner.main([url])
    data = Path(calls.result_url(url).removeprefix("file://")).read_bytes()
    assert (tmp_path / "receipt").read_text() == f"sha256:{hashlib.sha256(data).hexdigest()}\n"
    found = json.loads(data)
    assert found["schema_version"] == 1
    assert found["failure"] is None


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")
