"""What a step's pod looks like: resources, placement, labels, and no more rights than a step needs. Pure functions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airgate.contracts.fork_protocol import KILL_AFTER_SECONDS, SILENCE
from airgate.contracts.receipt import RECEIPT_FILE, TERMINATION_LOG
from airgate.contracts.resources import Resources
from airgate.encryption import keys
from airgate.errors import ConfigError
from airgate.runtime import pod_placement
from airgate.runtime.plan import StepPlan
from airgate.settings import Settings

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

USER = 10001
GROUP = 10001
SCRATCH = "/tmp"  # noqa: S108  the one place a step may write to: an empty volume of its own
LABEL_LIMIT = 63
CALL_ANNOTATION = "airgate.io/call"
CONTAINER = "base"  # as Airflow calls it


def label(value: str) -> str:
    """Give `value` as Kubernetes allows it in a label: at most 63 of [A-Za-z0-9._-], alphanumeric at both ends.

    A value that had to be changed ends in eight hex digits of its SHA-256, so that two names never become one.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-._")
    if safe == value and len(value) <= LABEL_LIMIT:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()[:8]
    return "-".join(filter(None, [safe[: LABEL_LIMIT - 9].rstrip("-._"), digest]))


def labels(plan: StepPlan, dag_id: str, task_id: str) -> dict[str, str]:
    """The pod's labels. Run and try are not among them: Airflow adds its own, and an annotation has them whole."""
    names = {"model": plan.spec.name if plan.spec else "", "dag": dag_id, "task": task_id, "step": plan.function}
    return {
        "app.kubernetes.io/name": "airgate-step",
        "app.kubernetes.io/managed-by": "airgate",
        **{f"airgate.io/{key}": label(value) for key, value in names.items() if value},
    }


def pod_name(dag_id: str, task_id: str) -> str:
    """The readable part of a pod's name: a DNS label of at most 54 characters."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{dag_id}-{task_id}".lower()).strip("-")
    return name[:54].rstrip("-") or "step"


def container_resources(resources: Resources) -> k8s.V1ResourceRequirements:
    """Requests equal limits: the pod's quality of service is Guaranteed, so a neighbour's greed does not evict it."""
    from kubernetes.client import models as k8s

    amounts = {"cpu": f"{round(resources.cpu * 1000)}m", "memory": resources.memory}
    if resources.gpu:
        amounts[resources.gpu_resource] = str(resources.gpu)
    return k8s.V1ResourceRequirements(requests=dict(amounts), limits=dict(amounts))


def pod_security() -> k8s.V1PodSecurityContext:
    """What the `restricted` Pod Security Standard asks of a pod: a plain user and the runtime's system call filter."""
    from kubernetes.client import models as k8s

    return k8s.V1PodSecurityContext(
        run_as_non_root=True, run_as_user=USER, run_as_group=GROUP, fs_group=GROUP,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def container_security() -> k8s.V1SecurityContext:
    """What it asks of a container, and a root file system that cannot be written."""
    from kubernetes.client import models as k8s

    return k8s.V1SecurityContext(
        run_as_non_root=True, run_as_user=USER, run_as_group=GROUP, read_only_root_filesystem=True,
        allow_privilege_escalation=False, privileged=False, capabilities=k8s.V1Capabilities(drop=["ALL"]),
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def environment(resources: Resources, places: Mapping[str, str]) -> list[k8s.V1EnvVar]:
    """Variables that are no secret. HOME and TMPDIR point to the one place that can be written.

    `places` are the installation's own (AIRGATE_...). A URL that holds credentials is left out: anyone who may look at
    a pod could read it there, so it belongs in the steps' Secret.
    """
    threads = str(max(1, int(resources.cpu)))
    values = {
        "HOME": SCRATCH, "TMPDIR": SCRATCH, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
        RECEIPT_FILE: TERMINATION_LOG,
        # Libraries count the node's cores, not the pod's share; too many threads are throttled and slow each other.
        "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
        **SILENCE,
        **pod_placement.gpu_environment(resources),
        **{name: value for name, value in places.items() if "@" not in urlsplit(value).netloc},
    }
    return variables(values)


def variables(values: Mapping[str, str]) -> list[k8s.V1EnvVar]:
    """Environment variables with these values."""
    from kubernetes.client import models as k8s

    return [k8s.V1EnvVar(name=name, value=value) for name, value in values.items()]


def secret_environment(secret: str | None) -> list[k8s.V1EnvFromSource]:
    """Credentials of artifact store, data remote and MLflow, by the name of a Secret. Their values are never here."""
    if not secret:
        return []
    from kubernetes.client import models as k8s

    return [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=secret))]


