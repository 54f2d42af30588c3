"""What a step may use, as `steps:` in `model.yaml` says it: processor, memory, GPUs, image, and where its pod may run."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from airgate.contracts.base import Contract

AMOUNT = r"^[1-9]\d*(Mi|Gi)$"
# A label's value, and a label's key or a resource's name: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>
LABEL_VALUE = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
NVIDIA = "nvidia.com"
GPU_POOL = "gpu"


class Toleration(Contract):
    """A taint of a node that the step's pod does not mind. Without `value` it is every taint of this key."""

    key: str = Field(pattern=LABEL_KEY)
    value: str | None = Field(default=None, pattern=LABEL_VALUE)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class Resources(Contract):
    """What a step may use. Memory as Kubernetes writes it: 512Mi, 2Gi.

    `gpu` counts devices of `gpu_resource`, the name under which a device plugin offers them; a slice of a GPU (MIG) has a
    name of its own, `nvidia.com/mig-1g.10gb`. `gpu_type` and `gpu_memory` (of one device) are held against the labels that
    NVIDIA's GPU feature discovery gives to nodes: <https://github.com/NVIDIA/k8s-device-plugin/tree/main/docs/gpu-feature-discovery>.
    """

    cpu: float = Field(default=1, gt=0, le=256)
    memory: str = Field(default="2Gi", pattern=AMOUNT)
    memory_cap: str | None = Field(default=None, pattern=AMOUNT, description=(
        "in pods: a try after one that was killed for memory gets twice as much, up to this; None: it is not tried again"))
    gpu: int = Field(default=0, ge=0, le=16)
    gpu_resource: str = Field(default=f"{NVIDIA}/gpu", pattern=r"^[a-z0-9.\-]+/[A-Za-z0-9.\-_]+$")
    gpu_type: str | None = Field(default=None, pattern=LABEL_VALUE, description="such as NVIDIA-H100-80GB-HBM3")
    gpu_memory: str | None = Field(default=None, pattern=AMOUNT, description="what one device has at least")
    image: str | None = Field(default=None, description="None takes the installation's steps image")
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    priority_class: str | None = Field(default=None, pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")

    @field_validator("priority_class")
    @classmethod
    def _not_the_clusters_own(cls, name: str | None) -> str | None:
        if name and name.startswith("system-"):
            raise ValueError(f"priority_class {name} is for what the cluster itself lives on; name one of the installation's, "
                             "which `kubectl get priorityclass` lists")
        return name

    @model_validator(mode="after")
    def _cap_is_no_less(self) -> Self:
        amount = {"Mi": 1, "Gi": 1024}
        if self.memory_cap:
            has, cap = (int(text[:-2]) * amount[text[-2:]] for text in (self.memory, self.memory_cap))
            if cap < has:
                raise ValueError(f"memory_cap is {self.memory_cap} but memory is {self.memory} from the start; make memory_cap "
                                 "larger, or take it out")
        return self

    @model_validator(mode="after")
    def _gpu_makes_sense(self) -> Self:
        vendor, _, resource = self.gpu_resource.partition("/")
        words = {"gpu_type": self.gpu_type, "gpu_memory": self.gpu_memory,
                 "gpu_resource": None if self.gpu_resource == f"{NVIDIA}/gpu" else self.gpu_resource}
        for key, value in words.items():
            if value and not self.gpu:
                raise ValueError(f"{key} is {value} but the step asks for no GPU; add gpu: 1, or take {key} out")
        if vendor != NVIDIA and (self.gpu_type or self.gpu_memory):
            raise ValueError(f"gpu_type and gpu_memory are labels of {NVIDIA}, but gpu_resource is {self.gpu_resource}; name the "
                             "label that this vendor gives to its nodes in node_selector")
        if self.is_slice and self.gpu_memory:
            raise ValueError(f"gpu_memory is {self.gpu_memory} but the slice says how much it has: {resource}; take gpu_memory "
                             "out, or name a larger slice in gpu_resource")
        if self.is_slice and self.gpu > 1:
            raise ValueError(f"gpu is {self.gpu} but a program can use one slice only ({resource}); write gpu: 1 and name a "
                             f"larger slice in gpu_resource, or whole devices: {NVIDIA}/gpu")
        return self

    @property
    def is_slice(self) -> bool:
        """Whether the GPU is a part of a device (MIG)."""
        return self.gpu_resource.partition("/")[2].startswith("mig-")

    @property
    def gpu_pool(self) -> str | None:
        """Name of the Airflow pool that has a slot for each device of this kind; None for a step without GPU.

        `gpu` for a step that takes any, else `gpu-` with vendor (unless NVIDIA), slice and type, in small letters:
        `gpu-nvidia-h100-80gb-hbm3`, `gpu-mig-1g.10gb`, `gpu-amd.com`.
        """
        if not self.gpu:
            return None
        vendor, _, resource = self.gpu_resource.partition("/")
        kind = [vendor if vendor != NVIDIA else "", resource if resource != "gpu" else "", self.gpu_type or ""]
        return "-".join([GPU_POOL, *filter(None, kind)]).lower()
