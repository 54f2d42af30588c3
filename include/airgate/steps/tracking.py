"""MLflow's picture of a DAG run: one MLflow run, opened by the first step and added to by the later ones.

Parameters carry the step's name (`train.seed`), metrics are named as the step logged them, reports lie in a folder of the
step's name. Each step ends the run, as FINISHED or, while any of its tasks has failed and not yet succeeded, FAILED: a run
never seems to be running when nothing is. In a warm process that costs 0.15 s of CPU a step with SQLite, 0.06 s with a server.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgate.contracts.fork_protocol import SILENCE
from airgate.contracts.small_files import local_path
from airgate.contracts.step import ArtifactRef, RunContext, StepCall
from airgate.errors import StepError
from airgate.redaction import masked, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

# MLflow's limits (mlflow.utils.validation); beyond them it refuses the whole batch.
KEY_LIMIT, PARAM_LIMIT, TAG_LIMIT, BATCH, DIGEST_LIMIT = 250, 6000, 8000, 100, 36
FAILED_TAG = "airgate.failed."


@dataclass(frozen=True)
class Entries:
    """What one step adds to the run."""

    parameters: Mapping[str, object]
    metrics: Mapping[str, float]
    attachments: Mapping[str, Path]
    inputs: Mapping[str, ArtifactRef]
    facts: Mapping[str, str]
    failure: str | None = None


class Tracking:
    """The open MLflow run of a call. Made by `open_run`."""

    def __init__(self, client: "MlflowClient", call: StepCall, run: "Run") -> None:
        self._client = client
        self._call = call
        self._run = run
        self.run_id: str = run.info.run_id

    def finish(self, entries: Entries) -> None:
        """Write what the step left and end the run. Raises StepError when MLflow cannot be written."""
        with _Explained(self._call.tracking_uri):
            self._log(entries)

    def stop(self) -> None:
        """End the run as KILLED, since its step was told to stop. What MLflow says to that no longer matters."""
        try:
            self._client.set_terminated(self.run_id, "KILLED")
        except Exception as error:  # noqa: BLE001  the step must end now, whatever MLflow's state
            sys.stderr.write(f"airgate: MLflow's run {self.run_id} could not be ended: {type(error).__name__}\n")

    def _log(self, entries: Entries) -> None:
        from mlflow.entities import Metric, Param, RunTag

        step, now = step_name(self._call.run), int(time.time() * 1000)
        parameters = [Param(key, value) for key, value in self._new_parameters(entries.parameters)]
        metrics = [Metric(_key(name), value, now, 0) for name, value in entries.metrics.items()]
        tags = [RunTag(_key(f"airgate.fact.{name}"), value[:TAG_LIMIT]) for name, value in entries.facts.items()]
        own_tag = _key(FAILED_TAG + step)
        if entries.failure is not None:
            tags.append(RunTag(own_tag, redact(entries.failure)[:TAG_LIMIT] or "failed"))
        for part in range(-(-max(len(parameters), len(tags), len(metrics)) // BATCH)):
            here = slice(part * BATCH, (part + 1) * BATCH)
            self._client.log_batch(self.run_id, metrics[here], parameters[here], tags[here])
        datasets = [_dataset(name, ref, step) for name, ref in entries.inputs.items() if ref.kind == "table"]
        if datasets:
            self._client.log_inputs(self.run_id, datasets)
        for name, path in entries.attachments.items():
            self._log_file(path, name, step)
        failed = {name for name in self._run.data.tags if name.startswith(FAILED_TAG)} - {own_tag}
        if own_tag in self._run.data.tags and entries.failure is None:
            self._client.delete_tag(self.run_id, own_tag)
        self._client.set_terminated(self.run_id, "FAILED" if failed or entries.failure is not None else "FINISHED")

    def _new_parameters(self, given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """Flat parameters under the step's name, and in the first step those of model.yaml under `model`.

        MLflow keeps a parameter's first value for ever; another value gets a name with the try's number.
        """
        known = self._run.data.params
        spec = self._call.spec
        if spec is not None and not any(name.startswith("model.") for name in known):
            for name, value in flatten(masked(spec.training.model_dump(mode="json"))):
                yield _key(f"model.{name}"), value[:PARAM_LIMIT]
        for name, value in flatten(masked(given)):
            key = _key(f"{step_name(self._call.run)}.{name}")
            text = value[:PARAM_LIMIT]
            if known.get(key, text) != text:
                key = _key(f"{key}.try{self._call.run.try_number}")
            if known.get(key, text) == text:
                yield key, text

    def _log_file(self, path: Path, name: str, folder: str) -> None:
        """MLflow names an artifact after the file; a step may have attached it under another name."""
        if path.name == name:
            self._client.log_artifact(self.run_id, str(path), folder)
            return
        alias = path.with_name(name)
        if alias.exists():
            alias = path.parent / "mlflow" / name
            alias.parent.mkdir(exist_ok=True)
        os.link(path, alias)
        try:
            self._client.log_artifact(self.run_id, str(alias), folder)
        finally:
            alias.unlink()


def open_run(call: StepCall) -> Tracking | None:
    """Continue the DAG run's MLflow run or open it; None when the call has no tracking URI.

    A try after a killed one finds the run that the killed one opened, by its tags.
    Raises StepError, worth another try, when MLflow cannot be reached.
    """
    if call.tracking_uri is None:
        return None
    os.environ.update(SILENCE)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the task's log is not its place
    # MLflow's own 7 tries with doubling pauses would hold a step for minutes; Airflow tries the whole step again anyway.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    with _Explained(call.tracking_uri):
        from mlflow import MlflowClient

        client = MlflowClient(call.tracking_uri, registry_uri=call.tracking_uri)
        run = _known_run(client, call.run.mlflow_run_id)
        if run is None:
            experiment = _experiment(client, call)
            run = _same_run(client, experiment, call.run) or _new_run(client, experiment, call)
        return Tracking(client, call, run)


def step_name(run: RunContext) -> str:
    """The task's name as a prefix of MLflow keys; a mapped task's has its index."""
    return run.task_id if run.map_index < 0 else f"{run.task_id}.{run.map_index}"


def flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give nested parameters as (`a.b`, text); lists and empty mappings as JSON."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{key}.")
        else:
            yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _known_run(client: "MlflowClient", run_id: str | None) -> "Run | None":
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _experiment(client: "MlflowClient", call: StepCall) -> str:
    """The experiment of the model, or of the DAG where there is no model; made when it is missing."""
    from mlflow.exceptions import MlflowException

    name = call.spec.name if call.spec else call.run.dag_id
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(call, name)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another step was faster
    if found is None or found.lifecycle_stage != "active":
        raise StepError(f"MLflow's experiment '{name}' was deleted. Restore it, or purge it with 'mlflow gc'.")
    return str(found.experiment_id)


def _artifact_location(call: StepCall, name: str) -> str | None:
    """A server says itself where its artifacts lie. Without one MLflow would take a folder of the working directory."""
    if str(call.tracking_uri).startswith(("http://", "https://", "databricks")):
        return None
    folder = local_path(call.store)
    return f"{folder.as_uri() if folder else call.store.rstrip('/')}/mlflow/{name}"


def _same_run(client: "MlflowClient", experiment: str, run: RunContext) -> "Run | None":
    if "'" in run.dag_id + run.run_id:
        return None  # MLflow's filter language has no way to write such an id
    condition = f"tags.`airgate.dag_id` = '{run.dag_id}' and tags.`airgate.run_id` = '{run.run_id}'"
    found = client.search_runs([experiment], condition, max_results=1, order_by=["attributes.start_time ASC"])
    return found[0] if found else None


def _new_run(client: "MlflowClient", experiment: str, call: StepCall) -> "Run":
    run = call.run
    tags = {"airgate.dag_id": run.dag_id, "airgate.run_id": run.run_id, "airgate.code_version": run.code_version,
            "airgate.image": run.image, "airgate.actor": run.actor}
    if call.spec:
        tags.update({"airgate.model": call.spec.name, "airgate.gates_hash": call.spec.gates.fingerprint()})
    if run.window:
        tags["airgate.window"] = f"{run.window.start}/{run.window.end}"
    shown = {"mlflow.user": run.actor, "mlflow.source.name": run.dag_id, "mlflow.source.git.commit": run.code_version}
    return client.create_run(experiment, tags={**tags, **shown}, run_name=run.run_id)


def _dataset(name: str, ref: ArtifactRef, step: str) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scheme = ref.uri.partition("://")[0]
    dataset = Dataset(
        name=name, digest=ref.digest.removeprefix("sha256:")[:DIGEST_LIMIT],
        source_type="local" if scheme == "file" else scheme, source=json.dumps({"uri": ref.uri}),
        profile=json.dumps({"bytes": ref.size}),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", step), InputTag("airgate.digest", ref.digest)])


def _key(name: str) -> str:
    """A name as MLflow allows it: letters, digits, `_`, `-`, `.`, space, `:`, `/`."""
    return re.sub(r"[^\w.\- :/]", "_", name)[:KEY_LIMIT]


class _Explained:
    """Turn MLflow's and its libraries' many errors into one that says where, what and what to do."""

    def __init__(self, uri: str | None) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, StepError):
            text = redact(f"{type(error).__name__}: {error}")
            raise StepError(f"MLflow at {redact(str(self._uri))} could not be used: {text:.500}. Check that it runs and that "
                            "this step may reach it; the step is tried again.") from error