def store_keys(now: Settings) -> tuple[list[k8s.V1Volume], list[k8s.V1VolumeMount]]:
    """Key files of an encrypted store, from the Secret's item of the file's name, where AIRGATE_STORE_KEYS says they lie.

    A variable that it names comes with the Secret's others. Raises ConfigError when it is no reference, or without a Secret.
    """
    from kubernetes.client import models as k8s

    files = [PurePosixPath(place) for kind, place in keys.references(now.store_keys) if kind == "file"]
    if not files:
        return [], []
    if not now.steps_secret:
        raise ConfigError(f"AIRGATE_STORE_KEYS names the file {files[0]}, which no pod has: set AIRGATE_STEPS_SECRET to a Secret "
                          f"with the item '{files[0].name}', or name a variable of that Secret as env:VARIABLE")
    items = [k8s.V1KeyToPath(key=path.name, path=path.name) for path in files]
    source = k8s.V1SecretVolumeSource(secret_name=now.steps_secret, items=items, default_mode=0o440)
    mounts = [k8s.V1VolumeMount(name="store-keys", mount_path=str(path), sub_path=path.name, read_only=True) for path in files]
    return [k8s.V1Volume(name="store-keys", secret=source)], mounts


def base_pod(resources: Resources) -> k8s.V1Pod:
    """What the operator has no argument for: no environment variables for each service of the namespace.

    And what an author may say otherwise for one task, by the operator's own arguments: affinity and priority class.
    """
    from kubernetes.client import models as k8s

    # Names of the containers must agree for Airflow to merge this with what the operator's arguments say.
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name=CONTAINER)], enable_service_links=False,
                            affinity=pod_placement.affinity(resources), priority_class_name=resources.priority_class),
    )


def operator_arguments(resources: Resources, now: Settings) -> dict[str, Any]:
    """Everything about the pod but its name and labels, as arguments of KubernetesPodOperator."""
    from kubernetes.client import models as k8s

    image = resources.image or now.steps_image
    places = {"AIRGATE_RUNTIME": now.runtime, "AIRGATE_PREDICTIONS": now.predictions, "AIRGATE_STEPS_IMAGE": image}
    volumes, mounts = store_keys(now)
    shared, shared_mounts = pod_placement.shared_memory(resources)
    if now.store_keys:
        places["AIRGATE_STORE_KEYS"] = now.store_keys  # names the keys; `store_keys` refuses what might be one
    return {
        "namespace": now.namespace,
        "image": image,
        "container_resources": container_resources(resources),
        "node_selector": pod_placement.node_selector(resources),
        "tolerations": pod_placement.tolerations(resources),
        "security_context": pod_security(),
        "container_security_context": container_security(),
        "automount_service_account_token": False,
        # What is told to stop has as long as on a laptop, then it is killed: a GPU is free again in seconds.
        "termination_grace_period": round(KILL_AFTER_SECONDS),
        "env_vars": environment(resources, places),
        "env_from": secret_environment(now.steps_secret),
        "volumes": [k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource()), *shared, *volumes],
        "volume_mounts": [k8s.V1VolumeMount(name="scratch", mount_path=SCRATCH), *shared_mounts, *mounts],
        "full_pod_spec": base_pod(resources),
    }
