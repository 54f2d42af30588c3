"""A secret in a request to Airflow's API is neither in the log nor, while that is down, in the spool."""

import json

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from airgate.console.middleware import ManualChanges

TASK = "/api/v2/dags/d/dagRuns/r/taskInstances/t"
REQUESTS = [
    ("POST", TASK + "/xcomEntries", {"key": "api_token", "value": "CANARY"}, {"key": "api_token", "value": "***"}),
    ("POST", TASK + "/xcomEntries", {"key": "api_token", "value": {"n": ["CANARY"]}},
     {"key": "api_token", "value": {"n": ["***"]}}),
    ("PATCH", TASK + "/xcomEntries/api_token", {"value": "CANARY"}, {"value": "***"}),
    ("PATCH", TASK, {"note": "see https://ana:CANARY@host"}, {"note": "see https://***@host"}),
    ("PATCH", TASK[:-1] + "refresh_token", {"new_state": "success"}, {"new_state": "success"}),
    ("POST", "/api/v2/assets/events", {"asset_id": 3, "extra": {"login": {"client_secret": "CANARY"}}},
     {"asset_id": 3, "extra": {"login": {"client_secret": "***"}}}),
    ("PATCH", TASK + "/-1/hitlDetails", {"params_input": {"reason": "password=CANARY"}},
     {"params_input": {"reason": "password=***"}}),
]


async def the_user(scope):
    return "ana", "7"


@pytest.fixture
def client(store):
    app = FastAPI()
    app.add_middleware(ManualChanges, user_of=the_user)

    @app.api_route("/api/v2/{rest:path}", methods=["POST", "PATCH"])
    async def anything(request: Request):
        return {"size": len(await request.body())}

    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(("method", "path", "body", "kept"), REQUESTS)
def test_no_secret_of_a_request_is_in_the_log(client, store, method, path, body, kept):
    assert client.request(method, path, json=body).status_code == 200
    [stored] = store.events()
    assert json.loads(stored.event.body["request"]) == kept


@pytest.mark.parametrize("path", ["/api/v2/connections", "/api/v2/variables/x", "/api/v2/connections/canary"])
def test_the_body_of_a_request_for_secrets_is_not_kept_at_all(client, store, path):
    client.patch(path, json={"password": "CANARY", "value": "CANARY"})
    assert store.events()[0].event.body["request"] is None


def test_a_credential_in_a_path_is_hidden(client, store):
    client.patch(TASK + "/xcomEntries/token=CANARY", json={"value": 1})
    assert store.events()[0].event.body["path"] == TASK + "/xcomEntries/token=***"


def test_no_secret_waits_in_the_spool(client, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("AIRGATE_AUDIT_URL", "postgresql://ana:CANARY@127.0.0.1:1/audit")
    monkeypatch.setenv("AIRGATE_AUDIT_PATIENCE", "0.01")
    for method, path, body, _ in REQUESTS:
        client.request(method, path, json=body)
    kept = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert len(kept) == len(REQUESTS)
    assert not any(b"CANARY" in path.read_bytes() for path in kept)
    assert "CANARY" not in caplog.text and "Not in the audit log yet" in caplog.text
