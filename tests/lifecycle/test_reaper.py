"""Which pods run for nobody, and what they held."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes.client import models as k8s

from airgate.airflow_api import AirflowApi
from airgate.contracts import calls
from airgate.contracts.step import RunContext, StepCall
from airgate.lifecycle import reaper
from airgate.lifecycle.reaper import Orphan, PodReaperOperator, TaskState, find, orphan, state_in
from airgate.runtime.pod_launch import TASK_ANNOTATION, Try
from airgate.runtime.pod_spec import CALL_ANNOTATION

NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)
MINE = Try("heart_training", "run-1", "train", -1, 1)


def pod(minutes: int = 60, phase: str = "Running", gpu: str | None = "2", limit: int | None = 7200, call: str | None = None,
        **meta: Any) -> k8s.V1Pod:
    limits = {"cpu": "1", **({"nvidia.com/gpu": gpu} if gpu else {})}
    made = NOW - timedelta(minutes=minutes)
    notes = {TASK_ANNOTATION: MINE.annotation(), **({CALL_ANNOTATION: call} if call else {})}
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p", uid="u", creation_timestamp=made, annotations=notes, **meta),
        spec=k8s.V1PodSpec(node_name="node-1", active_deadline_seconds=limit, containers=[k8s.V1Container(
            name="base", resources=k8s.V1ResourceRequirements(limits=limits))]),
        status=k8s.V1PodStatus(phase=phase, start_time=made))


def judged(made: k8s.V1Pod, task: TaskState | None) -> str | None:
    found = orphan(made, task, NOW, reaper.is_fenced)
    return found.why if found else None


@pytest.mark.parametrize(("task", "why"), [
    (None, "its DAG run is gone"),
    (TaskState("failed", NOW - timedelta(minutes=30)), "its task is 'failed'"),
    (TaskState("success", NOW - timedelta(minutes=30)), "its task is 'success'"),
    (TaskState("removed"), "its task is 'removed'"),
    (TaskState("failed", NOW - timedelta(seconds=20)), None),
    (TaskState("running"), None), (TaskState("deferred"), None), (TaskState("up_for_retry"), None), (TaskState(None), None),
])
def test_who_is_an_orphan(task: TaskState | None, why: str | None) -> None:
    assert judged(pod(), task) == why


def test_the_young_and_the_dying_are_left_alone() -> None:
    assert judged(pod(minutes=1), None) is None
    assert judged(pod(deletion_timestamp=NOW), None) is None


def test_a_task_lives_on_the_pod_that_its_fence_names(tmp_path: Path) -> None:
    run = RunContext(dag_id="d", run_id="r", task_id="t", try_number=1, actor="user:ana", code_version="c", image="i")
    call = StepCall(function="toy.steps:train", run=run, store=f"file://{tmp_path}")
    first, second = calls.write_call(call), calls.write_call(call)
    assert judged(pod(call=first), TaskState("running")) == "another launch of its task took over"
    assert judged(pod(call=second), TaskState("running")) is None
    (tmp_path / "calls/d/r/t/-1/fence").unlink()
    (tmp_path / "calls/d/r/t/-1/fence").mkdir()  # the store cannot say
    assert judged(pod(call=first), TaskState("running")) is None


def test_pods_that_do_not_say_whose_they_are_are_left_alone() -> None:
    bare = pod()
    bare.metadata.annotations = None
    assert find([bare, pod()], lambda mine: None, NOW) == [Orphan(pod(), "its DAG run is gone", NOW - timedelta(hours=1), 2)]


def test_what_it_held_and_would_have_held() -> None:
    ended = TaskState("failed", NOW - timedelta(minutes=30))
    found = [orphan(one, ended, NOW, reaper.is_fenced) for one in (
        pod(), pod(limit=None), pod(gpu=None), pod(phase="Succeeded"))]
    assert [one and (one.gpus, one.held(NOW), one.left(NOW)) for one in found] == [
        (2, 3600, 7200), (2, 3600, None), (0, 0, 0), (2, 0, 0)]
    summed = PodReaperOperator(task_id="reap").account(9, [one for one in found if one], NOW)
    assert summed == {"pods": 9, "removed": 4, "gpu_seconds_held": 7200, "gpu_seconds_saved": 7200, "without_limit": 1}


def test_what_airflow_says() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        if "gone" in request.url.path:
            return httpx.Response(404, json={"detail": "not found"})
        return httpx.Response(200, json={"state": "failed", "end_date": "2026-01-09T11:30:00Z"})

    with AirflowApi("http://airflow", "ana", "pw", transport=httpx.MockTransport(answer)) as api:
        assert state_in(api, MINE) == TaskState("failed", NOW - timedelta(minutes=30))
        assert state_in(api, Try("d", "gone", "t", 3, 1)) is None
    assert asked[1:] == ["/api/v2/dags/heart_training/dagRuns/run-1/taskInstances/train",
                         "/api/v2/dags/d/dagRuns/gone/taskInstances/t/3"]
