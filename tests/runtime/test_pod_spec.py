"""The pod that Kubernetes is asked for, as it goes over the wire."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts.model_spec import Resources
from airgate.errors import ConfigError, WiringError
from airgate.runtime import StepPlan, make_operator, pod_spec

MakeStep = Callable[..., Any]
LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@pytest.fixture
def make(home: Path, monkeypatch: pytest.MonkeyPatch) -> MakeStep:
    """Make a step's operator for the kubernetes runtime."""
    from airflow.sdk import DAG

    monkeypatch.setenv("AIRGATE_RUNTIME", "kubernetes")
    monkeypatch.setenv("AIRGATE_STEPS_IMAGE", "registry.example/steps@sha256:" + "1" * 64)
    monkeypatch.setenv("AIRGATE_NAMESPACE", "models")
    monkeypatch.setenv("AIRGATE_STEPS_SECRET", "steps-credentials")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-value")
    monkeypatch.setenv("AIRGATE_AUDIT_URL", "postgresql://audit:s3cr3t-value@db/audit")
    monkeypatch.setenv("AIRGATE_PREDICTIONS", "s3://predictions")

    def one(resources: Resources | None = None, task_id: str = "train", **kwargs: Any) -> Any:
        plan = StepPlan("airgate.steps.load:load_day", resources=resources or Resources())
        return make_operator(plan, task_id=task_id, dag=DAG("heart_training"), **kwargs)

    return one


def wire(operator: Any) -> dict[str, Any]:
    """The pod as the client sends it."""
    from kubernetes.client import ApiClient

    operator.arguments = ["s3://store/calls/heart/call.json"]
    pod: dict[str, Any] = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True))
    return pod


