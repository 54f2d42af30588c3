"""Where calls live and how they are read back."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts import calls, small_files
from airgate.contracts.fork_protocol import server_environment, step_environment
from airgate.contracts.step import RunContext, StepCall, StepResult
from airgate.errors import ArtifactError, ContractError, DigestError, FencedError


@pytest.fixture(params=["file://{}", "{}", "memory://{}", "s3"])
def store(request, tmp_path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/store"
    return request.param.format(tmp_path / "store")


def run(**changes) -> RunContext:
    values = {"dag_id": "d", "run_id": "manual__2026-01-08T00:00:00+00:00", "task_id": "train", "try_number": 2,
              "actor": "user:ana", "code_version": "c", "image": "local"}
    return RunContext(**{**values, **changes})


def call(store: str, **changes) -> StepCall:
    return StepCall(function="toy.steps:train", parameters={"revision": None}, run=run(**changes), store=store)


def result() -> StepResult:
    return StepResult(value={"a": None}, started_at=datetime(2026, 1, 8, tzinfo=UTC))


def test_a_call_lies_under_its_ids():
    assert calls.call_url("file:///store/", run(), "ab12") == (
        "file:///store/calls/d/manual__2026-01-08T00%3A00%3A00%2B00%3A00/train/-1/2/ab12/call.json")


@given(st.text(min_size=1, max_size=300).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_no_id_leads_out_of_its_folder(name):
    parts = calls.call_url("file:///store", run(run_id=name), "ab12").removeprefix("file:///store/").split("/")
    assert len(parts) == 8
    assert parts[2] not in ("", ".", "..")
    assert parts[2].isascii()
    assert len(parts[2]) <= 255


@given(st.sets(st.text(alphabet="ab./%~é", min_size=1, max_size=120), min_size=2, max_size=2))
def test_two_runs_never_share_a_place(names):
    first, second = (calls.call_url("s", run(run_id=name), "ab12") for name in names)
    assert first != second


def test_round_trip(store):
    made = call(store)
    url = calls.write_call(made)
    assert calls.read_call(url) == made
    assert calls.read_result(url, "0" * 64) is None
    digest = calls.write_result(url, result())
    assert calls.read_result(url, digest) == result()
    again = calls.write_call(made)
    assert calls.read_result(again, digest) is None, "an answer to an earlier call must not be taken for one to this"
    assert calls.read_result(url, digest) == result()


@pytest.mark.attack("call.json rewritten in the store by someone else: the step is not run")
def test_a_call_that_was_rewritten_is_refused(store):
    url = calls.write_call(call(store))
    small_files.write_bytes(url, small_files.read_bytes(url).replace(b"toy.steps:train", b"toy.steps:steal"))
    with pytest.raises(DigestError, match="expected sha256:.*, found sha256:.*Somebody changed it"):
        calls.read_call(url)


@pytest.mark.attack("result.json rewritten in the store by someone else: it counts for nothing")
def test_a_result_that_was_rewritten_is_refused(store):
    url = calls.write_call(call(store))
    digest = calls.write_result(url, result())
    forged = calls.write_result(url, result().model_copy(update={"metrics": {"auc": 1.0}}))
    with pytest.raises(DigestError, match="Somebody changed it"):
        calls.read_result(url, digest)
    assert calls.read_result(url, forged) is not None
    assert calls.read_result(url, None) is None, "without a receipt nobody knows whose it is"


def test_a_url_that_promises_no_call_is_refused(tmp_path):
    path = tmp_path / "ab12" / "call.json"
    small_files.replace_file(path, call("s").model_dump_json().encode())
    with pytest.raises(ContractError, match="nobody can tell whether the call is the one that was asked"):
        calls.read_call(f"file://{path}")


def test_a_launch_shuts_out_the_earlier_ones_of_its_task(store):
    first = calls.write_call(call(store))
    calls.check_fence(first)
    second = calls.write_call(call(store, try_number=3))
    calls.check_fence(second)
    with pytest.raises(FencedError, match=r"launch 2/\S+ of this task may write nothing any more: launch 3/\S+ took over"):
        calls.check_fence(first)
    other = calls.write_call(call(store, task_id="load"))
    calls.check_fence(other)
    calls.check_fence(second)
    calls.let_write(first)  # its pod was adopted
    calls.check_fence(first)
    with pytest.raises(FencedError):
        calls.check_fence(second)


def test_without_a_fence_everyone_may_write(tmp_path):
    calls.check_fence(f"file://{tmp_path}/calls/d/r/t/-1/1/ab12/call.json")


def test_a_write_leaves_no_half(tmp_path):
    url = calls.write_call(call(f"file://{tmp_path}"))
    calls.write_result(url, result())
    assert sorted(path.name for path in Path(url.removeprefix("file://")).parent.iterdir()) == ["call.json", "result.json"]


def test_a_store_that_cannot_be_written_is_an_artifact_error(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(ArtifactError, match=r"call\.json: .*Check that the artifact store is there"):
        calls.write_call(call(f"file://{tmp_path}/store"))


def test_a_missing_call_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match="there is no call"):
        calls.read_call(f"file://{tmp_path}/0a1b2c3d-{'0' * 64}/call.json")


def test_another_schema_version_says_so(tmp_path):
    data = call("s").model_dump_json().replace('"schema_version":1', '"schema_version":2').encode()
    path = tmp_path / f"0a1b2c3d-{hashlib.sha256(data).hexdigest()}" / "call.json"
    small_files.replace_file(path, data)
    with pytest.raises(ContractError, match=r"schema_version is 2, this Airgate reads 1\. .*upgrade the older one"):
        calls.read_call(str(path))


def test_a_broken_result_names_keys_and_no_values(tmp_path):
    data = b'{"started_at": "2026-01-08T00:00:00Z", "metrics": {"auc": "s3cret"}, "extra": 1}'
    (tmp_path / "result.json").write_bytes(data)
    with pytest.raises(ContractError) as caught:
        calls.read_result(f"file://{tmp_path}/call.json", hashlib.sha256(data).hexdigest())
    assert "metrics.auc" in str(caught.value)
    assert "extra: Extra inputs" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_url_that_names_no_call():
    with pytest.raises(ContractError, match=r"ends in /call\.json"):
        calls.result_url("file:///store/result.json")


def test_what_a_step_and_the_server_may_see():
    given = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "AWS_SECRET_ACCESS_KEY": "k", "AIRGATE_AUDIT_URL": "a", "AIRFLOW__X": "y",
             "AIRGATE_MLFLOW_URI": "m", "DATABASE_URL": "d", "AIRGATE_AIRFLOW_API": "u"}
    assert set(step_environment(given)) == {"PATH", "LC_ALL", "AWS_SECRET_ACCESS_KEY", "AIRGATE_MLFLOW_URI"}
    served = server_environment(given)
    assert set(served) - {"DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED", "DVC_NO_ANALYTICS"} == {
        "PATH", "LC_ALL"}
