"""Which requests are changes, and what becomes of them in the log."""

import pytest

from airgate.audit.event import Actor, canonical
from airgate.governance.manual import BODY_LIMIT, Effect, classify, events, is_preview

ANA = Actor(kind="user", name="ana")
RUN = "/api/v2/dags/d/dagRuns/manual__2026-01-01T00:00:00+00:00"
TASK = RUN + "/taskInstances/t"


@pytest.mark.parametrize(("method", "path", "change"), [
    ("PATCH", TASK, "task.changed"), ("PATCH", TASK + "/3", "task.changed"), ("DELETE", TASK, "task.deleted"),
    ("PATCH", RUN + "/taskInstances", "tasks.changed"), ("PATCH", RUN + "/taskGroupInstances/g", "task.changed"),
    ("PATCH", TASK + "/-1/hitlDetails", "approval.answered"),
    ("POST", TASK + "/xcomEntries", "xcom.changed"), ("PATCH", TASK + "/xcomEntries/return_value", "xcom.changed"),
    ("DELETE", TASK + "/xcomEntries/a/b", "xcom.changed"), ("PUT", TASK + "/state-store/k", "task_state_store.changed"),
    ("POST", "/api/v2/dags/d/clearTaskInstances", "task.cleared"), ("POST", RUN + "/clear", "run.cleared"),
    ("POST", "/api/v2/dags/d/clearDagRuns", "run.cleared"), ("POST", "/api/v2/dags/d/clearPartitions", "run.cleared"),
    ("PATCH", RUN, "run.changed"), ("DELETE", RUN, "run.deleted"), ("PATCH", "/api/v2/dags/d/dagRuns", "runs.changed"),
    ("POST", "/api/v2/assets/events", "asset.event"), ("DELETE", "/api/v2/assets/7/queuedEvents", "asset.changed"),
    ("DELETE", "/api/v2/dags/d/assets/queuedEvents", "asset.changed"), ("PATCH", "/api/v2/dags/d", "dag.changed"),
    ("DELETE", "/api/v2/dags/d", "dag.deleted"), ("POST", "/api/v2/backfills", "backfill.changed"),
    ("PUT", "/api/v2/backfills/3/cancel", "backfill.changed"), ("PATCH", "/api/v2/variables/x", "other"),
    ("POST", "/api/v2/something/new", "other"), ("PATCH", "/behind/a/proxy" + TASK, "task.changed"),
    # a key or an id of somebody's choice does not make a change harmless
    ("PATCH", TASK + "/xcomEntries/return_value/dry_run", "xcom.changed"),
    ("DELETE", RUN + "/taskInstances/list", "task.deleted"),
    ("PATCH", RUN + "/taskInstances/dry_run", "task.changed"), ("DELETE", "/api/v2/variables/a/list", "other"),
])
def test_changes(method, path, change):
    assert classify(method, path).change == change


@pytest.mark.parametrize(("method", "path"), [
    ("GET", TASK), ("HEAD", TASK), ("POST", "/api/v2/dags/d/dagRuns"), ("POST", "/api/v2/dags/~/dagRuns/list"),
    ("POST", "/api/v2/dags/~/dagRuns/~/taskInstances/list"), ("PATCH", TASK + "/dry_run"), ("PATCH", TASK + "/3/dry_run"),
    ("POST", "/api/v2/backfills/dry_run"), ("POST", "/api/v2/dags/d/favorite"), ("PUT", "/api/v2/parseDagFile/abc"),
    ("POST", "/api/v2/connections/test"), ("PATCH", "/execution/task-instances/1/run"), ("POST", "/auth/token"),
    ("POST", "/airgate/api/drift-verdicts"), ("POST", "/api/v2/assets/3/materialize"),
])
def test_what_changes_nothing_on_record(method, path):
    assert classify(method, path) is None


def test_the_ids_come_from_the_path():
    request = classify("PATCH", TASK + "/3")
    assert (request.dag_id, request.run_id, request.task_id, request.map_index) == (
        "d", "manual__2026-01-01T00:00:00+00:00", "t", 3)
    anywhere = classify("PATCH", "/api/v2/dags/~/dagRuns/~/taskInstances")
    assert (anywhere.dag_id, anywhere.run_id, anywhere.task_id, anywhere.map_index) == (None, None, None, -1)