def test_a_pod_has_the_least_rights(make: MakeStep) -> None:
    spec = wire(make())["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False, "privileged": False, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["securityContext"] == {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
                                       "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert spec["hostNetwork"] is False and not spec["initContainers"] and spec["restartPolicy"] == "Never"
    assert "hostPID" not in spec and "hostIPC" not in spec


def test_a_pod_writes_to_its_own_scratch_only(make: MakeStep) -> None:
    spec = wire(make())["spec"]
    assert spec["volumes"] == [{"name": "scratch", "emptyDir": {}}]
    assert spec["containers"][0]["volumeMounts"] == [{"name": "scratch", "mountPath": "/tmp"}]
    assert "hostPath" not in str(spec)


def test_store_keys_come_by_reference(make: MakeStep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is the Secret's item of that name, a variable is one of the Secret's; no key is in the pod."""
    monkeypatch.setenv("AIRGATE_STORE_KEY_RING", "2026-01 s3cr3t-value")
    monkeypatch.setenv("AIRGATE_STORE_KEYS", "file:/etc/airgate/store-keys,env:AIRGATE_STORE_KEY_RING")
    spec = wire(make())["spec"]
    (container,) = spec["containers"]
    assert {"name": "AIRGATE_STORE_KEYS", "value": "file:/etc/airgate/store-keys,env:AIRGATE_STORE_KEY_RING"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "steps-credentials"}}]
    assert container["volumeMounts"][1] == {
        "name": "store-keys", "mountPath": "/etc/airgate/store-keys", "subPath": "store-keys", "readOnly": True}
    assert spec["volumes"][1] == {"name": "store-keys", "secret": {
        "secretName": "steps-credentials", "defaultMode": 0o440, "items": [{"key": "store-keys", "path": "store-keys"}]}}
    assert "s3cr3t" not in str(spec)


@pytest.mark.parametrize(("keys", "secret", "said"), [
    ("c3VwZXIgc2VjcmV0IGtleSBvZiAzMiBieXRlcyBoZXJl", "steps-credentials", "must be file:PATH, .* and never the key"),
    ("file:/etc/airgate/store-keys", "", "which no pod has: set AIRGATE_STEPS_SECRET to a Secret with the item 'store-keys'"),
])
def test_store_keys_that_no_pod_could_have(make: MakeStep, monkeypatch: pytest.MonkeyPatch, keys: str, secret: str,
                                           said: str) -> None:
    monkeypatch.setenv("AIRGATE_STORE_KEYS", keys)
    monkeypatch.setenv("AIRGATE_STEPS_SECRET", secret)
    with pytest.raises(ConfigError, match=said) as caught:
        make()
    assert "c3Vw" not in str(caught.value)


def test_a_pod_runs_the_runner_in_the_steps_image(make: MakeStep) -> None:
    pod = wire(make())
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-m", "airgate.steps.runner"]
    assert container["args"] == ["s3://store/calls/heart/call.json"]
    assert container["image"].startswith("registry.example/steps@sha256:") and pod["metadata"]["namespace"] == "models"
    assert wire(make(Resources(image="mine:2")))["spec"]["containers"][0]["image"] == "mine:2"


def test_requests_are_limits(make: MakeStep) -> None:
    resources = wire(make(Resources(cpu=1.5, memory="3Gi")))["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "1500m", "memory": "3Gi"} == resources["requests"]


def test_a_gpu_step_asks_for_it_and_may_go_where_it_is(make: MakeStep) -> None:
    spec = wire(make(Resources(gpu=1, gpu_resource="nvidia.com/mig-1g.10gb", node_selector={"pool": "gpu"})))["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    plain = wire(make())["spec"]
    assert not plain["tolerations"] and "gpu" not in str(plain["containers"][0]["resources"])


def test_no_secret_stands_in_a_pod(make: MakeStep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_PREDICTIONS", "s3://key:s3cr3t-value@predictions/out")
    pod = wire(make())
    (container,) = pod["spec"]["containers"]
    assert "s3cr3t-value" not in str(pod)
    assert container["envFrom"] == [{"secretRef": {"name": "steps-credentials"}}]
    assert not any("valueFrom" in variable for variable in container["env"])
    assert "AIRGATE_AUDIT_URL" not in str(pod)


def test_a_pod_knows_the_installations_places(make: MakeStep) -> None:
    variables = {item["name"]: item["value"] for item in wire(make(Resources(cpu=4)))["spec"]["containers"][0]["env"]}
    assert variables["AIRGATE_PREDICTIONS"] == "s3://predictions" and variables["AIRGATE_RUNTIME"] == "kubernetes"
    assert variables["HOME"] == variables["TMPDIR"] == "/tmp" and variables["OMP_NUM_THREADS"] == "4"


def test_labels_name_what_the_pod_does(make: MakeStep) -> None:
    labels = wire(make())["metadata"]["labels"]
    assert labels["airgate.io/dag"] == "heart_training" and labels["airgate.io/task"] == "train"
    assert labels["airgate.io/step"].startswith("airgate.steps.load-load_day-")
    assert all(LABEL.fullmatch(value) for value in labels.values())


def test_a_time_limit_ends_the_pod_by_itself(make: MakeStep) -> None:
    assert wire(make(execution_timeout=timedelta(minutes=5)))["spec"]["activeDeadlineSeconds"] == 300
    assert "activeDeadlineSeconds" not in wire(make())["spec"]


def test_defaults_of_the_task(make: MakeStep) -> None:
    one = make()
    assert (one.retries, one.retry_delay, one.deferrable, one.do_xcom_push) == (1, timedelta(seconds=30), True, False)
    assert one.on_finish_action.value == "delete_pod"
    assert make(retries=4).retries == 4


def test_default_args_of_the_dag_win_over_ours(make: MakeStep) -> None:
    assert make(default_args={"retries": 3, "deferrable": False}).retries == 3


@pytest.mark.parametrize("argument", ["hostnetwork", "full_pod_spec", "security_context", "volumes", "service_account_name"])
def test_an_author_cannot_loosen_the_pod(make: MakeStep, argument: str) -> None:
    for author in ({argument: None}, {"default_args": {argument: None}}):
        with pytest.raises(WiringError) as caught:
            make(**author)
        assert f"step 'train': {argument} of a step's pod is the platform's to set" in str(caught.value)
        assert "startup_timeout_seconds" in str(caught.value)


@given(st.text(min_size=1, max_size=300))
def test_any_text_becomes_a_label(text: str) -> None:
    made = pod_spec.label(text)
    assert LABEL.fullmatch(made)
    assert made == text or made != pod_spec.label(text + "!")


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_ids_become_a_pod_name(dag_id: str, task_id: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,52}[a-z0-9])?", pod_spec.pod_name(dag_id, task_id))


def test_a_step_of_a_model_is_labelled_with_it() -> None:
    assert "airgate.io/model" not in pod_spec.labels(StepPlan("airgate.steps.load:load_day"), "d", "t")
