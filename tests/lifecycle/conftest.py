"""The light tasks run here on their own: a real audit log and MLflow on SQLite, Airflow's answers from a local HTTP server."""

import hashlib
import json
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airgate-tests-"))

from airgate.audit.event import Actor, AuditEvent, TaskRef, task_event
from airgate.audit.store import AuditStore
from airgate.authoring.catalog import model
from airgate.contracts.manifest import manifest_bytes, manifest_digest
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate
from airgate.contracts.standard_steps import CHECK, LOAD
from airgate.contracts.step import Window
from airgate.governance.promotion import headline
from airgate.lifecycle import sign
from airgate.registry.versions import Registry
from airgate.signatures import private_key

if TYPE_CHECKING:
    from tests.lifecycle.bundle_support import Installation

MODEL = "diagnosis_classifier"
CONTENTS = {"airgate_model.json": b"{}", "model.ubj": b"weights"}
FILES = {name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in CONTENTS.items()}
DIGEST = manifest_digest(FILES)
# The report that every training and every verdict here names; a house's artifact store holds it.
REPORT_BYTES = b'{"passed": true}'
REPORT = "sha256:" + hashlib.sha256(REPORT_BYTES).hexdigest()


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with two versions of the model. Making one costs seconds, copying it does not."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    stored = path.parent / "model" / "artifacts" / "model"
    stored.mkdir(parents=True)
    for name, data in CONTENTS.items():
        (stored / name).write_bytes(data)
    client.create_registered_model(MODEL)
    for _ in range(2):
        client.create_model_version(MODEL, source=f"file://{path.parent}/model", tags={"airgate.digest": DIGEST})
    return path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> "Installation":
    """An installation that bundles come from, with a promoted version. Imported here: it needs what steps need."""
    from tests.lifecycle.bundle_support import trained_source

    return trained_source(tmp_path_factory.mktemp("bundles") / "staging", mlflow_template)


@pytest.fixture(scope="session")
def bundle(template: "Installation", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle; nobody changes it."""
    from tests.lifecycle.bundle_support import copied

    folder = tmp_path_factory.mktemp("bundle")
    copied(template, folder / "staging").export(folder / "b.zip")
    return folder / "b.zip"


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Never the developer's own: what waits there would be drained into a test's log."""
    monkeypatch.setenv("AIRGATE_AUDIT_SPOOL", str(tmp_path / "spool"))
    return tmp_path / "spool"


@pytest.fixture
def spec() -> ModelSpec:
    return model(MODEL)


@dataclass
class House:
    """Everything a light task meets: log, registry, artifact store, and what Airflow would answer."""

    folder: Path
    log: AuditStore
    registry: Registry
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def artifact(self, value: Any) -> dict[str, Any]:
        """Store a JSON value as a step would; give its reference."""
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest
        path.write_bytes(data)
        return {"uri": f"file://{path}", "digest": f"sha256:{digest}", "kind": "json", "size": len(data)}

    def stored(self, data: bytes) -> str:
        """Put bytes into the artifact store, where a step's attachments lie; give their digest."""
        digest = hashlib.sha256(data).hexdigest()
        self.stored_at(digest).parent.mkdir(parents=True, exist_ok=True)
        self.stored_at(digest).write_bytes(data)
        return f"sha256:{digest}"

    def stored_at(self, digest: str) -> Path:
        """The file that holds the bytes of a digest."""
        text = digest.removeprefix("sha256:")
        return self.folder / "artifacts" / "sha256" / text[:2] / text

    def succeeded(self, dag: str, run: str, task: str, body: dict[str, Any], actor: str = "mia", kind: Any = "task.succeeded",
                  source: Any = "operator", version: str | None = None) -> None:
        """Put a step's event into the log as its operator would."""
        event = task_event(kind, TaskRef(dag_id=dag, run_id=run, task_id=task, try_number=1), source=source,
                           actor=Actor(kind="user", name=actor), model=MODEL, version=version, body=body)
        self.log.append(event)

    def trained(self, spec: ModelSpec, version: str = "1", run: str = "t1", actor: str = "mia",
                signed: bool = True) -> Candidate:
        """A training run as it stands in the log."""
        candidate = Candidate(model=MODEL, version=version, digest=DIGEST, gates_hash=spec.gates.fingerprint(),
                              data_revision="c0ffee", data_hash="d", window=Window(start=date(2026, 1, 8), end=date(2026, 1, 9)),
                              mlflow_run_id="r", training_run=run)
        dag = f"{MODEL}_training"
        self.succeeded(dag, run, "train", {"gates_hash": spec.gates.fingerprint()}, actor, "task.started")
        read = {"data_revision": candidate.data_revision, "data_hash": candidate.data_hash}
        self.succeeded(dag, run, "load_window", {"function": LOAD, "facts": read}, actor)
        self.succeeded(dag, run, "check", {"function": CHECK, "facts": read, "attachments": {"data_check.json": REPORT}}, actor)
        uri = self.stored_at(self.stored(manifest_bytes(FILES))).as_uri()
        stored = {"uri": uri, "digest": DIGEST, "kind": "model", "size": 9}
        self.succeeded(dag, run, "train", {"output": stored}, actor)
        self.succeeded(dag, run, "register", {
            "function": "airgate.steps.register:register", "output": self.artifact(candidate.model_dump(mode="json")),
            "facts": {"model_version": version, "model_digest": DIGEST, "model_source": self.source(version)}}, actor,
                       version=version)
        if signed:
            self.signed(run)
        return candidate

    def source(self, version: str) -> str:
        """Where MLflow says that a version's files are; somewhere, of one that it does not have."""
        found = self.registry.find(MODEL, version)
        return str(self.registry._client.get_model_version(MODEL, version).source) if found else "models:/m-1"

    def signed(self, run: str = "t1") -> AuditEvent:
        """Sign what a training run registered, as its `sign` task would."""
        found = self.log.events(kind="task.succeeded", dag_id=f"{MODEL}_training", run_id=run, task_id="register")
        return sign.sign_registration(self.log, found[-1].event, actor=Actor(kind="user", name="mia"), source="operator")

    def answer(self, role: str, user: str, text: dict[str, str], option: str = "Approve") -> None:
        """Let Airflow's API say that somebody answered."""
        self.answers[f"approve_{role}"] = {
            "subject": headline(role, text["subject"]), "body": text["body"],
            "response_received": True, "chosen_options": [option], "params_input": {"reason": "r"},
            "responded_by_user": {"id": user, "name": user}, "responded_at": datetime.now(UTC).isoformat()}

    def kinds(self) -> list[str]:
        """Kinds of the decisions in the log, in order. A signature decides nothing."""
        return [item.event.kind for item in self.log.events() if not item.event.kind.startswith(("task.", "model."))]


@pytest.fixture
def house(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    home = House(tmp_path, AuditStore(f"sqlite:///{tmp_path}/audit.db"), Registry(f"sqlite:///{tmp_path}/mlflow.db"))
    home.log.create()
    if not (tmp_path / "model-key.pem").exists():
        private_key.write_new(tmp_path / "model-key.pem")
    home.stored(REPORT_BYTES)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(home.answers))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AIRGATE_AUDIT_URL": f"sqlite:///{tmp_path}/audit.db", "AIRGATE_MLFLOW_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "AIRGATE_ARTIFACT_STORE": f"file://{tmp_path}/artifacts", "AIRGATE_API_USER": "airgate", "AIRGATE_API_PASSWORD": "x",
        "AIRGATE_MODEL_KEY": f"file:{tmp_path}/model-key.pem",
        "AIRGATE_AIRFLOW_API": f"http://127.0.0.1:{server.server_port}",
    }.items():
        monkeypatch.setenv(name, value)
    yield home
    server.shutdown()
    server.server_close()


