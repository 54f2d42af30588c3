"""What `airgate model sign` signs afterwards, and what it never does: to stand in the log is no promotion."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.lifecycle.conftest import DIGEST, FILES, MODEL, Context, House
from tests.lifecycle.test_model_verification import failed, live, verify
from tests.lifecycle.test_promotion import promote, requested

from airgate.audit import checkpoints
from airgate.audit.event import Actor, AuditEvent, TaskRef
from airgate.audit.signing import Signer, signer_of
from airgate.audit.store import AuditStore
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.stages import StageMove
from airgate.errors import PromotionError
from airgate.governance import stages
from airgate.lifecycle import resign
from airgate.lifecycle.moves import Author, Moves
from airgate.signatures import keys, private_key

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
NOBODY = Actor(kind="system", name="x")


@pytest.fixture
def promoted(house: House, spec: ModelSpec, context: Context) -> House:
    """Version 1 in production, by two approvals."""
    assert promote(house, spec, context, "1", "p1")["outcome"] == "applied"
    return house


def sign(house: House, version: str = "1", before: int | None = None) -> list[str]:
    """Sign as an operator does; give what was signed."""
    made = resign.sign_version(house.log, MODEL, version, FILES, before, actor=Actor(kind="outside", name="op"), source="cli")
    return [event.body["statement"] for event in made]


def append(house: House, kind: Any, body: dict[str, Any], version: str, event_id: Any = None, **more: Any) -> None:
    """An event as somebody who may append to the log could write it."""
    task = TaskRef(dag_id=f"{MODEL}_promotion", run_id="evil", task_id="apply", try_number=1)
    house.log.append(AuditEvent(**{
        "event_id": event_id or uuid4(), "kind": kind, "occurred_at": datetime.now(UTC), "actor": NOBODY, "model": MODEL,
        "version": version, "source": "operator", "task": task, "body": body, **more}))


def append_move(house: House, **body: Any) -> None:
    """A claim and the move that settles it, as links of the chain."""
    now = stages.read(house.log, MODEL)
    claim = stages.claim_id(MODEL, now.settled)
    body = {**body, "previous": now.settled, "claim": str(claim)}
    append(house, "stage.moving", body, body["to_version"], claim)
    append(house, "stage.moved", body, body["to_version"], stages.settling_id(claim))
    author = Author(Actor(kind="user", name="ana"), TaskRef(dag_id="guard", run_id="r", task_id="t", try_number=1))
    Moves(house.log, house.registry, author).finish(MODEL, ["production"])


def forge_approval(house: House, spec: ModelSpec) -> None:
    """Version 2, trained and signed, with a request and approvals that nobody gave, and a move that nobody made."""
    house.trained(spec, "2", "t2")
    asked = requested(house).model_copy(update={"version": "2", "expected_current": "1", "nonce": "f" * 32})
    append(house, "promotion.requested", asked.document(), "2")
    for role, user in (("ml_engineer", "ana"), ("risk_officer", "omar")):
        append(house, "promotion.approved", {
            "role": role, "user": user, "person": user, "at": datetime.now(UTC).isoformat(), "meaning": "m", "reason": "ok",
            "request_digest": asked.digest()}, "2", personal={"user": user, "person": user, "reason": user})
    append_move(house, cause="promotion", stage="production", from_version="1", to_version="2", model_digest=DIGEST,
                request_digest=asked.digest())


@pytest.mark.attack("approvals written into the log, and an operator who signs")
def test_forged_approvals_are_not_signed(promoted: House, spec: ModelSpec, context: Context) -> None:
    forge_approval(promoted, spec)
    with pytest.raises(PromotionError, match="is not signed. Only what Airgate signed moves a stage"):
        live(spec, context)
    said = failed(verify(promoted, "2"))
    assert set(said) == {"promotion", "move"} and "model sign" not in said["promotion"]
    with pytest.raises(PromotionError, match="bears no signature that counts here, so it is not signed: whoever may write to the "
                                             "log could have made it up.*ask those who approved.*Otherwise promote anew"):
        sign(promoted, "2")
    key = auditor()
    size = checkpoints.checkpoint(promoted.log, key).size
    with pytest.raises(PromotionError, match=rf"--before {size}: signing began at event (\d+) of this log, .*at most \1\."):
        sign(promoted, "2", size)
    assert set(failed(verify(promoted, "2"))) == {"promotion", "move"}


@pytest.mark.attack("a version that was approved once is put back by an append alone")
def test_to_append_puts_no_version_back(promoted: House, spec: ModelSpec, context: Context) -> None:
    old = stages.read(promoted.log, MODEL).live
    assert old is not None
    promote(promoted, spec, context, "2", "p2")
    author = Author(Actor(kind="user", name="ana"), TaskRef(dag_id="d", run_id="r", task_id="t", try_number=1))
    bad = StageMove(cause="archiving", stage="archived", to_version="1", model_digest=DIGEST, reason="bad model")
    Moves(promoted.log, promoted.registry, author).move(MODEL, bad)
    assert live(spec, context)["version"] == "2"
    body = old.body.model_dump(mode="json") | {"cause": "rollback", "from_version": "2", "envelope": old.event.body["envelope"]}
    append_move(promoted, **body)
    with pytest.raises(PromotionError, match="the signature of the rollback of version 1 to production by run evil of .* does "
                                             "not count: it is of another move"):
        live(spec, context)
    said = failed(verify(promoted, "1"))
    assert said["stage"] == "it is archived, and was moved to production all the same: Airgate moves no archived version."
    assert "it is of another move" in said["move"]


@pytest.mark.parametrize("envelope", [None, {"payload": "", "payloadType": "x", "signatures": [{"sig": ""}]}])
@pytest.mark.attack("nonsense is written as the newest signature")
def test_garbage_stands_in_the_way_of_no_signature(promoted: House, spec: ModelSpec, context: Context, envelope: Any) -> None:
    move = stages.read(promoted.log, MODEL).live
    assert move is not None
    about = {"envelope": envelope, "model_digest": "sha256:" + "0" * 64, "request_digest": move.body.request_digest}
    append(promoted, "model.signed", {**about, "statement": "registration", "request_digest": None}, "1")
    append(promoted, "model.signed", {**about, "statement": "promotion"}, "1")
    append(promoted, "model.signed", {**about, "statement": "move", "move": move.event_id}, "1")
    assert live(spec, context)["version"] == "1" and verify(promoted).ok
    assert sign(promoted) == []


def test_a_key_comes_back_after_another_had_signed(
        promoted: House, spec: ModelSpec, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    first = f"file:{promoted.folder}/model-key.pem"
    private_key.write_new(promoted.folder / "b.pem")
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", keys.signer(first, "development").public.text())
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{promoted.folder}/b.pem")
    assert sign(promoted) == ["registration", "promotion", "move"]
    monkeypatch.delenv("AIRGATE_MODEL_TRUST")
    assert live(spec, context)["version"] == "1"
    monkeypatch.setenv("AIRGATE_MODEL_KEY", first)
    assert sign(promoted) == []
    assert live(spec, context)["version"] == "1" and verify(promoted).ok


def test_what_was_signed_is_signed_again_as_it_was(promoted: House, monkeypatch: pytest.MonkeyPatch) -> None:
    old = keys.signer(f"file:{promoted.folder}/model-key.pem", "development").public.text()
    before = promoted.log.events(kind="model.signed")[-1].event.body
    private_key.write_new(promoted.folder / "b.pem")
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{promoted.folder}/b.pem")
    with pytest.raises(PromotionError, match="If a key was changed, trust the old one in AIRGATE_MODEL_TRUST while you sign"):
        sign(promoted)
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", old)
    assert sign(promoted) == ["promotion", "move"]  # the registration was, before the promotion was refused
    after = promoted.log.events(kind="model.signed")[-2].event.body
    assert after["envelope"]["payload"] == before["envelope"]["payload"] and after["key"] != before["key"]
    assert {name: after[name] for name in ("stage", "request_event", "request_digest")} == {
        name: before[name] for name in ("stage", "request_event", "request_digest")}


def auditor() -> Signer:
    """The key of the log's checkpoints."""
    return signer_of(Ed25519PrivateKey.generate(), "log.example")


