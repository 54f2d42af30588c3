"""The pods that we ask for, before a real API server: it takes each as it is and drops nothing that it does not know."""

from datetime import timedelta
from typing import Any

import pytest

from airgate.contracts.resources import Resources, Toleration
from airgate.runtime import StepPlan, make_operator

pytestmark = pytest.mark.kubernetes
GPU_NODE = {"accelerator": "h200", "topology.kubernetes.io/zone": "eu-1a"}
PODS = [
    pytest.param(Resources(), {}, id="cpu"),
    pytest.param(Resources(cpu=0.25, memory="512Mi"), {}, id="part of a core"),
    pytest.param(Resources(gpu=1), {}, id="gpu"),
    pytest.param(Resources(gpu=1, gpu_resource="nvidia.com/mig-1g.10gb"), {}, id="slice of a gpu"),
    pytest.param(Resources(gpu=2, gpu_type="NVIDIA-H100-80GB-HBM3", gpu_memory="40Gi"), {}, id="two gpus of a type and size"),
    pytest.param(Resources(tolerations=[Toleration(key="team", value="risk", effect="NoExecute"), Toleration(key="spot")]), {},
                 id="tolerations"),
    pytest.param(Resources(gpu=1, node_selector=GPU_NODE), {}, id="node selector"),
    pytest.param(Resources(image="registry.example:5000/other/image:1"), {}, id="image"),
    pytest.param(Resources(), {"execution_timeout": timedelta(minutes=5), "image_pull_policy": "Always"}, id="time limit"),
    pytest.param(Resources(), {"task_id": "T_" + "long" * 40}, id="long name"),
]


@pytest.fixture(autouse=True)
def _installation(home: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_RUNTIME", "kubernetes")
    monkeypatch.setenv("AIRGATE_STEPS_IMAGE", "registry.example/steps@sha256:" + "1" * 64)
    monkeypatch.setenv("AIRGATE_NAMESPACE", namespace)
    monkeypatch.setenv("AIRGATE_PREDICTIONS", "s3://predictions")


def pod(resources: Resources, task_id: str = "train", **kwargs: Any) -> dict[str, Any]:
    """The pod as the client sends it."""
    from airflow.sdk import DAG
    from kubernetes.client import ApiClient

    plan = StepPlan("airgate.steps.load:load_day", resources=resources)
    operator: Any = make_operator(plan, task_id=task_id, dag=DAG("heart_training"), **kwargs)
    operator.arguments = ["s3://store/calls/heart/call.json"]
    made: dict[str, Any] = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True))
    return made


def lost(sent: Any, kept: Any, where: str = "pod") -> list[str]:
    """What of `sent` is not in `kept`. Kubernetes adds defaults, and may write an amount in another way."""
    if isinstance(sent, dict):
        if not isinstance(kept, dict):
            return [where] if sent else []
        return [one for key, value in sent.items() for one in lost(value, kept.get(key), f"{where}.{key}")]
    if isinstance(sent, list):
        have = kept or []
        if len(have) < len(sent):
            return [where]
        return [one for n, value in enumerate(sent) for one in lost(value, have[n], f"{where}[{n}]")]
    if sent in (None, False, "") and not kept:
        return []
    from kubernetes.utils import parse_quantity

    if ".resources." in where and parse_quantity(sent) == parse_quantity(kept):
        return []
    return [] if sent == kept else [f"{where}: {sent!r}, not {kept!r}"]


@pytest.mark.parametrize("secret", [None, "steps-credentials"])
@pytest.mark.parametrize(("resources", "kwargs"), PODS)
def test_a_pod_is_taken_as_it_is(api: Any, namespace: str, monkeypatch: pytest.MonkeyPatch, resources: Resources,
                                 kwargs: dict[str, Any], secret: str | None) -> None:
    from kubernetes.client import ApiClient

    if secret:
        monkeypatch.setenv("AIRGATE_STEPS_SECRET", secret)
    sent = pod(resources, **kwargs)
    kept = ApiClient().sanitize_for_serialization(api.create_namespaced_pod(namespace, sent, dry_run="All"))
    assert lost(sent, kept) == []
    assert kept["status"]["qosClass"] == "Guaranteed"
    assert ("envFrom" in kept["spec"]["containers"][0]) is bool(secret)


def test_no_token_of_the_cluster_reaches_a_step(api: Any, namespace: str) -> None:
    """The service account admission would add one as a volume."""
    kept = api.create_namespaced_pod(namespace, pod(Resources()), dry_run="All")
    assert [volume.name for volume in kept.spec.volumes] == ["scratch"]


def test_what_the_cluster_drops_is_found(api: Any, namespace: str) -> None:
    """These tests would find a field that the cluster is too old for: it takes such a pod and forgets the field."""
    newer = pod(Resources())
    newer["spec"]["madeUpForThisTest"] = {"name": "linux"}
    kept = api.create_namespaced_pod(namespace, newer, dry_run="All").to_dict()
    assert "pod.spec.madeUpForThisTest" in lost(newer, kept)


def test_a_refusal_of_the_cluster_is_one(api: Any, namespace: str) -> None:
    """These tests would find a wrong pod: an amount that Kubernetes does not know is refused."""
    from kubernetes.client import ApiException

    wrong = pod(Resources())
    wrong["spec"]["containers"][0]["resources"]["limits"]["memory"] = "2GiB"
    with pytest.raises(ApiException) as caught:
        api.create_namespaced_pod(namespace, wrong, dry_run="All")
    assert caught.value.status in (400, 422)
