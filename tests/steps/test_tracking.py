"""One MLflow run for a DAG run, on a real MLflow with SQLite behind it."""

import os
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from tests.steps.results import result_of

from airgate.contracts import calls
from airgate.contracts.model_spec import load_spec
from airgate.contracts.step import StepResult
from airgate.steps import runner, tracking

# MLflow's own code, when it is imported or opens its database.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

MODELS = Path(__file__).parents[2] / "include" / "models"


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """Making MLflow's tables takes seconds: once for all tests, each of which has a run id of its own."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def run(make_call, uri, request, tmp_path):
    """Runs a step of this test's DAG run, with MLflow."""

    def go(function: str, **more) -> StepResult:
        url = calls.write_call(make_call(function, run_id=request.node.name, tracking_uri=uri, **more))
        runner.main([url])
        result = result_of(url)
        assert result is not None
        return result

    return go


def read(uri: str, run_id: str) -> Run:
    return MlflowClient(uri).get_run(run_id)


def test_steps_share_one_run(run, uri):
    made = run("make", task="load", rows=3)
    summed = run("total", task="sum", inputs={"data": made.output}, mlflow_run_id=made.mlflow_run_id, scale=2.5)
    assert summed.mlflow_run_id == made.mlflow_run_id
    found = read(uri, made.mlflow_run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "test_steps_share_one_run"
    assert found.data.params == {"load.rows": "3", "sum.scale": "2.5"}
    assert found.data.metrics == {"rows": 3.0}
    tags = {name: value for name, value in found.data.tags.items() if name.startswith("airgate.")}
    assert tags == {"airgate.dag_id": "toy_training", "airgate.run_id": "test_steps_share_one_run", "airgate.image": "local",
                    "airgate.code_version": "c0ffee", "airgate.actor": "user:ana", "airgate.fact.revision": "abc"}
    [dataset] = found.inputs.dataset_inputs
    assert dataset.dataset.name == "data"
    assert made.output.digest[7:].startswith(dataset.dataset.digest)
    assert {tag.key: tag.value for tag in dataset.tags} == {
        "mlflow.data.context": "sum", "airgate.digest": made.output.digest}


def test_reports_lie_beside_the_store_not_in_the_working_directory(run, uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("make", task="load", rows=1)
    listed = [entry.path for entry in MlflowClient(uri).list_artifacts(result.mlflow_run_id, "load")]
    assert listed == ["load/report.html"]
    assert not (tmp_path / "mlruns").exists()
    assert "/store/mlflow/toy_training/" in read(uri, result.mlflow_run_id).info.artifact_uri


def test_a_failed_step_fails_the_run_until_it_succeeds(run, uri):
    failed = run("refuse", task="check")
    run_id = failed.mlflow_run_id
    assert read(uri, run_id).info.status == "FAILED"
    assert read(uri, run_id).data.tags["airgate.failed.check"] == "DataError: column 'age': 3 rows below 0"
    run("nothing", task="other", mlflow_run_id=run_id)
    assert read(uri, run_id).info.status == "FAILED", "another step's success does not make up for it"
    run("nothing", task="check", mlflow_run_id=run_id, attempt=2)
    assert read(uri, run_id).info.status == "FINISHED"
    assert "airgate.failed.check" not in read(uri, run_id).data.tags


def test_a_try_after_a_killed_one_takes_up_its_run(run, uri, make_call, request):
    opened = tracking.open_run(make_call("make", run_id=request.node.name, tracking_uri=uri))
    assert read(uri, opened.run_id).info.status == "RUNNING"
    result = run("make", task="load", rows=1, attempt=2)
    assert result.mlflow_run_id == opened.run_id
    assert read(uri, opened.run_id).info.status == "FINISHED"


def test_a_parameter_that_changed_is_kept_beside_the_first(run, uri):
    first = run("make", task="load", rows=1)
    again = run("make", task="load", rows=2, attempt=2, mlflow_run_id=first.mlflow_run_id)
    assert again.failure is None
    assert read(uri, first.mlflow_run_id).data.params == {"load.rows": "1", "load.rows.try2": "2"}


def test_a_model_has_an_experiment_of_its_name_and_its_settings(run, uri):
    result = run("make", task="load", rows=1, spec=load_spec(MODELS / "diagnosis_classifier"))
    found = read(uri, result.mlflow_run_id)
    assert MlflowClient(uri).get_experiment(found.info.experiment_id).name == "diagnosis_classifier"
    assert found.data.params["model.seed"].isdigit()
    assert any(name.startswith("model.parameters.") for name in found.data.params)
    assert found.data.tags["airgate.gates_hash"].startswith("sha256:")


def test_long_and_odd_names_fit_mlflow(run, uri):
    result = run("make", task="Lädt·Daten", map_index=3, rows=1)
    assert result.failure is None
    assert list(read(uri, result.mlflow_run_id).data.params) == ["Lädt_Daten.3.rows"]


def test_many_entries_are_written_in_parts(make_call, uri, request):
    opened = tracking.open_run(make_call("make", run_id=request.node.name, tracking_uri=uri))
    opened.finish(tracking.Entries(
        parameters={f"p{n}": {"x": n} for n in range(150)}, metrics={f"m{n}": float(n) for n in range(250)}, attachments={},
        inputs={}, facts={f"f{n}": "x" * 9000 for n in range(120)}))
    found = read(uri, opened.run_id)
    assert len(found.data.params) == 150
    assert len(found.data.metrics) == 250
    assert found.data.params["step.p149.x"] == "149"
    assert sum(name.startswith("airgate.fact.") for name in found.data.tags) == 120


def test_an_attachment_under_another_name(make_call, uri, request, tmp_path):
    (tmp_path / "drawn").write_text("x")
    opened = tracking.open_run(make_call("make", run_id=request.node.name, tracking_uri=uri))
    opened.finish(tracking.Entries({}, {}, {"curve.svg": tmp_path / "drawn"}, {}, {}))
    assert [entry.path for entry in MlflowClient(uri).list_artifacts(opened.run_id, "step")] == ["step/curve.svg"]
    assert (tmp_path / "drawn").exists()


def test_a_stopped_step_ends_the_run(make_call, uri, request):
    opened = tracking.open_run(make_call("make", run_id=request.node.name, tracking_uri=uri))
    opened.stop()
    assert read(uri, opened.run_id).info.status == "KILLED"


def test_without_a_uri_nothing_is_logged(make_call):
    assert tracking.open_run(make_call("make")) is None


def test_an_mlflow_that_is_not_there_is_worth_another_try(make_call, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = calls.write_call(make_call("make", rows=1, tracking_uri=f"http://ana:s3cret@127.0.0.1:{port}"))
    assert runner.main([url]) == 1
    failure = result_of(url).failure
    assert failure.retryable
    assert f"MLflow at http://***@127.0.0.1:{port} could not be used" in failure.message
    assert "s3cret" not in failure.model_dump_json()


def test_mlflow_is_told_not_to_call_home(make_call, uri, request, monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    tracking.open_run(make_call("make", run_id=request.node.name, tracking_uri=uri))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"


def test_flat_parameters():
    assert dict(tracking.flatten({"a": {"b": 1, "c": [1, 2]}, "d": None, "e": "x", "f": {}})) == {
        "a.b": "1", "a.c": "[1, 2]", "d": "null", "e": "x", "f": "{}"}


def test_mlflow_is_told_no_secret(make_call, uri):
    opened = tracking.open_run(make_call("nothing", run_id="canary", tracking_uri=uri))
    assert opened is not None
    opened.finish(tracking.Entries({"api_token": "CANARY", "source": "s3://k:CANARY@b", "max_tokens": 5}, {}, {}, {}, {},
                                   "RuntimeError: password=CANARY"))
    data = read(uri, opened.run_id).data
    assert data.params == {"step.api_token": "***", "step.source": "s3://***@b", "step.max_tokens": "5"}
    assert data.tags["airgate.failed.step"] == "RuntimeError: password=***"
