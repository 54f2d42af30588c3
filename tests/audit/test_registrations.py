"""What the log knows of a model's versions, on both databases."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit.conftest import MOMENT

from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of
from airgate.audit.registrations import Known, Registration, known
from airgate.audit.registry_changes import Change
from airgate.audit.registry_state import RegisteredVersion, RegistryState
from airgate.audit.store import AuditStore
from airgate.audit.versions import changed_versions, models_known
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.standard_steps import REGISTER
from airgate.contracts.version_tags import DAG, DIGEST, RUN
from airgate.signatures import keys, statement

FILES = {"model.ubj": "sha256:" + "1" * 64}
D1 = manifest_digest(FILES)
SIGNER = keys.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(32)), "development")
STRANGER = keys.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "development")
TAGS = {DIGEST: D1, DAG: "m_training", RUN: "t1", "airgate.window_end": "2026-01-09"}


@pytest.fixture
def log(store: AuditStore, monkeypatch: pytest.MonkeyPatch) -> AuditStore:
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", SIGNER.public.text())
    return store


def write(log: AuditStore, kind: Any, version: str | None = None, run: str = "t1", source: Any = "operator",
          **body: Any) -> None:
    task = TaskRef(dag_id="m_training", run_id=run, task_id=f"{kind}", try_number=1)
    event_id = event_id_of(kind, run, version or "", json.dumps(body))
    log.append(AuditEvent(event_id=event_id, kind=kind, occurred_at=MOMENT, task=task, model="m",
                          version=version, actor=Actor(kind="schedule", name="x"), source=source, body=body))


def begun(log: AuditStore, run: str = "t1", digest: str = D1) -> None:
    write(log, "task.started", run=run, function=REGISTER, inputs={"model": digest})


def registered(log: AuditStore, version: str, run: str = "t1", digest: str = D1, source: Any = "operator") -> None:
    write(log, "task.succeeded", version, run, source, function=REGISTER, facts={"model_digest": digest})


def signed(log: AuditStore, version: str, source: str = "models:/1", run: str = "t1", by: keys.Signer = SIGNER,
           **tags: str) -> None:
    about = statement.Registration(
        model="m", version=version, model_digest=D1, tags=TAGS | tags, training_run=run, mlflow_run_id="r1", source=source,
        register_event="e", environment=by.public.name)
    envelope = statement.sign(statement.Statement(files=FILES, predicate=about), by).to_json()
    write(log, "model.signed", version, run, statement="registration", envelope=envelope, model_digest=D1)


def in_mlflow(*numbers: str, source: str = "models:/1", run: str | None = "r1", **tags: str | None) -> RegistryState:
    wanted = {tag: text for tag, text in (TAGS | tags).items() if text is not None}
    return RegistryState("m", {one: RegisteredVersion(one, wanted, source, run) for one in numbers})


def changes(log: AuditStore, state: RegistryState) -> list[Change]:
    return list(changed_versions(known(log, state), state))


def test_nothing_is_known_of_a_new_model(log: AuditStore) -> None:
    assert known(log, RegistryState("m", there=False)) == Known()


def test_a_signed_registration_tells_all(log: AuditStore) -> None:
    begun(log)
    registered(log, "1")
    signed(log, "1")
    state = in_mlflow("1")
    assert known(log, state).registrations == {"1": Registration("1", TAGS, signed=True, source="models:/1", mlflow_run="r1")}
    assert changes(log, state) == []


def test_the_signature_that_was_made_last_counts(log: AuditStore) -> None:
    signed(log, "1")
    signed(log, "1", run="t2", **{"airgate.window_end": "later"})
    assert changes(log, in_mlflow("1", **{"airgate.window_end": "later"})) == []


def test_an_unsigned_version_has_what_its_step_tells(log: AuditStore) -> None:
    registered(log, "1")
    write(log, "task.succeeded", "1", "score1", function="airgate.steps.predict:predict")
    assert known(log, in_mlflow("1")).registrations == {"1": Registration("1", {DIGEST: D1, DAG: "m_training", RUN: "t1"})}
    assert changes(log, in_mlflow("1", source="anywhere", run=None)) == []
    assert changes(log, in_mlflow("1", **{RUN: None})) == [
        Change("tags.changed", "m", "1", {RUN: "t1"}, {RUN: None})]


def test_a_version_that_came_in_a_bundle(log: AuditStore) -> None:
    step = "airgate.steps.import_bundle:register"
    write(log, "task.started", function=step, inputs={"model": D1})
    assert changes(log, in_mlflow("1")) == []
    write(log, "task.succeeded", "1", function=step, facts={"model_digest": D1})
    assert known(log, in_mlflow("1")).registrations == {"1": Registration("1", {DIGEST: D1, DAG: "m_training", RUN: "t1"})}


@pytest.mark.attack("a registration is written into the log that nobody signed")
def test_what_no_trusted_key_signed_tells_nothing(log: AuditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    signed(log, "1")
    signed(log, "1", "s3://elsewhere", "t2", STRANGER, **{"airgate.window_end": "never"})
    write(log, "model.signed", "1", "t3", statement="registration", envelope="torn", model_digest=D1)
    signed(log, "2", by=STRANGER)
    found = {"1": Registration("1", TAGS, signed=True, source="models:/1", mlflow_run="r1")}
    assert known(log, in_mlflow("1")).registrations == found
    registered(log, "2")
    steps_word = {"2": Registration("2", {DIGEST: D1, DAG: "m_training", RUN: "t1"})}
    assert known(log, in_mlflow("1")).registrations == found | steps_word
    monkeypatch.delenv("AIRGATE_MODEL_TRUST")
    assert known(log, in_mlflow("2")).registrations == steps_word


def test_a_success_that_the_step_did_not_write_registers_nothing(log: AuditStore) -> None:
    registered(log, "1", source="sweep")
    assert [change.what for change in changes(log, in_mlflow("1"))] == ["version.created"]


def test_tags_that_were_changed_added_and_taken_away(log: AuditStore) -> None:
    signed(log, "1")
    state = in_mlflow("1", **{DIGEST: "forged", "airgate.window_end": None, "airgate.more": "x", "team": "risk"})
    assert changes(log, state) == [Change(
        "tags.changed", "m", "1", {DIGEST: D1, "airgate.more": None, "airgate.window_end": "2026-01-09"},
        {DIGEST: "forged", "airgate.more": "x", "airgate.window_end": None})]
    assert changes(log, state)[0].line() == (
        f"m version 1: airgate.digest is forged in MLflow, {D1} on record; airgate.more is x in MLflow, not set on record; "
        "airgate.window_end is not set in MLflow, 2026-01-09 on record")


def test_the_tag_of_the_stage_is_looked_at_where_it_is_known_and_there(log: AuditStore) -> None:
    signed(log, "1")
    state = in_mlflow("1", **{"airgate.stage": "production"})
    assert changes(log, state) == []
    assert list(changed_versions(known(log, state), state, lambda _: "production")) == []
    assert list(changed_versions(known(log, state), state, lambda _: None)) == [
        Change("tags.changed", "m", "1", {"airgate.stage": None}, {"airgate.stage": "production"})]
    missing = in_mlflow("1")
    assert list(changed_versions(known(log, missing), missing, lambda _: "production")) == []


def test_a_version_that_was_made_again_under_its_number(log: AuditStore) -> None:
    signed(log, "1")
    assert changes(log, in_mlflow("1", source="s3://elsewhere")) == [Change(
        "version.replaced", "m", "1", {"source": "models:/1", "mlflow_run": "r1"},
        {"source": "s3://elsewhere", "mlflow_run": "r1"})]
    assert [change.what for change in changes(log, in_mlflow("1", run=None))] == ["version.replaced"]


def test_a_version_signed_without_its_source_is_not_held_to_one(log: AuditStore) -> None:
    signed(log, "1", source="")
    assert changes(log, in_mlflow("1", source="s3://anywhere")) == []


def test_a_registration_under_way_explains_one_version(log: AuditStore) -> None:
    begun(log)
    assert known(log, in_mlflow("1", "2")).begun == {"1"}
    assert changes(log, in_mlflow("1", "2")) == [
        Change("version.created", "m", "2", after={"source": "models:/1", "mlflow_run": "r1", **TAGS})]


def test_tags_copied_from_a_registered_version_explain_nothing(log: AuditStore) -> None:
    begun(log)
    registered(log, "1")
    assert [(one.what, one.subject) for one in changes(log, in_mlflow("1", "2"))] == [("version.created", "2")]


def test_a_model_that_was_deleted_and_made_again_has_the_newer_registration(log: AuditStore) -> None:
    registered(log, "1", "t0", "d0")
    registered(log, "1")
    assert changes(log, in_mlflow("1")) == []


def test_a_version_that_is_gone_and_a_model_that_is(log: AuditStore) -> None:
    signed(log, "1")
    signed(log, "10", run="t2")
    signed(log, "9", run="t3")
    assert changes(log, RegistryState("m", there=False)) == [Change("model.deleted", "m", "", ["1", "9", "10"])]
    assert changes(log, in_mlflow("1")) == [
        Change("version.deleted", "m", "9", D1), Change("version.deleted", "m", "10", D1)]


def test_mlflows_own_stage(log: AuditStore) -> None:
    signed(log, "1")
    state = RegistryState("m", {"1": RegisteredVersion("1", TAGS, "models:/1", "r1", "Production")})
    assert changes(log, state) == [Change("stage.set", "m", "1", after="Production")]


def test_models_are_those_with_a_decision(log: AuditStore, tmp_path: Any, make: Any) -> None:
    for number, model in enumerate(["b", "a", "c", "b", None]):
        log.append(make(number, "gate.verdict", model=model))
    log.append(make(9, "task.started", model="d"))
    assert models_known(log, tmp_path) == ["a", "b", "c"]
    log.append(make(9, "model.signed", model="d", version="1"))
    assert models_known(log, tmp_path) == ["a", "b", "c", "d"]
