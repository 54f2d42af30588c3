"""What a step may ask for: wrong combinations are refused by name, and each kind of GPU has a pool."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airgate.contracts.resources import Resources, Toleration

H100 = "NVIDIA-H100-80GB-HBM3"
SLICE = "nvidia.com/mig-1g.10gb"


@pytest.mark.parametrize(("given_", "said"), [
    ({"gpu_type": H100}, f"gpu_type is {H100} but the step asks for no GPU; add gpu: 1, or take gpu_type out"),
    ({"gpu_memory": "40Gi"}, "gpu_memory is 40Gi but the step asks for no GPU; add gpu: 1, or take gpu_memory out"),
    ({"gpu_resource": SLICE}, f"gpu_resource is {SLICE} but the step asks for no GPU; add gpu: 1"),
    ({"gpu": 1, "gpu_resource": SLICE, "gpu_memory": "8Gi"},
     "gpu_memory is 8Gi but the slice says how much it has: mig-1g.10gb; take gpu_memory out, or name a larger slice"),
    ({"gpu": 2, "gpu_resource": SLICE},
     "gpu is 2 but a program can use one slice only (mig-1g.10gb); write gpu: 1 and name a larger slice in gpu_resource, or "
     "whole devices: nvidia.com/gpu"),
    ({"gpu": 1, "gpu_resource": "amd.com/gpu", "gpu_type": "MI300"},
     "gpu_type and gpu_memory are labels of nvidia.com, but gpu_resource is amd.com/gpu; name the label that this vendor gives "
     "to its nodes in node_selector"),
    ({"priority_class": "system-node-critical"},
     "priority_class system-node-critical is for what the cluster itself lives on; name one of the installation's"),
    ({"gpu_type": "H100 80GB", "gpu": 1}, "gpu_type\n  String should match pattern"),
    ({"gpu_memory": "40GB", "gpu": 1}, "gpu_memory\n  String should match pattern"),
])
def test_what_does_not_fit_together_is_named(given_: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Resources.model_validate(given_)
    assert said in str(caught.value)


@pytest.mark.parametrize("given_", [
    {"key": ""}, {"key": "a b"}, {"key": "team", "effect": "Never"}, {"key": "team", "value": "-"}, {}])
def test_a_toleration_names_its_taint(given_: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Toleration.model_validate(given_)


@pytest.mark.parametrize(("resources", "pool"), [
    (Resources(), None),
    (Resources(gpu=1), "gpu"),
    (Resources(gpu=4, gpu_memory="40Gi"), "gpu"),
    (Resources(gpu=1, gpu_type=H100), "gpu-nvidia-h100-80gb-hbm3"),
    (Resources(gpu=1, gpu_resource=SLICE), "gpu-mig-1g.10gb"),
    (Resources(gpu=1, gpu_resource=SLICE, gpu_type="NVIDIA-A100-SXM4-40GB"), "gpu-mig-1g.10gb-nvidia-a100-sxm4-40gb"),
    (Resources(gpu=1, gpu_resource="amd.com/gpu"), "gpu-amd.com"),
    (Resources(gpu=1, gpu_resource="habana.ai/gaudi"), "gpu-habana.ai-gaudi"),
])
def test_each_kind_of_gpu_has_a_pool(resources: Resources, pool: str | None) -> None:
    assert resources.gpu_pool == pool


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", fullmatch=True))
def test_any_type_gives_a_pool_that_airflow_takes(kind: str) -> None:
    pool = Resources(gpu=1, gpu_type=kind).gpu_pool
    assert pool is not None and re.fullmatch(r"gpu-[a-z0-9._-]+", pool) and len(pool) <= 256