def _handler(answers: dict[str, dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    """Airflow's API, as much of it as a promotion asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._send(201, {"access_token": "t"})

        def do_GET(self) -> None:
            task = self.path.split("/taskInstances/")[-1].split("/")[0]
            self._send(200, answers[task]) if task in answers else self._send(404, {"detail": "no such record"})

        def _send(self, status: int, body: Any) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests' output is not a web server's log."""

    return Handler


Context = Callable[..., dict[str, Any]]


@pytest.fixture
def context() -> Context:
    """What Airflow gives to a task's `execute`."""

    def make(flow: str, task: str, *, run: str = "run1", user: str | None = None, attempt: int = 1,
             payloads: list[dict[str, Any]] | None = None, params: dict[str, Any] | None = None,
             emitted_by: tuple[str, str, str] | None = (f"{MODEL}_validation", "v1", "verdict")) -> dict[str, Any]:
        pushed: dict[str, Any] = {}
        source = dict(zip(("source_dag_id", "source_run_id", "source_task_id"), emitted_by or (None, None, None), strict=True))
        events = [SimpleNamespace(extra=payload, timestamp=datetime(2026, 1, 9, 0, n, tzinfo=UTC), **source)
                  for n, payload in enumerate(payloads or [])]
        return {
            "ti": SimpleNamespace(dag_id=f"{MODEL}_{flow}", run_id=run, task_id=task, try_number=attempt, map_index=-1,
                                  bundle_instance=None, pushed=pushed, xcom_push=lambda key, value: pushed.update({key: value})),
            "dag_run": SimpleNamespace(run_id=run, dag_id=f"{MODEL}_{flow}", run_type="manual" if user else "asset_triggered",
                                       triggering_user_name=user, consumed_asset_events=[], data_interval_start=None,
                                       data_interval_end=None, logical_date=None, run_after=datetime(2026, 1, 9, 9, tzinfo=UTC),
                                       clear_number=0),
            "params": params or {},
            "triggering_asset_events": {"asset": events} if payloads else {},
            "outlet_events": defaultdict(lambda: SimpleNamespace(extra=None)),
        }

    return make
