"""GPUs on a real cluster: what a step asks for decides where its pod goes. No image is needed: being placed is enough."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kubernetes.test_admission import _installation, pod

from airgate.contracts.resources import Resources

__all__ = ["_installation"]  # a fixture
pytestmark = pytest.mark.kubernetes
TYPE = "NVIDIA-H100-80GB-HBM3"
# What GPU feature discovery would write on such a node; the test cluster has no device to discover.
LABELS = {"nvidia.com/gpu.product": TYPE, "nvidia.com/gpu.memory": "81559"}


@pytest.fixture(scope="module")
def gpu_node(api: Any) -> Iterator[str]:
    """A node that offers GPUs, labelled as GPU feature discovery does."""
    offering = [node for node in api.list_node().items if int(node.status.allocatable.get("nvidia.com/gpu", 0))]
    if not offering:
        pytest.skip("no node of the cluster offers nvidia.com/gpu")
    name = offering[0].metadata.name
    before = offering[0].metadata.labels
    api.patch_node(name, {"metadata": {"labels": LABELS}})
    yield name
    api.patch_node(name, {"metadata": {"labels": {key: before.get(key) for key in LABELS}}})


def placed(api: Any, namespace: str, resources: Resources) -> Any:
    """The pod's condition PodScheduled, once the scheduler has spoken."""
    sent = pod(resources)
    sent["metadata"]["name"] = f"gpu-{time.time_ns()}"
    made = api.create_namespaced_pod(namespace, sent)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            status = api.read_namespaced_pod(made.metadata.name, namespace).status
            for condition in status.conditions or []:
                if condition.type == "PodScheduled":
                    return condition
            time.sleep(0.2)
        raise AssertionError("the scheduler said nothing for a minute")
    finally:
        api.delete_namespaced_pod(made.metadata.name, namespace, grace_period_seconds=0)


def small(**gpu: Any) -> Resources:
    return Resources(cpu=0.01, memory="16Mi", **gpu)


@pytest.mark.parametrize("asked", [
    {"gpu": 1}, {"gpu": 1, "gpu_type": TYPE}, {"gpu": 1, "gpu_memory": "79Gi"}, {"gpu": 1, "gpu_memory": "81559Mi"}])
def test_a_node_that_has_it_takes_the_pod(api: Any, namespace: str, gpu_node: str, asked: dict[str, Any]) -> None:
    found = placed(api, namespace, small(**asked))
    assert found.status == "True", found.message


@pytest.mark.parametrize(("asked", "said"), [
    ({"gpu": 1, "gpu_type": "NVIDIA-A100-SXM4-40GB"}, "node"), ({"gpu": 1, "gpu_memory": "81560Mi"}, "node"),
    ({"gpu": 16}, "Insufficient nvidia.com/gpu"),
    ({"gpu": 1, "gpu_resource": "nvidia.com/mig-1g.10gb"}, "Insufficient nvidia.com/mig-1g.10gb")])
def test_a_node_that_lacks_it_does_not(api: Any, namespace: str, gpu_node: str, asked: dict[str, Any], said: str) -> None:
    found = placed(api, namespace, small(**asked))
    assert (found.status, found.reason) == ("False", "Unschedulable") and said in found.message
