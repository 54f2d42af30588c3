"""What is in production must verify: signature, record, stage, promotion, approvals; and what breaks each."""

import re
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.lifecycle.conftest import DIGEST, FILES, MODEL, Context, House
from tests.lifecycle.test_promotion import promote

from airgate import settings
from airgate.audit import signed
from airgate.audit.event import Actor, AuditEvent, event_id_of
from airgate.audit.registry_changes import Change, found_event
from airgate.contracts.model_spec import ModelSpec
from airgate.errors import ConfigError, PromotionError, SignatureError
from airgate.lifecycle import sign
from airgate.lifecycle.live import LiveModelOperator
from airgate.lifecycle.model_verification import Verification, trusted, verify_version
from airgate.runtime.live import check_live
from airgate.signatures import keys, private_key, statement
from airgate.signatures.statement import Promotion, Registration, Statement

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
CHECKS = ["registration", "record", "stage", "promotion", "approvals", "move", "mlflow", "files"]


@pytest.fixture
def promoted(house: House, spec: ModelSpec, context: Context) -> House:
    """Version 1 in production, by two approvals."""
    assert promote(house, spec, context, "1", "p1")["outcome"] == "applied"
    return house


def verify(house: House, version: str = "1", stage: str | None = "production", **more: Any) -> Verification:
    return verify_version(house.log, trusted(), MODEL, version, stage=stage, registry=house.registry, **more)


def failed(found: Verification) -> dict[str, str]:
    return {check.name: check.said for check in found.checks if not check.passed}


def live(spec: ModelSpec, context: Context) -> dict[str, Any]:
    return LiveModelOperator(task_id="live_model", spec=spec).execute(context("batch_inference", "live_model"))


def append(house: House, signed_by: keys.Signer, said: Statement, **body: Any) -> None:
    """A `model.signed` event as somebody with access to the log, and with this key, could write it."""
    kind = "promotion" if isinstance(said.predicate, Promotion) else "registration"
    envelope = statement.sign(said, signed_by)
    house.log.append(AuditEvent(
        event_id=event_id_of("forged", kind, envelope.digest()), kind="model.signed", occurred_at=datetime.now(UTC),
        actor=Actor(kind="system", name="x"), source="operator", model=said.predicate.model, version=said.predicate.version,
        body={"statement": kind, "envelope": envelope.to_json(), "envelope_digest": envelope.digest(),
              "key": signed_by.public.text(), "model_digest": said.predicate.model_digest, **body}))


def own_signer() -> keys.Signer:
    now = settings.load()
    return keys.signer(now.model_key, now.environment)


def test_everything_verifies_and_inference_gets_the_signature(promoted: House, spec: ModelSpec, context: Context) -> None:
    found = verify(promoted, files=FILES)
    assert found.ok and [check.name for check in found.checks] == CHECKS
    assert found.lines()[4].startswith("ok      approvals     approved by ana (ml_engineer) and omar (risk_officer)")
    given = live(spec, context)
    assert {key: given[key] for key in ("model", "version", "digest", "data_revision")} == {
        "model": MODEL, "version": "1", "digest": DIGEST, "data_revision": "c0ffee"}
    said = statement.verify(given["signature"], trusted(), environment="development")
    assert said.files == FILES and isinstance(said.predicate, Promotion) and said.predicate.stage == "production"
    moved = promoted.log.events(kind="stage.moved")[-1].event
    assert moved.body["signature"] == str(signed.promotion_of(promoted.log, MODEL, "1", moved.body["request_digest"]).event_id)


def test_the_record_of_a_registration_may_expire_before_its_version_does(promoted: House) -> None:
    said = sign.registration(promoted.log, MODEL, "1").predicate
    assert isinstance(said, Registration)
    with closing(sqlite3.connect(promoted.folder / "audit.db")) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        drop = f"SET entry = NULL WHERE event_id = '{said.register_event}'"
        assert database.execute(f"UPDATE airgate_events {drop}").rowcount == 1
    found = verify(promoted)
    assert found.ok and "whose contents have expired; the signature keeps what it said" in found.lines()[1]
    with closing(sqlite3.connect(promoted.folder / "audit.db")) as database, database:
        database.execute(f"DELETE FROM airgate_events WHERE event_id = '{said.register_event}'")
    assert "the audit log does not have event" in failed(verify(promoted))["record"]


