"""The pod operator against a Kubernetes API over HTTP, both waiting in the worker and in the triggerer."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.cluster import Cluster, serve
from tests.runtime.execution_api import TaskServer

from airgate.contracts import calls
from airgate.contracts.resources import Resources
from airgate.contracts.step import ArtifactRef, StepFailure, StepResult
from airgate.runtime import StepPlan, make_operator, record
from airgate.signatures import keys, private_key

NOW = datetime(2026, 1, 9, 6, tzinfo=UTC)
GOOD = StepResult(started_at=NOW, output=ArtifactRef(uri="s3://s/1", digest="sha256:" + "ab" * 32, kind="json", size=2))
RUNS = [pytest.param(True, id="deferred"), pytest.param(False, id="waiting")]


def succeed(url: str) -> tuple[int, str, str]:
    return 0, "Completed", f"sha256:{calls.write_result(url, GOOD)}"


def refuse_data(url: str) -> tuple[int, str, str]:
    failure = StepFailure(error="DataError", message="1 check failed:\n- age: 3 nulls", retryable=False)
    return 65, "Error", f"sha256:{calls.write_result(url, StepResult(started_at=NOW, failure=failure))}"


@pytest.fixture
def cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    made = Cluster(kubelet=succeed)
    server, config = serve(made, home)
    monkeypatch.setenv("AIRGATE_RUNTIME", "kubernetes")
    monkeypatch.setenv("KUBECONFIG", str(config))
    # The client reads the variable once, when it is imported; a task is a fresh process, a test is not.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def step(cluster: Cluster) -> Callable[..., Any]:
    from airflow.sdk import DAG

    def make(**kwargs: Any) -> Any:
        return make_operator(StepPlan("airgate.steps.load:load_day"), task_id="load", dag=DAG("heart_training"), **kwargs)

    return make


def kinds() -> list[str]:
    return [e.event.kind for e in record.store().events()]


def body() -> dict[str, Any]:
    return dict(record.store().events(newest_first=True, limit=1)[0].event.body)


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_pod_that_ends_well(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool) -> None:
    done = server.run(step(deferrable=deferrable))
    assert done.state == "success", done.error
    assert StepResult.model_validate(server.value("load")) == GOOD
    assert kinds() == ["task.started", "task.succeeded"] and body()["runtime"] == "kubernetes"
    (pod,) = cluster.created
    assert cluster.deleted == [pod["metadata"]["name"]]
    assert pod["metadata"]["annotations"]["airgate.io/call"] == pod["spec"]["containers"][0]["args"][0]


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_pod_gets_public_keys_and_never_the_private_one(
        step: Any, cluster: Cluster, server: TaskServer, home: Path, monkeypatch: pytest.MonkeyPatch, deferrable: bool) -> None:
    private_key.write_new(home / "model-key.pem")
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{home}/model-key.pem")
    assert server.run(step(deferrable=deferrable)).state == "success"
    variables = {one["name"]: one.get("value") for one in cluster.created[0]["spec"]["containers"][0]["env"]}
    assert variables["AIRGATE_MODEL_TRUST"] == keys.signer(f"file:{home}/model-key.pem", "development").public.text()
    assert variables["AIRGATE_ENVIRONMENT"] == "development"
    assert "MODEL_KEY" not in str(cluster.created) and "model-key.pem" not in str(cluster.created)


@pytest.mark.attack("result.json written by another than the pod: without the pod's own receipt it counts for nothing")
@pytest.mark.parametrize("deferrable", RUNS)
def test_a_result_without_the_pods_receipt_is_none(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool) -> None:
    def forged(url: str) -> tuple[int, str]:
        calls.write_result(url, GOOD)
        return 0, "Completed"

    cluster.kubelet = forged
    done = server.run(step(deferrable=deferrable))
    assert done.state == "up_for_retry" and "left no result" in str(done.error) and body()["error"] == "NoResult"
    (pod,) = cluster.created
    asked = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert asked["AIRGATE_RECEIPT_FILE"] == "/dev/termination-log"


@pytest.mark.parametrize("deferrable", RUNS)
def test_refused_data_is_final_and_readable(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool) -> None:
    cluster.kubelet = refuse_data
    done = server.run(step(deferrable=deferrable))
    assert done.state == "failed" and str(done.error).startswith("1 check failed:\n- age: 3 nulls")
    assert kinds() == ["task.started", "task.failed"] and body()["ended"] == "exit code 65"
    assert cluster.deleted


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_pod_out_of_memory_is_not_tried_again_unchanged(step: Any, cluster: Cluster, server: TaskServer,
                                                          deferrable: bool) -> None:
    cluster.kubelet = lambda url: (137, "OOMKilled")
    done = server.run(step(deferrable=deferrable))
    assert done.state == "failed" and "Raise this step's `memory`" in str(done.error)
    assert body()["error"] == "OOMKilled" and kinds()[-1] == "task.failed"


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_pod_out_of_memory_gets_more_up_to_its_cap(cluster: Cluster, server: TaskServer, deferrable: bool) -> None:
    from airflow.sdk import DAG

    cluster.kubelet = lambda url: (137, "OOMKilled")
    states = []
    for number in (1, 2, 3):
        plan = StepPlan("airgate.steps.load:load_day", resources=Resources(memory="1Gi", memory_cap="3Gi"))
        operator: Any = make_operator(plan, task_id="load", dag=DAG("heart_training"), retries=5, deferrable=deferrable)
        done = server.run(operator, try_number=number)
        states.append(done.state)
    assert [pod["spec"]["containers"][0]["resources"]["limits"]["memory"] for pod in cluster.created] == ["1Gi", "2Gi", "3Gi"]
    assert states == ["up_for_retry", "up_for_retry", "failed"]
    assert "It has reached its `memory_cap` of 3Gi" in str(done.error)
    assert [e.event.body["resources"]["memory"] for e in record.store().events(kind="task.started")] == ["1Gi", "2Gi", "3Gi"]


def test_a_pod_that_ends_well_without_a_result_did_not_succeed(step: Any, cluster: Cluster, server: TaskServer) -> None:
    cluster.kubelet = lambda url: (0, "Completed")
    done = server.run(step())
    assert done.state == "up_for_retry" and "left no result" in str(done.error)


def test_a_pod_gone_before_it_was_read_counts_by_its_result(step: Any, cluster: Cluster, server: TaskServer) -> None:
    one = step()
    server.before_resume = lambda: setattr(cluster, "vanish", True)
    done = server.run(one)
    assert done.state == "success", done.error
    assert kinds() == ["task.started", "task.succeeded"]


def test_a_trigger_that_breaks_is_on_record(step: Any, cluster: Cluster, server: TaskServer) -> None:
    server.trigger_breaks = True
    done = server.run(step())
    assert done.state == "up_for_retry" and kinds() == ["task.started", "task.retrying"]


def test_a_try_adopts_the_pod_of_a_killed_worker(step: Any, cluster: Cluster, server: TaskServer) -> None:
    """The worker of try 1 dies while the pod runs; try 2 waits for that pod and reads the result of try 1's call."""
    cluster.hold = server.dies_deferred = True
    assert server.run(step()).state == "deferred"
    (pod,) = cluster.created
    server.dies_deferred = False
    server.before_wait = lambda: cluster.finish(pod)
    done = server.run(step(), try_number=2)
    assert done.state == "success", done.error
    assert len(cluster.created) == 1 and body()["call_try"] == 1
    assert kinds() == ["task.started", "task.started", "task.succeeded"]


