"""How Airflow asks for a step and what the step answers. Only references and numbers travel, never data."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from airgate.contracts.base import Contract
from airgate.contracts.model_spec import ModelSpec

ArtifactKind = Literal["table", "model", "json", "file"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ArtifactRef(Contract):
    """A value that a step stored once, under its SHA-256.

    `table` is one Parquet file, `json` one RFC 8785 document, `file` any single file, `model` a directory whose digest is
    the SHA-256 of its manifest (the RFC 8785 bytes of {relative path: file digest}).
    """

    uri: str
    digest: Digest
    kind: ArtifactKind
    size: int = Field(ge=0, description="bytes, of all files together")


class Window(Contract):
    """The days a run is about: every day d with start <= d < end."""

    start: date
    end: date


class RunContext(Contract):
    """Which task try asks, for whom, and with which code."""

    dag_id: str
    run_id: str
    task_id: str
    try_number: int = Field(ge=1)
    map_index: int = -1
    window: Window | None = None
    actor: str = Field(description="who or what started the DAG run: 'user:ana', 'schedule', 'asset', 'backfill'")
    code_version: str = Field(description="commit of the DAG bundle, or 'unversioned'")
    image: str = Field(description="image the step runs in, with its digest where known; 'local' for the local runtime")
    mlflow_run_id: str | None = Field(default=None, description="the MLflow run that an earlier step of this DAG run opened")


class StepCall(Contract):
    """One request to run one function. Written as JSON beside the place where the result is expected."""

    schema_version: Literal[1] = 1
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    inputs: dict[str, ArtifactRef] = {}
    gathered: dict[str, list[ArtifactRef]] = Field(default={}, description="argument -> what a mapped step gave, one a task")
    each: str | None = Field(default=None, description="the input that is a list; this call takes its item of the map index")
    parameters: dict[str, JsonValue] = {}
    run: RunContext
    spec: ModelSpec | None = None
    facts: dict[str, str] = Field(default={}, description="facts of the steps that made the inputs; they flow on to the result")
    store: str = Field(description="fsspec URL of the artifact store's root")
    tracking_uri: str | None = Field(default=None, description="MLflow tracking URI; None logs nothing")
    data_repository: str | None = Field(default=None, description="git URL or path of the DVC repository")


class StepFailure(Contract):
    """Why a step failed. `retryable` is false where the same input must fail again."""

    error: str = Field(description="class name of the exception")
    message: str
    retryable: bool
    traceback: str = ""


class StepResult(Contract):
    """What became of one call. Exactly one of `output` and `failure` is set.

    `value` repeats a `json` output inline when it is at most 32 KiB, so that light tasks decide without reading the store.
    """

    schema_version: Literal[1] = 1
    output: ArtifactRef | None = None
    value: JsonValue = None
    attachments: dict[str, ArtifactRef] = Field(default={}, description="reports and plots, by file name")
    metrics: dict[str, float] = {}
    facts: dict[str, str] = Field(default={}, description="short facts for the record: data revision, DVC hash, model digest")
    mlflow_run_id: str | None = None
    environment: dict[str, str] = Field(default={}, description="python, platform and package versions, device")
    started_at: datetime
    seconds: dict[str, float] = Field(default={}, description="wall time of: fetch, call, store, log")
    failure: StepFailure | None = None