def as_release_0_2_0_left_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same story in another log, without signatures and with a move that is no link of a chain."""
    old, house.log = house.log, AuditStore(f"sqlite:///{house.folder}/old.db")
    house.log.create()
    monkeypatch.setenv("AIRGATE_AUDIT_URL", f"sqlite:///{house.folder}/old.db")
    for stored in old.events():
        event = stored.event
        if event.kind == "stage.moved":
            body = {name: value for name, value in event.body.items() if name not in ("claim", "envelope", "previous", "cause")}
            house.log.append(event.model_copy(update={"event_id": uuid4(), "body": body}))
        elif event.kind not in ("stage.moving", "model.signed"):
            house.log.append(event)


def test_a_promotion_of_release_0_2_0_is_signed_where_a_checkpoint_covers_it(
        promoted: House, spec: ModelSpec, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    as_release_0_2_0_left_it(promoted, monkeypatch)
    key = auditor()
    early = promoted.log.head()[0]
    size = checkpoints.checkpoint(promoted.log, key).size
    with pytest.raises(PromotionError, match="give the size of a checkpoint from before the update: --before SIZE"):
        sign(promoted, before=None)
    for wrong, why in ((early, f"this log has no checkpoint over {early} events; it has {size}"),
                       (size + 1, f"signing began at event {size} of this log")):
        with pytest.raises(PromotionError, match=f"--before {wrong}: {why}"):
            sign(promoted, before=wrong)
    assert sign(promoted, before=size) == ["promotion", "move"]
    assert verify(promoted).ok and live(spec, context)["version"] == "1"


@pytest.mark.parametrize("made_up", [
    lambda house: append(house, "stage.moved", {"to_version": "1", "model_digest": DIGEST, "request_digest": "r"}, "1"),
    lambda house: append(house, "stage.moved", {"to_version": "1", "stage": "staging", "cause": "rollback"}, "1")])
@pytest.mark.attack("a promotion of 0.2.0 is made up after the checkpoint")
def test_what_no_checkpoint_covers_is_not_signed(
        promoted: House, monkeypatch: pytest.MonkeyPatch, made_up: Callable[[House], None]) -> None:
    as_release_0_2_0_left_it(promoted, monkeypatch)
    size = checkpoints.checkpoint(promoted.log, auditor()).size
    made_up(promoted)
    with pytest.raises(PromotionError, match="no approved request behind the promotion of version 1|does not cover event"):
        sign(promoted, before=size)