SHA = "sha256:" + "ab" * 32


@pytest.mark.parametrize("deferrable", RUNS)
@pytest.mark.parametrize(("kubelet", "kind"), [(succeed, "task.succeeded"), (refuse_data, "task.failed")])
def test_the_image_that_really_ran_is_on_record(step: Any, cluster: Cluster, server: TaskServer, deferrable: bool, kubelet: Any,
                                                kind: Any) -> None:
    cluster.kubelet, cluster.image_id = kubelet, f"registry.example/airgate-steps@{SHA}"
    server.run(step(deferrable=deferrable))
    images = {e.event.kind: e.event.code.image for e in record.store().events()}
    assert images == {"task.started": "airgate-steps:0.2.0", kind: f"airgate-steps:0.2.0@{SHA}"}


@pytest.mark.parametrize(("said", "asked", "image"), [
    (f"docker.io/airgate/steps@{SHA}", "airgate/steps:1", f"airgate/steps:1@{SHA}"),
    (f"docker-pullable://airgate/steps@{SHA}", "airgate/steps:1", f"airgate/steps:1@{SHA}"),
    (f"docker://{SHA}", "steps:1", f"steps:1@{SHA}"), (SHA, "steps:1", f"steps:1@{SHA}"),
    (f"h/steps@{SHA}", "h:5000/steps@sha256:" + "cd" * 32, f"h:5000/steps@{SHA}"),
    ("", "steps:1", "steps:1"), (None, "steps:1", "steps:1"), ("steps:1", "steps:1", "steps:1"),
])
def test_the_digest_is_read_from_what_kubernetes_says(said: str | None, asked: str, image: str) -> None:
    from kubernetes.client import models as k8s

    from airgate.runtime.pod_status import image_of

    status = k8s.V1ContainerStatus(name="base", image="i", image_id=said or "", ready=False, restart_count=0)
    status._image_id = said  # an API server may leave it out; the client's own check would not let it
    pod = k8s.V1Pod(status=k8s.V1PodStatus(container_statuses=[status]))
    assert image_of(pod, "base", asked) == image
    assert image_of(pod, "sidecar", asked) == image_of(None, "base", asked) == asked
