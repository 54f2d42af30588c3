"""One pod a try, whatever is started twice; a full quota and an API server that is away are waited for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.cluster import Cluster
from tests.runtime.execution_api import TaskServer
from tests.runtime.test_kubernetes import GOOD, RUNS, body, cluster, kinds, step

from airgate.contracts import calls
from airgate.errors import FencedError
from airgate.runtime.pod_launch import Try, quota_full
from airgate.runtime.pod_spec import CALL_ANNOTATION

__all__ = ["cluster", "step"]  # fixtures

QUOTA = ('pods \\"p\\" is forbidden: exceeded quota: gpus, requested: limits.memory=2Gi,requests.nvidia.com/gpu=1, used: '
         "limits.memory=14Gi,requests.nvidia.com/gpu=2, limited: limits.memory=16Gi,requests.nvidia.com/gpu=2").replace("\\", "")


def call_of(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["annotations"][CALL_ANNOTATION])


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_try_that_is_launched_twice_has_one_pod(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool) -> None:
    """The worker dies while the pod runs, and Airflow starts the same try once more."""
    cluster.hold = server.dies_deferred = True
    assert server.run(step()).state == "deferred"
    (pod,) = cluster.created
    server.dies_deferred = False
    if deferrable:
        server.before_wait = lambda: cluster.finish(pod)
    else:
        cluster.finish(pod)
    done = server.run(step(deferrable=deferrable))
    assert done.state == "success", done.error
    assert len(cluster.created) == 1 and kinds() == ["task.started", "task.succeeded"]
    calls.check_fence(call_of(pod))


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_result_that_was_not_recorded_is_not_made_again(step: Any, cluster: Cluster, server: TaskServer,
                                                         deferrable: bool) -> None:
    """The worker dies between the pod's success and its record; try 2 finds the pod over, and its result."""
    server.dies_deferred = True
    assert server.run(step()).state == "deferred"
    server.dies_deferred = False
    done = server.run(step(deferrable=deferrable), try_number=2)
    assert done.state == "success", done.error
    assert len(cluster.created) == 1 and body()["call_try"] == 1 and cluster.deleted


def test_two_workers_at_once(step: Any, cluster: Cluster, server: TaskServer) -> None:
    """Both saw no pod and wrote a call; the second is told that the name is taken, and waits for the first one's pod."""
    cluster.hold = server.dies_deferred = True
    server.run(step())
    (pod,) = cluster.created
    blind = step()
    blind.take_over = lambda context, call: None
    server.dies_deferred = False
    server.before_wait = lambda: cluster.finish(pod)
    done = server.run(blind)
    assert done.state == "success", done.error
    assert len(cluster.created) == 1
    calls.check_fence(call_of(pod))  # the second call's launch would have shut it out


def test_an_earlier_tries_pod_that_was_asked_otherwise_is_removed_and_shut_out(
        step: Any, cluster: Cluster, server: TaskServer, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.hold = server.dies_deferred = True
    server.run(step())
    (old,) = cluster.created
    cluster.hold = server.dies_deferred = False
    monkeypatch.setenv("AIRGATE_CODE_VERSION", "other")  # the code was changed, and the task cleared
    done = server.run(step(), try_number=2)
    assert done.state == "success", done.error
    assert old["metadata"]["name"] in cluster.deleted and len(cluster.created) == 2
    with pytest.raises(FencedError):
        calls.check_fence(call_of(old))
    calls.check_fence(call_of(cluster.created[1]))


def test_a_failed_pod_of_an_earlier_try_is_not_taken_over(step: Any, cluster: Cluster, server: TaskServer) -> None:
    cluster.hold = server.dies_deferred = True
    server.run(step())
    (old,) = cluster.created
    cluster.kubelet = lambda url: (137, "Error")
    cluster.finish(old)
    cluster.kubelet = lambda url: (0, "Completed", f"sha256:{calls.write_result(url, GOOD)}")
    cluster.hold = server.dies_deferred = False
    done = server.run(step(), try_number=2)
    assert done.state == "success" and len(cluster.created) == 2 and body()["call_try"] == 2


def test_pods_are_told_apart_by_map_index(step: Any, cluster: Cluster, server: TaskServer) -> None:
    cluster.hold = server.dies_deferred = True
    for index in (0, 1):
        server.run(step(), map_index=index)
    assert len({pod["metadata"]["name"] for pod in cluster.created}) == 2


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_full_quota_is_waited_for(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool) -> None:
    cluster.refuse = [(403, QUOTA)] * 2
    done = server.run(step(deferrable=deferrable, poll_interval=0.02))
    assert done.state == "success", done.error
    assert kinds() == ["task.started", "task.succeeded"] and len(cluster.created) == 1


def test_what_is_more_than_the_whole_quota_is_not_waited_for(step: Any, cluster: Cluster, server: TaskServer) -> None:
    cluster.refuse = [(403, QUOTA.replace("requested: limits.memory=2Gi", "requested: limits.memory=32Gi"))]
    done = server.run(step())
    assert done.state == "failed" and "limited: limits.memory=16Gi" in str(done.error)
    assert kinds() == ["task.started", "task.failed"] and body()["error"] == "PodRefused"


def test_how_a_quota_is_read() -> None:
    class Refusal(Exception):
        status, body = 403, '{"message": "' + QUOTA.replace('"', "'") + '"}'

    full = quota_full(Refusal())
    assert full is not None and not full.hopeless
    assert full.message == (
        "quota 'gpus' is used up: the step asks for limits.memory=2Gi,requests.nvidia.com/gpu=1; in use are "
        "limits.memory=14Gi,requests.nvidia.com/gpu=2 of limits.memory=16Gi,requests.nvidia.com/gpu=2")
    assert quota_full(ValueError()) is None


def test_a_refusal_is_final_and_says_why(step: Any, cluster: Cluster, server: TaskServer) -> None:
    cluster.refuse = [(403, "pods is forbidden: violates PodSecurity")]
    done = server.run(step())
    assert done.state == "failed" and "pods is forbidden: violates PodSecurity" in str(done.error)
    assert kinds() == ["task.started", "task.failed"]


@pytest.mark.parametrize("deferrable", RUNS)
def test_an_api_server_that_is_away_is_waited_for(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool) -> None:
    cluster.away = 2
    server.before_resume = lambda: setattr(cluster, "away", 2)
    done = server.run(step(deferrable=deferrable))
    assert done.state == "success", done.error


@pytest.mark.parametrize("deferrable", RUNS)
def test_the_log_is_whole_once_and_hides_secrets(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    cluster.log = (b"2026-01-09T06:00:01.25Z reading postgresql://ana:s3cret@db/x\n"
                   b"2026-01-09T06:00:02Z epoch 1 of 2\n2026-01-09T06:00:03Z epoch 2 of 2\n")
    assert server.run(step(deferrable=deferrable)).state == "success"
    said = capsys.readouterr()
    shown = said.out + said.err
    assert shown.count("epoch 1 of 2") == shown.count("epoch 2 of 2") == 1
    assert "postgresql://***@db/x" in shown and "s3cret" not in shown


NAMES = st.text(min_size=1, max_size=250)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES, st.integers(-1, 5), st.integers(1, 9)), min_size=2, max_size=2, unique=True))
def test_every_try_has_a_name_of_its_own(tries: list[tuple[str, str, str, int, int]]) -> None:
    import re

    first, second = (Try(*one) for one in tries)
    assert first.pod_name != second.pod_name
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", first.pod_name)
