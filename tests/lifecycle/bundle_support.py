"""Installations that share nothing: a source with a version that was trained, signed, judged and promoted, and others."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airgate import settings
from airgate.audit import checkpoints, signing
from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of, task_event
from airgate.audit.store import AuditStore
from airgate.authoring.catalog import model
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate, GateResult, Verdict
from airgate.contracts.promotion import Approval, PromotionRequest
from airgate.contracts.step import Window
from airgate.lifecycle import people, sign
from airgate.lifecycle.bundle_export import Exported, export
from airgate.signatures import keys

MODEL = "diagnosis_classifier"
MLFLOW_WARNINGS = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
METRICS = {"roc_auc": {"value": 0.97, "low": 0.95, "high": 0.99}, "recall": {"value": 0.9, "low": 0.8, "high": 0.97},
           "brier": {"value": 0.05, "low": 0.04, "high": 0.06}}


@dataclass(frozen=True)
class Installation:
    """One installation in a folder of its own."""

    folder: Path
    environment: str

    @property
    def log(self) -> AuditStore:
        return AuditStore(f"sqlite:///{self.folder}/audit.db")

    @property
    def origin(self) -> str:
        return f"audit.{self.environment}.example.org/airgate"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "AIRGATE_ENVIRONMENT": self.environment, "AIRGATE_AUDIT_ORIGIN": self.origin,
            "AIRGATE_AUDIT_URL": f"sqlite:///{self.folder}/audit.db", "AIRGATE_AUDIT_SPOOL": f"{self.folder}/spool",
            "AIRGATE_AUDIT_KEY": f"file:{self.folder}/audit.pem", "AIRGATE_MODEL_KEY": f"file:{self.folder}/model.pem",
            "AIRGATE_MLFLOW_URI": f"sqlite:///{self.folder}/mlflow.db", "AIRGATE_HOME": str(self.folder / "home"),
            "AIRGATE_ARTIFACT_STORE": f"file://{self.folder}/artifacts", "AIRGATE_BUNDLE_SOURCES": f"{self.folder}/sources.yaml",
        }

    def create(self) -> "Installation":
        self.folder.mkdir()
        self.log.create()
        for name in ("audit", "model"):
            signing.write_new(self.folder / f"{name}.pem")
        return self

    @contextmanager
    def here(self) -> Iterator[settings.Settings]:
        """Let the process be of this installation."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            yield settings.load()

    def model_key(self) -> str:
        return keys.signer(f"file:{self.folder}/model.pem", self.environment).public.text()

    def trusts(self, *others: "Installation") -> None:
        """Write down whose bundles are taken here."""
        lines = [f"{one.environment}:\n  keys: [{one.model_key()}]\n  log: [{checkpoints.keys_in_force(one.log)[0].text()}]\n"
                 for one in others]
        (self.folder / "sources.yaml").write_text("".join(lines))

    def stored(self, data: bytes) -> dict[str, Any]:
        """Keep bytes in the artifact store; give their reference."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / "artifacts" / "sha256" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"uri": f"file://{path}", "digest": f"sha256:{digest}", "kind": "json", "size": len(data)}

    def record(self, kind: Any, flow: str, run: str, task: str, body: dict[str, Any], *, by: str = "mia",
               **fields: Any) -> AuditEvent:
        """Put the event of a task of this model into the log."""
        event = task_event(kind, TaskRef(dag_id=f"{MODEL}_{flow}", run_id=run, task_id=task, try_number=1), source="operator",
                           actor=Actor(kind="user", name=by), model=MODEL, body=body, **fields)
        self.log.append(event)
        return event

    def checkpoint(self) -> None:
        with self.here() as now:
            checkpoints.checkpoint(self.log, signing.load(now.audit_key, now.audit_origin))

    def export(self, path: Path, version: str = "1", days: int = 30) -> Exported:
        with self.here() as now:
            return export(now, self.log, MODEL, version, path, by=Actor(kind="outside", name="olga"), valid=timedelta(days=days))


def spec() -> ModelSpec:
    return model(MODEL)


def trained_source(folder: Path, mlflow_template: Path) -> Installation:
    """An installation where mia trained version 1, ana and omar approved it, and it went live."""
    source = Installation(folder, "staging").create()
    shutil.copy(mlflow_template, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:  # MLflow's own API cannot change it
        connection.execute("UPDATE model_versions SET source = ?", [f"file://{folder}/model"])
    files = _real_model(folder / "model" / "artifacts" / "model")
    with source.here():
        _training(source, files)
        _promotion(source, _judged(source))
    source.checkpoint()
    return source


def _real_model(folder: Path) -> dict[str, str]:
    """Train something small; give its digest and its manifest's bytes."""
    import pandas as pd
    from xgboost import DMatrix, train

    from airgate.steps.manifest import manifest, manifest_bytes, manifest_digest
    from airgate.steps.model_xgboost import XGBoostModel

    data = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 5, "b": [1.0, 0.0] * 10})
    booster = train({"objective": "binary:logistic", "nthread": 1}, DMatrix(data.to_numpy(), label=[0, 1] * 10, nthread=1), 2)
    XGBoostModel(booster, ["a", "b"], "malignant").save(folder)
    found = manifest(folder)
    return {"digest": manifest_digest(found), "manifest": manifest_bytes(found).decode()}