@pytest.mark.parametrize(("body", "preview"), [
    ({}, True), ({"dry_run": True}, True), ({"dry_run": False}, False),
    ({"dry_run": "false"}, False), ({"dry_run": 0}, False), ("a body of 70000 bytes, too long to be recorded", False)])
def test_only_a_plain_true_makes_a_clearing_a_preview(body, preview):
    assert is_preview(classify("POST", "/api/v2/dags/d/clearTaskInstances"), body) is preview
    assert is_preview(classify("PATCH", TASK), body) is False


def test_one_effect_gives_one_event():
    request = classify("PATCH", TASK)
    request.effects.append(Effect("d", "r", "success", "t", -1, 2))
    [event] = events(request, ANA, "7", {"new_state": "success"})
    assert (event.kind, event.source, event.actor) == ("manual.change", "listener", ANA)
    assert (event.task.task_id, event.task.try_number) == ("t", 2)
    assert event.body == {
        "change": "task.changed", "method": "PATCH", "path": TASK, "user_id": "7", "request_id": request.request_id,
        "request": '{"new_state": "success"}', "state": "success", "dag_id": "d", "run_id": "r"}


def test_several_effects_give_an_event_each_and_one_for_the_request():
    request = classify("PATCH", TASK)
    request.effects += [Effect("d", "r", "failed", name, -1, 1) for name in ("t", "u")]
    made = events(request, ANA, "ana", {"new_state": "failed", "include_downstream": True})
    assert [(event.source, event.task.task_id, "request" in event.body) for event in made] == [
        ("api", "t", True), ("listener", "t", False), ("listener", "u", False)]
    assert len({event.event_id for event in made}) == 3
    assert {event.body["request_id"] for event in made} == {request.request_id}


def test_a_bulk_request_is_always_recorded_itself_since_it_may_delete():
    request = classify("PATCH", RUN + "/taskInstances")
    request.effects.append(Effect("d", "r", "failed", "t", -1, 1))
    assert [event.source for event in events(request, ANA, "ana", {"actions": []})] == ["api", "listener"]


def test_a_request_without_effects_is_recorded_as_asked():
    [event] = events(classify("POST", "/api/v2/dags/d/clearTaskInstances"), ANA, "ana", {"dag_run_id": "r", "dry_run": False})
    assert (event.source, event.task, event.body["run_id"], event.body["state"]) == ("api", None, "r", None)
    [event] = events(classify("PATCH", RUN), ANA, "ana", {"state": "queued"})
    assert event.body["state"] == "queued"


def test_the_body_of_an_unknown_route_is_not_kept():
    [event] = events(classify("POST", "/api/v2/connections"), ANA, "ana", {"extra": "token"})
    assert event.body["request"] is None


@pytest.mark.parametrize("value", [2**70, {"$float": "NaN"}, "\x00\ud800", float("nan"), ["x"] * 50_000])
def test_no_body_keeps_a_change_off_the_record(value):
    nested = [value]
    for _ in range(100):
        nested = [nested]
    [event] = events(classify("POST", TASK + "/xcomEntries"), ANA, "ana", {"key": "return_value", "value": nested})
    assert canonical(event)
    assert len(event.body["request"]) <= BODY_LIMIT + 4


def test_the_same_change_asked_twice_is_two_events():
    first, second = (events(classify("PATCH", TASK), ANA, "ana", {})[0] for _ in range(2))
    assert first.event_id != second.event_id


def test_what_is_about_the_user_is_marked_as_the_users():
    request = classify("PATCH", RUN + "/taskInstances")
    request.effects.append(Effect("d", "r", "failed", "t", -1, 1))
    assert [event.personal for event in events(request, ANA, "7", {"actions": []})] == [
        {"user_id": "ana", "request": "ana"}, {"user_id": "ana"}]
    [event] = events(classify("POST", "/api/v2/connections"), ANA, "", {"extra": "token"})
    assert event.personal == {"user_id": "ana"}


def test_an_id_with_a_line_break_hides_no_change():
    found = classify("PATCH", "/api/v2/dags/d/dagRuns/abc\n/taskInstances/apply")
    assert found is not None and found.change == "task.changed" and found.run_id == "abc\n"
