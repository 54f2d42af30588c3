"""The reaper: pods that run for no task any more are found and removed, and it says how much GPU time they held.

Airflow removes a step's pod when the step ends or is stopped. What it cannot remove is the pod of a worker and a triggerer that
are both gone, or of an API server that did not answer then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.contracts import calls
from airgate.errors import AirgateError, FencedError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Pod

    from airgate.runtime.pod_launch import Try

# A pod is younger than what is known of its task for a moment; Airflow's own cleaning takes seconds.
SETTLE = timedelta(minutes=2)
# The next try of such a task takes the pod over, or removes it itself.
ALIVE = frozenset({None, "none", "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule"})


@dataclass(frozen=True)
class TaskState:
    """What Airflow says of a task instance now; `ended` None while it has not."""

    state: str | None
    ended: datetime | None = None


@dataclass(frozen=True)
class Orphan:
    """A pod that runs for nobody: why, since when, and the GPUs it holds."""

    pod: V1Pod
    why: str
    since: datetime
    gpus: int

    def held(self, now: datetime) -> int:
        """GPU-seconds that it has held for nobody."""
        return round(self.gpus * max(0.0, (now - self.since).total_seconds())) if holds_devices(self.pod) else 0

    def left(self, now: datetime) -> int | None:
        """GPU-seconds that it could have held further, up to its own time limit; None when it has no limit."""
        if not self.gpus or not holds_devices(self.pod):
            return 0
        limit = self.pod.spec.active_deadline_seconds
        if limit is None:
            return None
        begin: datetime = self.pod.status.start_time or self.pod.metadata.creation_timestamp
        return round(self.gpus * max(0.0, (begin + timedelta(seconds=limit) - now).total_seconds()))


def orphan(pod: V1Pod, task: TaskState | None, now: datetime, fenced: Callable[[str], bool]) -> Orphan | None:
    """Judge one pod by what Airflow says of its task, None when that is gone. `fenced` tells whether a call was shut out.

    A pod that is young or being deleted already is left alone, and so is that of a task which goes on: try 2 may live on the
    pod of try 1. Only the fence tells which pod a task lives on.
    """
    from airgate.runtime.pod_launch import call_of

    made: datetime = pod.metadata.creation_timestamp
    if pod.metadata.deletion_timestamp or now - made < SETTLE:
        return None
    if task is None:
        return Orphan(pod, "its DAG run is gone", made, gpus(pod))
    if task.state not in ALIVE:
        since = task.ended or made
        return Orphan(pod, f"its task is '{task.state}'", since, gpus(pod)) if now - since >= SETTLE else None
    url = call_of(pod)
    if url is not None and fenced(url):
        return Orphan(pod, "another launch of its task took over", made, gpus(pod))
    return None


def gpus(pod: V1Pod) -> int:
    """Devices that the pod asks for: Kubernetes names what device plugins offer 'vendor.domain/device'."""
    limits = ((container.resources.limits if container.resources else None) or {} for container in pod.spec.containers)
    return sum(int(amount) for each in limits for name, amount in each.items() if "/" in name)


def holds_devices(pod: V1Pod) -> bool:
    """Whether a node has given it its devices and not taken them back."""
    return bool(pod.spec.node_name) and pod.status.phase not in ("Succeeded", "Failed")


def is_fenced(url: str) -> bool:
    """Whether another launch took over; not when the store cannot say."""
    try:
        calls.check_fence(url)
    except FencedError:
        return True
    except AirgateError:
        return False
    return False


def find(pods: Iterable[V1Pod], state_of: Callable[[Try], TaskState | None], now: datetime) -> list[Orphan]:
    """The orphans among the pods. A pod that does not say for which task it is, is not ours to judge."""
    from airgate.runtime.pod_launch import Try

    judged = ((pod, Try.on(pod)) for pod in pods)
    found = (orphan(pod, state_of(mine), now, is_fenced) for pod, mine in judged if mine is not None)
    return [one for one in found if one is not None]


def remove(api: CoreV1Api, found: Orphan) -> bool:
    """Delete an orphan's pod, that very one and no later one of its name; False when it was gone."""
    from kubernetes.client import ApiException, V1DeleteOptions, V1Preconditions

    meta = found.pod.metadata
    try:
        api.delete_namespaced_pod(
            meta.name, meta.namespace, body=V1DeleteOptions(preconditions=V1Preconditions(uid=meta.uid)))
    except ApiException as error:
        if error.status not in (404, 409):
            raise
        return False
    return True


class PodReaperOperator(BaseOperator):
    """Removes the orphans in the installation's namespace."""

    def execute(self, context: Any) -> dict[str, int]:
        """Give how many pods of steps there were, how many were removed, and the GPU-seconds they held and would have held.

        `gpu_seconds_saved` counts up to each pod's own time limit; pods without one are counted in `without_limit`.
        Raises ConfigError without a service account for Airflow's API.
        """
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

        from airgate.airflow_api import AirflowApi
        from airgate.runtime.pod_launch import MANAGED, patiently

        now = settings.load()
        api: CoreV1Api = KubernetesHook(conn_id=KubernetesHook.default_conn_name).core_v1_client
        pods = patiently(lambda: api.list_namespaced_pod(now.namespace, label_selector=MANAGED)).items
        with AirflowApi.from_environment(now.airflow_api) as airflow:
            found = find(pods, lambda mine: state_in(airflow, mine), datetime.now(UTC))
        removed = [one for one in found if remove(api, one)]
        return self.account(len(pods), removed, datetime.now(UTC))

    def account(self, pods: int, removed: list[Orphan], now: datetime) -> dict[str, int]:
        """Say in the log what was removed, and sum it up."""
        for one in removed:
            left = one.left(now)
            would = "until somebody looked: it has no time limit" if left is None else f"up to {left} more"
            self.log.warning("removed pod %s: %s. It held %d GPU-seconds for nobody, and would have held %s",
                             one.pod.metadata.name, one.why, one.held(now), would)
        lefts = [one.left(now) for one in removed]
        return {"pods": pods, "removed": len(removed), "gpu_seconds_held": sum(one.held(now) for one in removed),
                "gpu_seconds_saved": sum(left or 0 for left in lefts), "without_limit": lefts.count(None)}


def state_in(airflow: Any, mine: Try) -> TaskState | None:
    """What Airflow's API says of the task instance, None when it does not know it. Raises httpx.HTTPError."""
    import httpx

    from airgate.airflow_api import task_path

    path = task_path(mine.dag_id, mine.run_id, mine.task_id)
    try:
        found = airflow.get(path if mine.map_index < 0 else f"{path}/{mine.map_index}")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return None
    ended = found.get("end_date")
    return TaskState(found.get("state"), datetime.fromisoformat(ended.replace("Z", "+00:00")) if ended else None)