def test_names_of_people_are_sealed_in_what_is_signed(promoted: House) -> None:
    for stored in promoted.log.events(kind="model.signed"):
        said = statement.verify(stored.event.body["envelope"], trusted())
        assert not any(name in said.payload().decode() for name in ('"ana"', '"omar"', "ana\\", "omar\\"))


def test_an_erased_approver_breaks_no_proof(promoted: House) -> None:
    from airgate.audit.erasure import erase

    erase(promoted.log, "omar", by=Actor(kind="outside", name="eve"), reason="asked for it")
    found = verify(promoted)
    assert found.ok
    assert "approved by ana (ml_engineer) and erased:" in found.lines()[4]


def test_what_was_handed_to_a_step_is_held_against_the_log(promoted: House, spec: ModelSpec, context: Context) -> None:
    given, ti = live(spec, context), context("batch_inference", "predict")["ti"]
    check_live(given, MODEL, ti)
    later = {"start": "2026-01-09", "end": "2026-01-10"}
    for name, forged in (("version", "2"), ("digest", "sha256:" + "f" * 64), ("window", later), ("signature", {})):
        with pytest.raises(PromotionError, match="changed by hand"):
            check_live({**given, name: forged}, MODEL, ti)


@pytest.mark.attack("the task that verifies is marked as a success, with an XCom of an earlier run")
def test_a_step_scores_with_nothing_that_this_run_did_not_verify(promoted: House, spec: ModelSpec, context: Context) -> None:
    given, later = live(spec, context), context("batch_inference", "predict", run="run2")["ti"]
    said = (f"no task of this run has verified version 1 of {MODEL}: a task that was marked as a success did not look. Clear the "
            "task 'live_model' and let it run.")
    with pytest.raises(PromotionError) as caught:
        check_live(given, MODEL, later)
    assert str(caught.value) == said
    body = {"live": {"version": "1", "digest": DIGEST}}
    promoted.succeeded(f"{MODEL}_batch_inference", "run2", "live_model", body, source="callback")
    with pytest.raises(PromotionError, match="did not look"):
        check_live(given, MODEL, later)


def test_a_version_that_is_lost_after_it_was_verified_is_not_scored(
        promoted: House, spec: ModelSpec, context: Context) -> None:
    given, ti = live(spec, context), context("batch_inference", "predict")["ti"]
    lost = Change("version.deleted", MODEL, "1", DIGEST)
    promoted.log.append(found_event(lost, "none", None, occurred_at=datetime.now(UTC), source="operator"))
    with pytest.raises(PromotionError, match=r"registry.changed\). Nothing is scored with it\."):
        check_live(given, MODEL, ti)


def test_a_version_of_an_earlier_release_must_be_signed_first(house: House, spec: ModelSpec, context: Context) -> None:
    candidate = house.trained(spec, signed=False)
    hint = r"1 is not signed \(registration\): it is from release 0.2.0 or earlier.*`airgate model sign diagnosis_classifier@1`"
    assert "version 1 is not signed (registration)" in failed(verify(house, stage=None))["registration"]
    with pytest.raises(PromotionError, match=hint):
        sign.registration(house.log, MODEL, "1")
    house.registry.set_alias(MODEL, "production", "1")
    moved = {"to_version": "1", "model_digest": candidate.digest, "request_digest": "sha256:" + "1" * 64}
    house.succeeded(f"{MODEL}_promotion", "p", "apply", moved, kind="stage.moved")
    assert "is not signed (promotion), and every promotion since release 0.3.0 is" in failed(verify(house))["promotion"]
    assert "model sign" not in failed(verify(house))["promotion"]
    with pytest.raises(PromotionError, match=rf"{MODEL}: the promotion of version 1 to production by run p of {MODEL}_promotion "
                                             "is not signed. Only what Airgate signed moves a stage: look at event"):
        live(spec, context)


