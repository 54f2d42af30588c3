"""The middleware around a small FastAPI application with Airflow's paths, as a person's requests meet it."""

from types import SimpleNamespace

import pytest
from airflow.listeners.listener import get_listener_manager
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from airgate.console.middleware import COPY_LIMIT, ManualChanges

RUN = "/api/v2/dags/d/dagRuns/r"


async def the_user(scope):
    return dict(scope["headers"]).get(b"x-user", b"unknown").decode(), "7"


@pytest.fixture
def client(store):
    app = FastAPI()
    app.add_middleware(ManualChanges, user_of=the_user)

    @app.patch(RUN + "/taskInstances/{task_id}")
    def mark(task_id: str, body: dict):  # not async: runs in a thread, as Airflow's routes do
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id=task_id, map_index=-1, try_number=1)
        get_listener_manager().hook.on_task_instance_success(previous_state=None, task_instance=ti)
        if body.get("fail"):
            raise HTTPException(409, "rolled back")
        return {"got": body}

    @app.post("/api/v2/dags/d/clearTaskInstances")
    async def clear(request: Request):
        return {"size": len(await request.body())}

    @app.post("/api/v2/assets/events")
    async def stream(request: Request):
        parts = [chunk async for chunk in request.stream()]
        return StreamingResponse(iter(parts))

    @app.get("/api/v2/dags")
    def read():
        return []

    with TestClient(app, headers={"x-user": "ana"}) as client:
        yield client


def changes(store):
    return [stored.event for stored in store.events()]


def test_a_change_is_on_record_with_its_user_when_the_answer_comes(client, store):
    answer = client.patch(RUN + "/taskInstances/t", json={"new_state": "success"})
    assert answer.json() == {"got": {"new_state": "success"}}
    [event] = changes(store)
    assert (event.kind, event.source, event.actor.kind, event.actor.name) == ("manual.change", "listener", "user", "ana")
    assert (event.task.task_id, event.body["state"], event.body["user_id"]) == ("t", "success", "7")


def test_effects_of_two_requests_do_not_mix(client, store):
    for name in ("t", "u"):
        client.patch(f"{RUN}/taskInstances/{name}", json={}, headers={"x-user": name})
    assert [(event.actor.name, event.task.task_id) for event in changes(store)] == [("t", "t"), ("u", "u")]


@pytest.mark.parametrize("send", [
    lambda client: client.patch(RUN + "/taskInstances/t", json={"fail": True}),
    lambda client: client.patch(RUN + "/taskInstances/t", content=b"no json"),
    lambda client: client.delete(RUN + "/taskInstances/t"),
    lambda client: client.get("/api/v2/dags"),
    lambda client: client.post("/api/v2/dags/d/clearTaskInstances", json={"task_ids": ["t"]}),
])
def test_what_failed_or_changed_nothing_is_not_recorded(client, store, send):
    send(client)
    assert changes(store) == []


def test_a_clearing_is_recorded(client, store):
    client.post("/api/v2/dags/d/clearTaskInstances", json={"task_ids": ["t"], "dag_run_id": "r", "dry_run": False})
    [event] = changes(store)
    assert (event.body["change"], event.body["run_id"], event.source) == ("task.cleared", "r", "api")


def test_secrets_in_the_body_are_masked(client, store):
    client.post("/api/v2/assets/events", json={"extra": {"password": "open-sesame", "n": 1}})
    assert changes(store)[0].body["request"] == '{"extra": {"password": "***", "n": 1}}'


def test_a_long_body_passes_whole_and_is_recorded_by_its_size(client, store):
    body = b'{"dry_run": true, "x": "' + b"y" * 2 * COPY_LIMIT + b'"}'
    assert client.post("/api/v2/dags/d/clearTaskInstances", content=body).json() == {"size": len(body)}
    assert changes(store)[0].body["request"] == f'"a body of {len(body)} bytes, too long to be recorded"'


def test_a_streamed_body_passes_chunk_by_chunk(client, store):
    answer = client.post("/api/v2/assets/events", content=iter([b'{"a":', b"1", b"}"]))
    assert answer.content == b'{"a":1}'
    assert changes(store)[0].body["request"] == '{"a": 1}'


def said(caplog):
    [record] = [record for record in caplog.records if record.name == "airgate.console.middleware"]
    assert record.levelname == "ERROR"
    return record.getMessage()


def test_while_the_log_is_down_the_change_stands_and_its_record_waits(client, store, monkeypatch, tmp_path, caplog):
    with monkeypatch.context() as down:
        down.setenv("AIRGATE_AUDIT_URL", "postgresql://ana:s3cret@127.0.0.1:1/audit")
        down.setenv("AIRGATE_AUDIT_PATIENCE", "0.01")
        assert client.patch(RUN + "/taskInstances/t", json={"new_state": "success"}).status_code == 200
    assert said(caplog).startswith(
        f"Not in the audit log yet: task.changed by ana (PATCH {RUN}/taskInstances/t): the audit store at 127.0.0.1:1/audit")
    assert said(caplog).endswith(f"It waits in the spool {tmp_path}/spool and is recorded when the log is back")
    client.patch(RUN + "/taskInstances/u", json={})
    late = changes(store)[1]
    assert (late.task.task_id, late.actor.name, late.body["state"], late.body["user_id"]) == ("t", "ana", "success", "7")


def test_a_record_that_can_be_neither_written_nor_kept_is_an_error_in_the_log(client, store, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("AIRGATE_AUDIT_URL", f"sqlite:///{tmp_path}/nowhere.db")
    (tmp_path / "spool").write_text("not a folder")
    assert client.patch(RUN + "/taskInstances/t", json={"new_state": "success"}).status_code == 200
    assert said(caplog).startswith(f"Not in the audit log: task.changed by ana (PATCH {RUN}/taskInstances/t): there is no")
    assert "cannot keep an event" in said(caplog)


def test_the_users_id_and_words_can_be_read_with_the_users_key_alone(client, store):
    client.post("/api/v2/assets/events", json={"reason": "patient Smith"})
    [stored] = store.events()
    assert (stored.event.body["user_id"], stored.event.body["request"]) == ("7", '{"reason": "patient Smith"}')
    assert stored.event.personal == {"user_id": "ana", "request": "ana"}
    assert not any(word in stored.entry for word in (b"Smith", b'"7"', b"ana"))
