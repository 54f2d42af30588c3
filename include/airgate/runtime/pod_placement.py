"""Where a step's pod may run, what it may push aside, and the Airflow pool that counts the GPUs it holds. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airgate.contracts.resources import GPU_POOL, NVIDIA, Resources
from airgate.errors import WiringError

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

SHARED_MEMORY = "/dev/shm"  # noqa: S108  Linux' own place for it
GPU_MEMORY = f"{NVIDIA}/gpu.memory"  # of one device of a node, in MiB
UNITS = {"Mi": 1, "Gi": 1024}


def pool_options(resources: Resources, runtime: str) -> dict[str, Any]:
    """Airflow's `pool` and `pool_slots` for a step: a slot for each GPU, so that no more are asked for than there are.

    The local runtime hands out no devices: each step sees all of the machine's. So there a GPU step takes one slot of `gpu`
    whatever it asks for, and with one slot, as shipped, runs alone.
    """
    if not resources.gpu:
        return {}
    if runtime == "local":
        return {"pool": GPU_POOL, "pool_slots": 1}
    return {"pool": resources.gpu_pool, "pool_slots": resources.gpu}


def node_selector(resources: Resources) -> dict[str, str]:
    """The nodes that model.yaml names, of the GPU type that it names."""
    kind = {f"{NVIDIA}/gpu.product": resources.gpu_type} if resources.gpu_type else {}
    return {**kind, **resources.node_selector}


def affinity(resources: Resources) -> k8s.V1Affinity | None:
    """Nodes whose devices have at least `gpu_memory`: the label is in MiB, and a selector cannot compare numbers."""
    if not resources.gpu_memory:
        return None
    from kubernetes.client import models as k8s

    enough = k8s.V1NodeSelectorRequirement(key=GPU_MEMORY, operator="Gt", values=[str(_mib(resources.gpu_memory) - 1)])
    required = k8s.V1NodeSelector(node_selector_terms=[k8s.V1NodeSelectorTerm(match_expressions=[enough])])
    return k8s.V1Affinity(node_affinity=k8s.V1NodeAffinity(required_during_scheduling_ignored_during_execution=required))


def refuse_affinity(task_id: str, resources: Resources, given: Any) -> None:
    """Refuse an affinity that a DAG gives to a task beside `gpu_memory`: Airflow takes one or the other, whole."""
    if given and resources.gpu_memory:
        raise WiringError(
            f"step '{task_id}': its task has an affinity, which would replace the one that gpu_memory: {resources.gpu_memory} in "
            "model.yaml stands for. Take the affinity out and name nodes by node_selector in model.yaml; or take gpu_memory out, "
            f"and ask in the affinity for nodes with {GPU_MEMORY} Gt {_mib(resources.gpu_memory) - 1}.")


def _mib(amount: str) -> int:
    return int(amount[:-2]) * UNITS[amount[-2:]]


def tolerations(resources: Resources) -> list[k8s.V1Toleration]:
    """What model.yaml names; and a step that asks for a GPU may run on nodes kept for GPU work."""
    from kubernetes.client import models as k8s

    named = [k8s.V1Toleration(key=one.key, value=one.value, operator="Exists" if one.value is None else "Equal",
                              effect=one.effect) for one in resources.tolerations]
    if not resources.gpu:
        return named
    # A slice (nvidia.com/mig-1g.10gb) lives on nodes that carry the whole device's taint.
    vendor = resources.gpu_resource.split("/")[0]
    keys = dict.fromkeys((f"{vendor}/gpu", resources.gpu_resource))
    return [*(k8s.V1Toleration(key=key, operator="Exists", effect="NoSchedule") for key in keys), *named]


def shared_memory(resources: Resources) -> tuple[list[k8s.V1Volume], list[k8s.V1VolumeMount]]:
    """Room for what processes on GPUs hand each other: a container has 64 MiB of it, and NCCL and torch's loaders fail there.

    What is in it counts as the step's memory, so its limit is the memory's.
    """
    if not resources.gpu:
        return [], []
    from kubernetes.client import models as k8s

    source = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=resources.memory)
    return ([k8s.V1Volume(name="shared-memory", empty_dir=source)],
            [k8s.V1VolumeMount(name="shared-memory", mount_path=SHARED_MEMORY)])


def gpu_environment(resources: Resources) -> dict[str, str]:
    """Keep a step that asked for no GPU from seeing those of others: images made for CUDA ask for all by a variable.

    With a GPU the device plugin sets the variable itself. See the NVIDIA Container Toolkit on NVIDIA_VISIBLE_DEVICES:
    <https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html>.
    """
    return {} if resources.gpu else {"NVIDIA_VISIBLE_DEVICES": "void"}
