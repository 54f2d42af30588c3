"""Where a pod may run and which pool counts its GPUs, as it goes over the wire."""

from typing import Any

import pytest
from tests.runtime.test_pod_spec import MakeStep, make, wire

from airgate.contracts.resources import Resources, Toleration
from airgate.errors import WiringError
from airgate.runtime import StepPlan, make_operator, pod_placement

__all__ = ["make"]  # a fixture
H100 = Resources(gpu=2, gpu_type="NVIDIA-H100-80GB-HBM3", gpu_memory="40Gi", memory="8Gi")


def variables(spec: Any) -> dict[str, str]:
    return {item["name"]: item["value"] for item in spec["containers"][0]["env"]}


def test_type_and_memory_are_held_against_the_nodes_labels(make: MakeStep) -> None:
    spec = wire(make(H100))["spec"]
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert spec["affinity"] == {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["40959"]}]}]}}}
    assert not wire(make(Resources(gpu=1)))["spec"].get("affinity")


APART = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
    {"labelSelector": {"matchLabels": {"airgate.io/model": "heart"}}, "topologyKey": "kubernetes.io/hostname"}]}}


@pytest.mark.parametrize("where", [lambda value: {"affinity": value}, lambda value: {"default_args": {"affinity": value}}],
                         ids=["task", "default_args"])
def test_an_affinity_of_the_task_cannot_drop_the_rule_on_memory(make: MakeStep, where: Any) -> None:
    """Airflow takes one affinity or the other, whole."""
    with pytest.raises(WiringError) as caught:
        make(H100, **where(APART))
    assert str(caught.value) == (
        "step 'train': its task has an affinity, which would replace the one that gpu_memory: 40Gi in model.yaml stands for. "
        "Take the affinity out and name nodes by node_selector in model.yaml; or take gpu_memory out, and ask in the affinity "
        "for nodes with nvidia.com/gpu.memory Gt 40959.")
    assert wire(make(Resources(gpu=1), "alone", **where(APART)))["spec"]["affinity"] == APART


def test_a_selector_of_the_author_wins_over_the_types_label(make: MakeStep) -> None:
    named = Resources(gpu=1, gpu_type="H100", node_selector={"nvidia.com/gpu.product": "H100-SXM", "zone": "a"})
    assert wire(make(named))["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "H100-SXM", "zone": "a"}


def test_tolerations_of_the_author_stand_beside_those_of_gpus(make: MakeStep) -> None:
    own = [Toleration(key="team", value="risk", effect="NoExecute"), Toleration(key="spot")]
    expected = [{"key": "team", "operator": "Equal", "value": "risk", "effect": "NoExecute"},
                {"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]
    assert wire(make(Resources(tolerations=own)))["spec"]["tolerations"] == expected
    of_gpus = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert wire(make(Resources(gpu=1, tolerations=own)))["spec"]["tolerations"] == of_gpus + expected


def test_the_priority_class_of_the_model_unless_the_task_names_another(make: MakeStep) -> None:
    assert "priorityClassName" not in wire(make())["spec"]
    assert wire(make(Resources(priority_class="batch")))["spec"]["priorityClassName"] == "batch"
    one = make(Resources(priority_class="batch"), priority_class_name="urgent")
    assert wire(one)["spec"]["priorityClassName"] == "urgent"


def test_processes_on_gpus_get_room_to_hand_things_over(make: MakeStep) -> None:
    spec = wire(make(H100))["spec"]
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in spec["volumes"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]
    assert [one["name"] for one in wire(make())["spec"]["volumes"]] == ["scratch"]


def test_a_step_without_gpu_does_not_see_those_of_others(make: MakeStep) -> None:
    assert variables(wire(make())["spec"])["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in variables(wire(make(Resources(gpu=1)))["spec"])


def test_a_gpu_step_takes_as_many_slots_of_its_pool_as_it_takes_devices(make: MakeStep) -> None:
    one = make(H100)
    assert (one.pool, one.pool_slots) == ("gpu-nvidia-h100-80gb-hbm3", 2)
    plain = make()
    assert (plain.pool, plain.pool_slots) == ("default_pool", 1)
    assert make(H100, default_args={"pool": "of_all_tasks"}).pool == "gpu-nvidia-h100-80gb-hbm3"
    own = make(H100, pool="our_teams_gpus")
    assert (own.pool, own.pool_slots) == ("our_teams_gpus", 2)


def test_on_one_machine_gpu_steps_share_the_one_pool(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import DAG

    monkeypatch.setenv("AIRGATE_RUNTIME", "local")
    plan = StepPlan("airgate.steps.load:load_day", resources=H100)
    operator = make_operator(plan, task_id="train", dag=DAG("heart_training"))
    assert (operator.pool, operator.pool_slots) == ("gpu", 1)


@pytest.mark.parametrize(("memory", "more_than"), [("1Gi", "1023"), ("40960Mi", "40959"), ("80Gi", "81919")])
def test_memory_is_compared_in_mib(memory: str, more_than: str) -> None:
    found: Any = pod_placement.affinity(Resources(gpu=1, gpu_memory=memory))
    (term,) = found.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    assert term.match_expressions[0].values == [more_than]
