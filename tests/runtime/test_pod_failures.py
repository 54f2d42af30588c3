"""Each way a pod can fail, as Kubernetes tells it: what its people read, and whether another try is worth it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from airgate.contracts.resources import Resources
from airgate.runtime.pod_failures import Evidence, explain
from airgate.runtime.pod_memory import grown
from airgate.runtime.pod_shortage import Node

NODES = [Node("node-1", {"cpu": "2", "memory": "8148540Ki", "nvidia.com/gpu": "2"}, {"nvidia.com/gpu.product": "A100"}),
         Node("node-2", {"cpu": "4", "memory": "4Gi"}, {})]


def pod(phase: str = "Failed", *, state: dict[str, Any] | None = None, reason: str | None = None, message: str | None = None,
        condition: tuple[str, str, str, str] | None = None) -> k8s.V1Pod:
    statuses = None
    if state is not None:
        kinds = {"terminated": k8s.V1ContainerStateTerminated, "waiting": k8s.V1ContainerStateWaiting}
        made = k8s.V1ContainerState(**{kind: kinds[kind](**values) for kind, values in state.items()})
        statuses = [k8s.V1ContainerStatus(name="base", image="i", image_id="", ready=False, restart_count=0, state=made)]
    conditions = [k8s.V1PodCondition(type=condition[0], status=condition[1], reason=condition[2], message=condition[3])
                  ] if condition else None
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p"), spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")], node_name="node-7"),
        status=k8s.V1PodStatus(phase=phase, reason=reason, message=message, conditions=conditions, container_statuses=statuses))


def ended(code: int, reason: str | None = "Error") -> dict[str, Any]:
    return {"terminated": {"exit_code": code, "reason": reason}}


def said(pod: k8s.V1Pod | None, resources: Resources | None = None, error: Exception | None = None, **more: Any) -> Any:
    return explain(Evidence(pod=pod, container="base", resources=resources or Resources(), image="reg/steps:1",
                            error=error or RuntimeError("pod failed"), **more))


def refused(status: int, message: str) -> ApiException:
    error = ApiException(status=status, reason="Forbidden")
    error.body = f'{{"kind": "Status", "message": "{message}"}}'
    return error


def unschedulable(message: str) -> k8s.V1Pod:
    made = pod("Pending", condition=("PodScheduled", "False", "Unschedulable", message))
    made.spec.node_name = None
    return made


GPU = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 2 Insufficient memory."
CASES = [
    pytest.param(pod(reason="DeadlineExceeded", message="Pod was active"), {}, "Timeout", True, "ran longer than its", id="time"),
    pytest.param(pod(state=ended(143)), {"events": [("Preempted", "Preempted by a/b on node node-1")]}, "Preempted", True,
                 "a pod of higher priority needed its place (Preempted by a/b on node node-1). It is tried again; a "
                 "`priority_class`",
                 id="preempted, told by an event"),
    pytest.param(pod(condition=("DisruptionTarget", "True", "PreemptionByScheduler", "a: preempting")), {}, "Preempted", True,
                 "a: preempting", id="preempted, told by a condition"),
    pytest.param(pod("Running", reason="NodeLost", message="Node node-7 which was running pod p is unresponsive"), {}, "NodeLost",
                 True, "lost with its node 'node-7' (Node node-7 which was running pod p is unresponsive)", id="node lost"),
    pytest.param(None, {"events": [("TaintManagerEviction", "Marking for deletion Pod a/p")]}, "NodeLost", True,
                 "lost with its node '?' (Marking for deletion Pod a/p)", id="node lost and pod gone"),
    pytest.param(pod(reason="Evicted", message="The node was low on resource: memory. "), {}, "Evicted", True,
                 "evicted: The node was low on resource: memory. The node ran short; that was not the step's fault",
                 id="evicted"),
    pytest.param(pod(reason="Evicted", message='Usage of EmptyDir volume "scratch" exceeds the limit "1Gi". '), {}, "Evicted",
                 False, "It used more disk than it may: write less to the scratch folder (TMPDIR).",
                 id="evicted for its own disk"),
    pytest.param(pod(state=ended(137, "OOMKilled")), {}, "OOMKilled", False,
                 "more memory than its limit of 2Gi. The same again would end the same way, so it is not tried again. Raise this "
                 "step's `memory`", id="memory"),
    pytest.param(pod(state=ended(137, "OOMKilled")), {"resources": Resources(memory="2Gi", memory_cap="3Gi")}, "OOMKilled", True,
                 "The next try gets 3Gi (`memory_cap` in model.yaml is 3Gi).", id="memory may grow"),
    pytest.param(pod(state=ended(137, "OOMKilled")), {"resources": Resources(memory="3Gi", memory_cap="3Gi")}, "OOMKilled", False,
                 "It has reached its `memory_cap` of 3Gi; raise that in model.yaml.", id="memory at its cap"),
    pytest.param(pod("Pending", state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}),
                 {"events": [("Failed", 'rpc error: failed to resolve reference "reg/steps:1": not found')]}, "ImageMissing",
                 False,
                 "image 'reg/steps:1', from AIRGATE_STEPS_IMAGE, cannot be pulled (ImagePullBackOff): Back-off pulling image rpc "
                 'error: failed to resolve reference "reg/steps:1": not found. Push it, or name one that is there.',
                 id="no image"),
    pytest.param(pod("Pending", state={"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}}),
                 {"resources": Resources(image="mine:2")}, "ImageMissing", True,
                 "from this step's `image` in model.yaml, cannot be pulled (ErrImagePull): i/o timeout. The registry may be busy",
                 id="registry down"),
    pytest.param(pod("Pending", state={"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}}),
                 {}, "ContainerNotStarted", False, 'could not be started (CreateContainerConfigError): secret "s" not found',
                 id="no secret"),
    pytest.param(pod(state=ended(1)), {}, "PodFailed", True, "the step's pod ended with exit code 1", id="error"),
    pytest.param(pod(state=ended(65)), {}, "PodFailed", False, "exit code 65", id="wrong data"),
    pytest.param(pod(state=ended(137)), {}, "PodFailed", True, "exit code 137, killed (SIGKILL)", id="killed"),
    pytest.param(None, {}, "PodDeleted", True, "it was deleted, by a person or by the cluster. It is tried again.", id="gone"),
    pytest.param(pod("Running"), {"error": RuntimeError("Trigger failure")}, "RuntimeError", True,
                 "did not run to its end: Trigger failure", id="anything else"),
    pytest.param(None, {"error": refused(403, "pods is forbidden: User x cannot create")}, "PodRefused", False,
                 "Kubernetes refused the step's pod (403 Forbidden): pods is forbidden: User x cannot create", id="forbidden"),
    pytest.param(None, {"error": refused(500, "etcd is away")}, "KubernetesApiError", True,
                 "answered 500 Forbidden: etcd is away", id="no answer"),
]


@pytest.mark.parametrize(("made", "more", "error", "again", "text"), CASES)
def test_a_failure_reads_well(made: k8s.V1Pod | None, more: dict[str, Any], error: str, again: bool, text: str) -> None:
    failure = said(made, **more)
    assert (failure.error, failure.retryable) == (error, again)
    assert text in failure.message


def test_a_pod_that_is_being_deleted_says_so_also_when_its_container_says_nothing() -> None:
    made = pod("Failed", state={"waiting": {"reason": "ContainerCreating"}})
    made.metadata.deletion_timestamp = datetime.now(UTC)
    found = said(made, events=[("Killing", "Stopping container base")])
    assert found.error == "PodDeleted" and found.retryable and "(Stopping container base)" in found.message


def test_what_is_short_and_what_there_is() -> None:
    failure = said(unschedulable(GPU), Resources(gpu=4, memory="64Gi"), nodes=NODES)
    assert failure.error == "Unschedulable" and failure.retryable
    assert failure.message == (
        f"no node took the step's pod in time: {GPU} Short is nvidia.com/gpu: the step asks for 4; in all there are node-1 2, "
        "partly in use. Short is memory: the step asks for 64Gi; in all there are node-1 7.8Gi, node-2 4Gi, partly in use. "
        "Ask for less in model.yaml, or let it wait in the Airflow pool 'gpu', add nodes, or wait longer with "
        "schedule_timeout_seconds.")


def test_no_node_of_this_kind() -> None:
    said_by_scheduler = "0/2 nodes are available: 2 node(s) didn't match node selector."
    wanted = Resources(gpu=1, gpu_type="H100", node_selector={"zone": "a"})
    text = said(unschedulable(said_by_scheduler), wanted, nodes=NODES).message
    assert ("The step asks for nodes with nvidia.com/gpu.product=H100, zone=a; there are nvidia.com/gpu.product: A100; "
            "zone: on no node.") in text


def test_without_the_right_to_list_nodes_it_says_so() -> None:
    text = said(unschedulable("0/1 nodes are available: 1 Insufficient cpu."), Resources(cpu=3)).message
    assert "Short is cpu: the step asks for 3. What the nodes have is not known here: Airflow's role may not list nodes." in text


def test_a_resource_that_no_node_has() -> None:
    text = said(unschedulable("0/1 nodes are available: 1 Insufficient amd.com/gpu."),
                Resources(gpu=1, gpu_resource="amd.com/gpu"), nodes=NODES).message
    assert "Short is amd.com/gpu: the step asks for 1, and no node has any." in text


@pytest.mark.parametrize(("has", "cap", "kills", "gets"), [
    ("1Gi", None, 3, "1Gi"), ("1Gi", "8Gi", 0, "1Gi"), ("1Gi", "8Gi", 1, "2Gi"), ("1Gi", "8Gi", 2, "4Gi"),
    ("1Gi", "6Gi", 3, "6Gi"), ("700Mi", "4Gi", 1, "1400Mi"), ("512Mi", "1Gi", 1, "1Gi"), ("1Gi", "8Gi", 10**6, "8Gi"),
])
def test_memory_doubles_up_to_its_cap(has: str, cap: str | None, kills: int, gets: str) -> None:
    assert grown(Resources(memory=has, memory_cap=cap), kills).memory == gets


def test_events_are_read_newest_last() -> None:
    evidence = Evidence(pod=None, container="base", resources=Resources(), image="i",
                        events=[("Failed", "first"), ("Failed", "second"), ("Pulled", "")])
    assert evidence.event("Failed") == "second" and evidence.event("Pulled") == "Pulled" and evidence.event("Other") is None


def test_a_lost_pod_is_one_that_should_long_be_gone() -> None:
    from airgate.runtime.pod_patience import is_lost

    made = pod("Running")
    assert not is_lost(made)
    made.metadata.deletion_timestamp = datetime.now(UTC)
    assert not is_lost(made)
    made.metadata.deletion_timestamp = datetime(2026, 1, 1, tzinfo=UTC)
    assert is_lost(made)