def _training(source: Installation, files: dict[str, str]) -> None:
    gates = spec().gates.fingerprint()
    source.record("task.started", "training", "t1", "train", {"gates_hash": gates})
    report = source.stored(b'{"passed":true}')
    source.record("task.succeeded", "training", "t1", "check", {"attachments": {"data_check.json": report["digest"]}})
    source.record("task.succeeded", "training", "t1", "train",
                  {"output": {**source.stored(files["manifest"].encode()), "kind": "model", "digest": files["digest"]}})
    candidate = Candidate(model=MODEL, version="1", digest=files["digest"], gates_hash=gates, data_revision="c" * 40,
                          data_hash="d", window=Window(start=date(2026, 1, 1), end=date(2026, 1, 9)), mlflow_run_id="r",
                          training_run="t1")
    registered = source.record("task.succeeded", "training", "t1", "register", version="1", body={
        "function": "airgate.steps.register:register", "output": source.stored(candidate.model_dump_json().encode()),
        "facts": {"model_version": "1", "model_digest": files["digest"], "model_source": f"file://{source.folder}/model"}})
    task = TaskRef(dag_id=f"{MODEL}_training", run_id="t1", task_id="sign", try_number=1)
    sign.sign_registration(source.log, registered, actor=Actor(kind="user", name="mia"), source="operator", task=task)


def candidate_of(source: Installation) -> Candidate:
    event = next(item.event for item in source.log.events(kind="task.succeeded") if item.event.task.task_id == "register")
    return sign.candidate_in(event)


def evidence(about: Candidate, **changed: Any) -> dict[str, Any]:
    """What `compare` gives for a first version."""
    return {"rows": 80, "positives": 30, "confidence": 0.95, "resamples": 1000, "seed": 7, "problems": [], "candidate": METRICS,
            "candidate_digest": about.digest, "digest_verified": True, "production": None, "production_version": None,
            "production_digest_verified": None, "difference": None, **changed}


def _judged(source: Installation) -> AuditEvent:
    candidate = candidate_of(source)
    output = source.stored(json.dumps(evidence(candidate)).encode())
    asked = {"candidate": candidate.model_dump(mode="json"), "production": {}}
    source.record("task.succeeded", "validation", "v1", "compare",
                  {"function": "airgate.steps.evaluate:compare", "output": output, "parameters": asked})
    gate = GateResult(name="metric.roc_auc", passed=True, evidence="fine")
    verdict = Verdict(candidate=candidate, passed=True, gates=[gate], evaluation_digest=output["digest"])
    return source.record("gate.verdict", "validation", "v1", "verdict", verdict.model_dump(mode="json", exclude={"event_id"}),
                         version="1")


def _promotion(source: Installation, verdict: AuditEvent) -> None:
    candidate, now = candidate_of(source), datetime.now(UTC)
    request = PromotionRequest(
        model=MODEL, version="1", model_digest=candidate.digest, gates_hash=candidate.gates_hash,
        verdict_event=str(verdict.event_id), evaluation_digest=verdict.body["evaluation_digest"], expected_current=None,
        requesters=["user:mia", "asset:x"], requested_at=now, expires_at=now + timedelta(days=1), code_version="c", nonce="n")
    asked = source.record("promotion.requested", "promotion", "p1", "request", request.model_dump(mode="json"), version="1",
                          personal=people.in_request(request))
    given = []
    for role, user in (("ml_engineer", "ana"), ("risk_officer", "omar")):
        approval = Approval(role=role, user=user, at=now, reason="looks fine", request_digest=request.digest())
        event = AuditEvent(
            event_id=event_id_of("approved", role), kind="promotion.approved", occurred_at=now,
            actor=Actor(kind="user", name=user), task=asked.task, model=MODEL, version="1", source="operator",
            body=approval.model_dump(mode="json"),
            personal=people.in_approval(approval))
        source.log.append(event)
        given.append(event)
    sign.promotion_signature(source.log, asked, given, actor=Actor(kind="user", name="mia"), source="operator", task=asked.task)
    move = {"from_version": None, "to_version": "1", "stage": "production", "model_digest": candidate.digest,
            "request_digest": request.digest(), "approvers": [{"role": "ml_engineer", "user": "ana"}]}
    source.record("stage.moving", "promotion", "p1", "apply", move, version="1", personal={"approvers.0.user": "ana"})
    source.record("stage.moved", "promotion", "p1", "apply", move, version="1", personal={"approvers.0.user": "ana"})


def copied(template: Installation, folder: Path) -> Installation:
    """The same installation in another folder, for tests that change it. What its log names stays where it was."""
    shutil.copytree(template.folder, folder)
    return Installation(folder, template.environment)