def test_signing_twice_gives_one_event(house: House, spec: ModelSpec) -> None:
    house.trained(spec)
    assert house.signed() == house.signed()
    assert len(house.log.events(kind="model.signed")) == 1


def test_a_new_key_signs_again_and_the_newest_signature_counts(promoted: House, monkeypatch: pytest.MonkeyPatch) -> None:
    private_key.write_new(promoted.folder / "new.pem")
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{promoted.folder}/new.pem")
    assert "which is not trusted here" in failed(verify(promoted))["registration"]
    promoted.signed("t-p1")
    assert list(failed(verify(promoted))) == ["promotion", "move"]


def test_without_a_key_nothing_is_signed_and_nothing_verifies(
        house: House, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    house.trained(spec, signed=False)
    monkeypatch.delenv("AIRGATE_MODEL_KEY")
    with pytest.raises(ConfigError, match="no key signs models: set AIRGATE_MODEL_KEY"):
        house.signed()
    with pytest.raises(ConfigError, match="no key is trusted"):
        trusted()


def test_a_success_by_hand_is_not_signed(house: House, spec: ModelSpec, context: Context) -> None:
    from airgate.authoring import assets

    task = sign.SignOperator(task_id="sign", spec=spec, outlets=[assets.candidate(MODEL)])
    with pytest.raises(SignatureError, match="has no success of 'register' from this run, so there is nothing to sign"):
        task.execute(context("training", "sign", run="t9"))
    candidate = house.trained(spec, run="t9", signed=False)
    given = context("training", "sign", run="t9")
    assert task.execute(given) == candidate.model_dump(mode="json") == given["outlet_events"][task.outlets[0]].extra
    event = house.log.events(kind="model.signed")[0].event
    assert (event.version, event.body["statement"], event.task and event.task.task_id) == ("1", "registration", "sign")
    assert event.body["model_digest"] == DIGEST and event.body["key"] == own_signer().public.text()
    said = statement.verify(event.body["envelope"], trusted())
    assert said.predicate.tags["airgate.training_run"] == "t9" and said.predicate.source == house.source("1")


def test_a_changed_manifest_is_not_signed(house: House, spec: ModelSpec) -> None:
    house.trained(spec, signed=False)
    house.stored_at(DIGEST).write_bytes(b"{}")
    with pytest.raises(SignatureError, match="not the manifest of digest sha256:.*do not sign it"):
        house.signed()


# ------------------------------------------------------------------------------------------------ attacks


@pytest.mark.attack("a stranger signs")
def test_a_stranger_with_the_log_in_hand_signs_nothing_that_counts(promoted: House) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    stranger = keys.signer_of(Ed25519PrivateKey.generate(), "development")
    append(promoted, stranger, sign.registration(promoted.log, MODEL, "1"))
    assert verify(promoted).ok  # and nothing that counted counts less
    assert stranger.public.keyid not in "".join(verify(promoted).lines())
    with pytest.raises(SignatureError, match=f"signed by {re.escape(stranger.public.keyid)}, which is not trusted here"):
        statement.verify(promoted.log.events(kind="model.signed")[-1].event.body["envelope"], trusted())


def test_moved_by_hand_in_mlflow(promoted: House, spec: ModelSpec) -> None:
    promoted.registry.set_alias(MODEL, "production", "2")
    assert failed(verify(promoted)) == {
        "mlflow": "MLflow calls version 2 production. Did somebody move the alias? Run the DAG registry_guard."}
    promoted.trained(spec, version="2", run="t2")
    assert failed(verify(promoted, "2"))["stage"] == "production holds version 1 by the audit log."


@pytest.mark.attack("a model's files are changed")
def test_changed_files_are_named(promoted: House) -> None:
    changed = {**FILES, "model.ubj": "sha256:" + "c" * 64, "extra.pkl": "sha256:" + "d" * 64}
    assert "changed: model.ubj; not signed: extra.pkl" in failed(verify(promoted, files=changed))["files"]


def cited(house: House, kind: Any) -> list[str]:
    return [house.log.entry(item.event.event_id)[1].decode() for item in house.log.events(kind=kind)]


def promotion(house: House, **changes: Any) -> Statement:
    """The promotion on record with other parts, as whoever has the key could sign it."""
    approvals = cited(house, "promotion.approved")
    about = {"model": MODEL, "version": "1", "model_digest": DIGEST, "stage": "production", "environment": "development",
             "request": cited(house, "promotion.requested")[0], "approvals": approvals[:2], **changes}
    return Statement(files=FILES, predicate=Promotion(**about))


def approved(house: House, **changes: Any) -> str:
    """The risk officer's approval with other contents, put on record as well; gives its leaf."""
    event = house.log.events(kind="promotion.approved")[1].event
    event = event.model_copy(update={"event_id": event_id_of("forged", str(changes)), "body": {**event.body, **changes},
                                     "personal": {}})
    house.log.append(event)
    found = house.log.entry(event.event_id)
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize(("changes", "check", "message"), [
    (lambda house: {"approvals": cited(house, "promotion.approved")[:1] * 2}, "approvals", "1 person in 1 role(s) approved; two"),
    (lambda house: {"approvals": cited(house, "promotion.approved")[:1]}, "approvals", "1 person in 1 role(s) approved; two"),
    (lambda house: {"approvals": cited(house, "promotion.requested") * 2}, "approvals", "is promotion.requested; promotion.app"),
    (lambda house: {"approvals": ["{}", "[]"]}, "approvals", "what was signed as promotion.approved is no leaf of an audit log"),
    (lambda house: {"request": cited(house, "promotion.requested")[0].replace("c0de", "beef").replace('"seq":', '"seq":1')},
     "approvals", "(promotion.requested) is not as it was signed. Run `airgate audit verify`"),
    (lambda house: {"stage": "staging"}, "promotion", "what was signed is no promotion to production"),
    (lambda house: {"approvals": [cited(house, "promotion.approved")[0], approved(house, user="mia", person="mia")]},
     "approvals", "mia asked for the promotion and approved it too"),
    (lambda house: {"approvals": [cited(house, "promotion.approved")[0], approved(house, at="2099-01-01T00:00:00Z")]},
     "approvals", "the approval by risk_officer was given after the request had expired"),
])
@pytest.mark.attack("a promotion that is signed but does not hold")
def test_a_promotion_that_does_not_hold(promoted: House, changes: Callable[[House], dict[str, Any]], check: str,
                                        message: str) -> None:
    """Whoever has the key could sign it, and it is in the log: the rules of approval still do not allow it."""
    digest = promoted.log.events(kind="stage.moved")[-1].event.body["request_digest"]
    append(promoted, own_signer(), promotion(promoted, **changes(promoted)), request_digest=digest)
    assert message in failed(verify(promoted))[check]


@pytest.mark.attack("approvals of another request are signed")
def test_approvals_of_another_request_do_not_count(promoted: House, spec: ModelSpec, context: Context) -> None:
    assert promote(promoted, spec, context, "2", "p2")["outcome"] == "applied"
    digest = promoted.log.events(kind="stage.moved")[-1].event.body["request_digest"]
    first = cited(promoted, "promotion.approved")[:2]
    second = promotion(promoted, version="2", request=cited(promoted, "promotion.requested")[1], approvals=first)
    append(promoted, own_signer(), second, request_digest=digest)
    assert failed(verify(promoted, "2")) == {
        "approvals": "the approval by ml_engineer, risk_officer was given for another request."}


@pytest.mark.attack("the signature in the log is changed")
def test_an_envelope_changed_in_the_log(promoted: House, spec: ModelSpec, context: Context) -> None:
    event = signed.registration_of(promoted.log, MODEL, "1")
    assert event is not None
    envelope = dict(event.body["envelope"]) | {"payload": b64encode(b"{}").decode()}
    changed = {"event_id": event_id_of("x"), "body": {**event.body, "envelope": envelope}}
    promoted.log.append(event.model_copy(update=changed))
    assert verify(promoted).ok and live(spec, context)["version"] == "1"  # the one before counts
    promoted.log.append(event.model_copy(update={**changed, "event_id": event_id_of("y"), "version": "2"}))
    assert "does not fit the signed text: one of them was changed" in failed(verify(promoted, "2", None))["registration"]
