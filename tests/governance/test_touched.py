"""Which runs a request may have touched, by its path and body, and whether a record of it speaks of a run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.audit.event import Actor, canonical
from airgate.governance.manual import Effect, classify, events
from airgate.governance.touched import MOST, may_have_touched

ANA = Actor(kind="user", name="ana")
DAG = "/api/v2/dags/training"
RUN = f"{DAG}/dagRuns/t1"
ANY_DAG = "/api/v2/dags/~/dagRuns"
THIS = {"dag_id": "training", "dag_run_id": "t1"}


def touched(method: str, path: str, body: Any, dag: str = "training", run: str = "t1") -> bool:
    request = classify(method, path)
    assert request is not None
    return any(may_have_touched(event.body, dag, run) for event in events(request, ANA, "7", body))


def entities(*found: Any, action: str = "delete") -> dict[str, Any]:
    return {"actions": [{"action": action, "entities": list(found)}]}


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", f"{DAG}/clearTaskInstances", {"dry_run": False, "dag_run_id": "t1"}),
    ("POST", f"{RUN}/clear", {"dry_run": False}),
    ("POST", f"{DAG}/clearDagRuns", {"dry_run": False, "dag_runs": [{"dag_run_id": "t0"}, {"dag_run_id": "t1"}]}),
    ("POST", "/api/v2/dags/~/clearDagRuns", {"dry_run": False, "dag_runs": [THIS]}),
    ("POST", f"{DAG}/clearPartitions", {"dry_run": False, "run_id": "t1", "clear_task_instances": True}),
    ("PATCH", RUN, {"state": "queued"}), ("DELETE", RUN, None),
    ("PATCH", ANY_DAG, entities(THIS)), ("PATCH", f"{DAG}/dagRuns", entities("t1")),
    ("PATCH", f"{ANY_DAG}/~/taskInstances", entities({**THIS, "task_id": "train"})),
    ("PATCH", f"{RUN}/taskInstances", entities("train")),
    ("PATCH", "/api/v2/dags/other/dagRuns/r/taskInstances", entities({**THIS, "task_id": "train"})),
])
def test_the_runs_that_a_request_names(method: str, path: str, body: Any) -> None:
    assert touched(method, path, body)
    assert not touched(method, path, body, run="t2")
    assert not touched(method, path, body, dag="validation")


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", f"{DAG}/clearTaskInstances", {"dry_run": False, "start_date": "2026-01-01T00:00:00Z"}),
    ("POST", f"{DAG}/clearTaskInstances", {"dry_run": False, "dag_run_id": "t0", "include_future": True}),
    ("POST", f"{DAG}/clearTaskInstances", "a body of 70000 bytes, too long to be recorded"),
    ("POST", f"{DAG}/clearDagRuns", {"dry_run": False, "partition_key": "2026-01-01"}),
    ("POST", f"{DAG}/clearDagRuns", {"dag_runs": [{"dag_run_id": f"r{number}"} for number in range(MOST + 1)]}),
    ("PATCH", f"{DAG}/dagRuns/t0/taskInstances/train", {"new_state": "success", "include_past": True}),
    ("POST", "/api/v2/backfills", {"dag_id": "training", "reprocess_behavior": "completed"}),
])
def test_what_names_no_run_may_have_touched_any_of_its_dag(method: str, path: str, body: Any) -> None:
    assert touched(method, path, body) and touched(method, path, body, run="another")
    assert not touched(method, path, body, dag="validation")


@pytest.mark.parametrize(("method", "path", "body"), [
    ("PATCH", f"{ANY_DAG}/~/taskInstances", "a body of 70000 bytes, too long to be recorded"),
    ("POST", "/api/v2/backfills", "a body of 70000 bytes, too long to be recorded"),
])
def test_what_names_nothing_may_have_touched_all(method: str, path: str, body: Any) -> None:
    assert touched(method, path, body, dag="any", run="one")


@pytest.mark.parametrize(("method", "path", "body"), [
    ("PATCH", "/api/v2/dags/training", {"is_paused": True}), ("POST", "/api/v2/assets/events", {"asset_id": 1}),
    ("PATCH", f"{RUN}/taskInstances/approve/-1/hitlDetails", {"chosen_options": ["Approve"]}),
    ("PUT", "/api/v2/backfills/3/cancel", None), ("POST", "/api/v2/variables", {"dag_run_id": "t1"}),
])
def test_what_touches_no_run(method: str, path: str, body: Any) -> None:
    assert not touched(method, path, body)


def test_a_run_whose_id_looks_like_a_secret_is_touched() -> None:
    request = classify("POST", f"{DAG}/clearTaskInstances")
    assert request is not None
    [event] = events(request, ANA, "7", {"dag_run_id": "t1"}, lambda _: {"dag_run_id": "***"})
    assert may_have_touched(event.body, "training", "t1") and not may_have_touched(event.body, "training", "t2")
    assert "t1" not in str(event.body["request"])


def test_an_effect_is_one_of_one_run() -> None:
    request = classify("PATCH", f"{ANY_DAG}/~/taskInstances")
    assert request is not None
    request.effects.append(Effect("training", "t1", "failed", "train", -1, 1))
    asked, effect = events(request, ANA, "7", entities({"dag_id": "x", "dag_run_id": "y", "task_id": "z"}, action="update"))
    assert not may_have_touched(asked.body, "training", "t1") and may_have_touched(effect.body, "training", "t1")


@pytest.mark.parametrize(("body", "expected"), [
    ({"change": "task.cleared", "dag_id": "training", "run_id": None}, True),
    ({"change": "run.cleared", "dag_id": "training", "run_id": "t1"}, True),
    ({"change": "run.cleared", "dag_id": "training", "run_id": "t2"}, False),
    ({"change": "backfill.changed", "dag_id": None, "run_id": None}, False),
    ({"change": "asset.event", "dag_id": None, "run_id": None}, False),
])
def test_records_of_earlier_releases(body: dict[str, Any], expected: bool) -> None:
    assert may_have_touched(body, "training", "t1") is expected


JSON = st.recursive(st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4)
                    | st.sampled_from(["~", "\x00", "\ud800"]),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["dag_id", "dag_run_id", "run_id", "dag_runs", "actions", "entities", "include_past"]),
                        inner, max_size=4), max_leaves=12)


@given(body=JSON, change=st.sampled_from([("POST", "clearTaskInstances"), ("POST", "clearDagRuns"), ("PATCH", "dagRuns")]))
def test_no_body_keeps_its_event_off_the_record(body: Any, change: tuple[str, str]) -> None:
    method, place = change
    request = classify(method, f"{DAG}/{place}")
    assert request is not None
    found = events(request, ANA, "7", body)
    assert all(canonical(event) for event in found) and len(found[0].body["runs"]) <= MOST  # type: ignore[arg-type]
