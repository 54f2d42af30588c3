"""The console's routes with Airflow's own SimpleAuthManager deciding; the page with events in the log."""

import hashlib
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.common.db.common import _get_session
from airflow.api_fastapi.core_api.security import get_user
from airflow.models import import_all_models
from airflow.models.base import Base
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tests.governance.chain import Chain, clock, digest_of

from airgate.audit import checkpoints, signing
from airgate.audit.event import Actor, AuditEvent, TaskRef, task_event
from airgate.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from airgate.console.app import app

VERDICT = {"model": "tumour", "version": "1", "window": {"start": "2026-01-01", "end": "2026-01-02"}, "drifted": True,
           "share": 0.7}


@pytest.fixture
def anybody(store, models, tmp_path):
    """A client without a login. Airflow's own tables are there and empty."""
    create_auth_manager()
    engine = create_engine(f"sqlite:///{tmp_path}/airflow.db")
    import_all_models()
    Base.metadata.create_all(engine)

    def session():
        with Session(engine) as session:
            yield session

    app.dependency_overrides[_get_session] = session
    yield TestClient(app)
    app.dependency_overrides.clear()


@pytest.fixture
def as_role(anybody):
    def login(role):
        app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username=f"the {role}", role=role)
        return anybody
    return login


def append(store, kind, model="tumour", version="3", body=None, **fields):
    event = AuditEvent(event_id=uuid4(), kind=kind, occurred_at=datetime.now(UTC), actor=Actor(kind="user", name="ana"),
                       model=model, version=version, source="operator", body=body or {}, **fields)
    store.append(event)
    return event


PROOF = "/api/audit/events/715ca83a-4fbb-566e-a455-6552a119dd1e/proof"
FILE = "/api/models/tumour/predictions/sha256:" + "a" * 64
ROUTES = [("GET", "/"), ("GET", "/api/audit/events"), ("GET", "/api/audit/verify"), ("GET", "/api/models/tumour/history"),
          ("GET", FILE), ("GET", PROOF), ("GET", "/api/audit/consistency"), ("GET", "/api/audit/checkpoint"),
          ("POST", "/api/drift-verdicts")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_is_shown_without_a_login(anybody, method, path):
    assert anybody.request(method, path, json=VERDICT).status_code == 401


def test_every_route_is_tested_for_that():
    here = {(method, route.path) for route in app.routes for method in route.methods}
    templates = {PROOF: "/api/audit/events/{event_id}/proof", FILE: "/api/models/{model}/predictions/{digest}"}
    assert here == {(method, templates.get(path, path).replace("tumour", "{model}")) for method, path in ROUTES}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_user_without_a_role_sees_nothing(as_role, method, path):
    assert as_role(None).request(method, path, json=VERDICT).status_code == 403


def test_events_newest_first_with_filters_and_pages(as_role, store):
    append(store, "gate.verdict", model="other")
    for number in range(3):
        append(store, "drift.verdict", body={"n": number})
    client = as_role("viewer")
    found = client.get("/api/audit/events", params={"model": "tumour", "kind": "drift.verdict", "limit": 2}).json()["events"]
    assert [item["event"]["body"]["n"] for item in found] == [2, 1]
    older = client.get("/api/audit/events", params={"model": "tumour", "before": found[-1]["seq"]}).json()["events"]
    assert [item["event"]["body"]["n"] for item in older] == [0]
    assert client.get("/api/audit/events", params={"limit": 501}).status_code == 422


def test_a_wrong_kind_names_the_nearest(as_role):
    answer = as_role("viewer").get("/api/audit/events", params={"kind": "stage.move"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("no event kind 'stage.move'; did you mean 'stage.moved'? Allowed: audit.alarm")


def test_verify_and_history(as_role, store):
    moved = append(store, "stage.moved", body={"to_version": "3"})
    client = as_role("viewer")
    found = client.get("/api/audit/verify").json()
    assert found.pop("seconds_ago") >= 0
    assert found == {"ok": True, "verdict": "integrity: ok", "size": 1, "root": store.head()[1].hex()}
    history = client.get("/api/models/tumour/history").json()
    assert [move["event"]["event_id"] for move in history["moves"]] == [str(moved.event_id)]


def test_an_events_proof_leads_to_the_root(as_role, store):
    event = [append(store, "drift.verdict", body={"n": number}) for number in range(5)][2]
    client = as_role("viewer")
    path = f"/api/audit/events/{event.event_id}/proof"
    for said in (client.get(path).json(), client.get(path, params={"size": 3}).json()):
        leaf = leaf_hash(said["entry"].encode())
        assert leaf.hex() == said["leaf_hash"]
        hashes = [bytes.fromhex(node) for node in said["proof"]]
        assert said["root"] == store.root_at(said["size"]).hex()
        assert verify_inclusion(leaf, said["index"], said["size"], hashes, bytes.fromhex(said["root"]))
    assert said["size"] == 3
    refused = client.get(path, params={"size": 2})
    assert (refused.status_code, refused.json()["detail"]) == (
        422, f"Event {event.event_id} is number 2: it is not in the tree of 2; allowed: 3 to 5.")
    nobody = client.get(PROOF)
    assert (nobody.status_code, nobody.json()["detail"]) == (404, "The log has no event 715ca83a-4fbb-566e-a455-6552a119dd1e.")
    assert client.get("/api/audit/events/x/proof").status_code == 422


def test_one_tree_is_the_beginning_of_another(as_role, store):
    for number in range(5):
        append(store, "drift.verdict", body={"n": number})
    client = as_role("viewer")
    for new in (None, 4):
        said = client.get("/api/audit/consistency", params={"old": 3} | ({"new": new} if new else {})).json()
        hashes = [bytes.fromhex(node) for node in said["proof"]]
        old_root, new_root = bytes.fromhex(said["old_root"]), bytes.fromhex(said["new_root"])
        assert (said["new"], old_root) == (new or 5, store.root_at(3))
        assert verify_consistency(3, said["new"], old_root, new_root, hashes)
    refused = client.get("/api/audit/consistency", params={"old": 3, "new": 6})
    assert (refused.status_code, refused.json()["detail"]) == (422, "No proof from 3 to 6; allowed: 1 <= old <= new <= 5.")


def test_the_newest_checkpoint_is_given_byte_for_byte(as_role, store):
    client = as_role("viewer")
    none = client.get("/api/audit/checkpoint")
    assert (none.status_code, none.json()["detail"]) == (404, "The log has no checkpoint yet; the DAG audit_upkeep signs one.")
    append(store, "drift.verdict")
    signer = signing.signer_of(Ed25519PrivateKey.generate(), "audit.example.org/airgate")
    note = checkpoints.checkpoint(store, signer)
    answer = client.get("/api/audit/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.content == note.raw


def test_a_log_that_cannot_be_read_is_said(as_role, store, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRGATE_AUDIT_URL", f"sqlite:///{tmp_path}/nowhere.db")
    answer = as_role("viewer").get("/api/audit/events")
    assert answer.status_code == 503
    assert "there is no audit log at" in answer.json()["detail"]
    page = as_role("viewer").get("/")
    assert page.status_code == 503
    assert "there is no audit log at" in page.text


def test_an_outside_verdict_is_recorded_once_with_its_user(as_role, store):
    answers = [as_role("user").post("/api/drift-verdicts", json=VERDICT) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    [stored] = store.events(kind="drift.verdict", model="tumour")
    assert {answer.json()["event_id"] for answer in answers} == {str(stored.event.event_id)}
    assert (stored.event.actor.name, stored.event.source, stored.event.version) == ("the user", "api", "1")
    assert stored.event.body["source"] == "outside monitor"
    assert answers[0].json()["asset_event"] is False  # no DAG has the asset here


def test_an_outside_verdict_keeps_the_monitors_name_but_cannot_be_airgates(as_role, store):
    for source in ("acme", " Airgate"):
        as_role("op").post("/api/drift-verdicts", json={**VERDICT, "source": source})
    assert [item.event.body["source"] for item in store.events()] == ["acme", "outside monitor"]


def test_an_outside_verdict_is_found_by_who_waits_for_it(as_role, store):
    from airgate.contracts.step import Window
    from airgate.lifecycle.drift_sensor import find_verdict

    as_role("user").post("/api/drift-verdicts", json=VERDICT)
    window = Window.model_validate(VERDICT["window"])
    assert find_verdict("tumour", window)["share"] == 0.7


@pytest.mark.parametrize(("role", "change", "code", "text"), [
    ("viewer", {}, 403, "needs the right to run tumour_drift_check"),
    ("user", {"model": "tumor"}, 404, "did you mean 'tumour'?"),
    ("user", {"share": 1.5}, 422, "less than or equal to 1"),
    ("user", {"colour": "red"}, 422, "extra_forbidden"),
])
def test_refused_verdicts(as_role, store, role, change, code, text):
    answer = as_role(role).post("/api/drift-verdicts", json={**VERDICT, **change})
    assert answer.status_code == code
    assert text in answer.text
    assert store.events() == []


def test_the_page_shows_each_model_and_the_newest_events(as_role, store):
    append(store, "gate.verdict", body={"passed": True})
    append(store, "stage.moved", body={"to_version": "3", "approvers": [
        {"user": "mia", "role": "owner"}, {"user": "raj", "role": "risk"}]})
    append(store, "promotion.requested", version="4")
    append(store, "drift.verdict", body={"drifted": True, "share": 0.625, "window": {"start": "2026-01-10"}})
    append(store, "manual.change", model=None, version=None, body={"change": "task.changed", "state": "success"},
           task=TaskRef(dag_id="d", run_id="r", task_id="approve", try_number=1))
    answer = as_role("viewer").get("/")
    assert answer.status_code == 200
    text = " ".join(answer.text.split())
    for expected in ("integrity: ok", "5 events", "version 3", "mia (owner),", "raj (risk)", "version 4 awaits approval",
                     "passed", "62% of columns", "rows of 2026-01-10, against version 3",
                     "d / approve; task.changed -&gt; success", "broken: ", "colour"):
        assert expected in text, expected


def test_decisions_come_first_and_every_event_is_a_link_away(as_role, store):
    task = TaskRef(dag_id="d", run_id="r", task_id="train", try_number=2)
    append(store, "task.succeeded", task=task)
    append(store, "task.failed", task=task, body={"error": "out of memory"})
    client = as_role("viewer")
    assert "task.succeeded" not in client.get("/").text
    assert "d / train, try 2; error: out of memory" in client.get("/").text
    assert "task.succeeded" in client.get("/", params={"events": "all", "model": "tumour"}).text
    assert client.get("/", params={"events": "some"}).status_code == 422


def test_older_events_are_a_link_away(as_role, store):
    for number in range(51):
        append(store, "drift.verdict", body={"drifted": False, "share": 0, "window": {"start": f"day {number}"}})
    client = as_role("viewer")
    text = client.get("/", params={"model": "tumour"}).text
    assert "day 1:" in text
    assert "day 0:" not in text
    assert "?model=tumour&amp;before=1" in text
    older = client.get("/", params={"model": "tumour", "before": 1}).text
    assert "day 0:" in older
    assert "day 1:" not in older
    assert ">older<" not in older


def test_a_decided_request_no_longer_waits(as_role, store):
    append(store, "promotion.requested", version="4")
    append(store, "promotion.refused", version="4")
    assert "awaits" not in as_role("viewer").get("/").text


def test_everything_on_the_page_is_escaped_and_nothing_else_may_run(as_role, store):
    evil = "<script>alert(1)</script>"
    append(store, "task.failed", model=evil, body={"message": evil})
    append(store, "stage.moved", version=evil, body={"to_version": evil, "stage": "production", "reason": evil,
                                                     "approvers": [{"user": evil, "role": evil}]})
    for path in ("/", f"/?model={evil}"):
        answer = as_role("viewer").get(path)
        assert evil not in answer.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert policy.partition("script-src 'nonce-")[2].partition("'")[0] in answer.text


def keep(store, chain):
    store.append_many([item.event for item in chain.events])
    return chain


def told():
    """A model that was promoted twice, rolled back and taken out of production, with its first version archived."""
    chain = Chain()
    first = chain.promote("1", 10)
    chain.promote("2", 60)
    chain.move("1", 80, cause="rollback", from_version="2", reason="more false alarms", run="rb",
               approved_by=str(first.event_id), request_digest=first.body["request_digest"])
    chain.add("stage.reviewed", 90, {"cause": "rollback", "answer": "agreed"}, run="rb", task_id="close")
    chain.add("registry.changed", 100, {"what": "alias.changed", "subject": "production", "before": "1", "after": "2"})
    chain.move(None, 120, cause="demotion", from_version="1", reason="end of life")
    chain.move("1", 130, cause="archiving", stage="archived", reason="old")
    return chain


def test_the_page_of_a_model_shows_what_was_live_and_leads_to_requests_and_approvals(as_role, store):
    keep(store, told())
    text = " ".join(as_role("viewer").get("/", params={"model": "tumour"}).text.split())
    assert text.count('<a class="bar" href="#period-') == 4  # three in production, one archived
    assert "<title>version 2, from 2026-01-08 10:00:00 until 2026-01-08 10:20:00 UTC (promotion)</title>" in text
    assert "<title>registry.changed 2026-01-08 10:40:00</title>" in text
    assert "rollback: more false alarms" in text
    assert "none any more" in text
    assert ">review: agreed</a>" in text
    for link in ("/dags/tumour_promotion/runs/p1/tasks/request", "/dags/tumour_promotion/runs/rb/tasks/close",
                 "/dags/tumour_promotion/runs/p2/tasks/approve_risk/required_actions"):
        assert f'href="{link}"' in text, link
    assert text.index("rollback: more false alarms") < text.index("10:00:00</td>"), "the newest time comes first"
    assert 'role="alert"' not in text


def test_the_page_of_all_models_shows_what_was_live_with_a_row_each(as_role, store):
    keep(store, told())
    text = " ".join(as_role("viewer").get("/").text.split())
    assert text.count('<a class="bar" href="?model=tumour#period-') == 3
    assert "rollback; production: version 2 -&gt; version 1; reason: more false alarms" in text
    assert "demotion; production: version 1 -&gt; nothing; reason: end of life" in text
    assert "alias.changed production: 1 -&gt; 2; nothing was put back" in text


def test_a_move_in_doubt_is_an_alert_on_the_page(as_role, store):
    chain = told()
    chain.add("stage.moved", 140, {"cause": "promotion", "to_version": "9", "previous": ""})
    keep(store, chain)
    text = as_role("viewer").get("/", params={"model": "tumour"}).text
    assert "does not follow the move before it: Airgate did not write it" in text


def test_a_rollback_decides_no_request(as_role, store):
    chain = told()
    chain.add("promotion.requested", 125, {"to_stage": "production"}, run="p4", version="4")
    chain.move("1", 140, cause="rollback", from_version=None, reason="back")
    keep(store, chain)
    assert "version 4 awaits approval" in as_role("viewer").get("/").text


def test_the_history_of_a_model_over_http(as_role, store):
    keep(store, told())
    client = as_role("viewer")
    path = "/api/models/tumour/history"
    for at in ("2026-01-08T10:10:00Z", "2026-01-08T10:10:00"):
        said = client.get(path, params={"at": at}).json()
        assert (said["answer"]["version"], said["known_then"]["version"], said["corrected"]) == ("2", None, True)
    assert [move["event"]["body"]["cause"] for move in said["moves"]] == [
        "promotion", "promotion", "rollback", "demotion", "archiving"]
    proven = said["proofs"]["events"]
    assert {proof["index"] for proof in proven} >= {said["answer"]["period"]["moved"]["seq"]}
    for proof in proven:
        hashes = [bytes.fromhex(node) for node in proof["proof"]]
        leaf = leaf_hash(proof["entry"].encode())
        assert verify_inclusion(leaf, proof["index"], proof["size"], hashes, store.head()[1])
    assert client.get(path, params={"stage": "archived"}).json()["periods"][0]["version"] == "1"
    assert client.get(path, params={"known_at": "2026-01-08T12:00:00Z"}).json()["periods"] == []


@pytest.mark.parametrize(("path", "params", "code", "text"), [
    ("tumor/history", {}, 404, "the audit log has nothing about a model 'tumor'; did you mean 'tumour'?"),
    ("tumour/history", {"stage": "prod"}, 422, "there is no stage 'prod'; did you mean 'production'?"),
    ("tumour/history", {"at": "yesterday"}, 422, "Input should be a valid datetime"),
    ("tumour/predictions/sha256:abc", {}, 422, "String should match pattern"),
    ("tumour/predictions/sha256:" + "a" * 64, {}, 404, "no run of tumour on record wrote these bytes"),
])
def test_questions_about_models_that_have_no_answer(as_role, store, path, params, code, text):
    keep(store, told())
    answer = as_role("viewer").get(f"/api/models/{path}", params=params)
    assert answer.status_code == code
    assert text in answer.text


def test_which_version_made_a_prediction_file_over_http(as_role, store):
    keep(store, told())
    file = "sha256:" + "f" * 64
    listing = json.dumps({"date=2026-01-08/predictions.parquet": file}, separators=(",", ":"))
    facts = {"model_version": "2", "model_digest": digest_of("2"),
             "predictions_digest": "sha256:" + hashlib.sha256(listing.encode()).hexdigest()}
    store.append(task_event(
        "task.succeeded", TaskRef(dag_id="tumour_batch_inference", run_id="s", task_id="predict", try_number=1), model="tumour",
        actor=Actor(kind="schedule", name="d"), source="operator", occurred_at=clock(70), body={
            "function": "airgate.steps.predict:predict", "facts": facts, "window": {"start": "2026-01-08", "end": "2026-01-09"}}))
    said = as_role("viewer").get(f"/api/models/tumour/predictions/{file}").json()
    assert (said["confirmed"], said["version"], said["run"]["run_id"], said["problems"]) == (True, "2", "s", [])


def test_the_page_works_with_nothing_in_the_log(as_role, store):
    text = as_role("viewer").get("/").text
    assert "none yet" in text
    assert "Nothing has happened yet." in text
