"""Airflow's ways to the cluster, with patience: a pod runs on while the API server is away, so its task does not fail of that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook, KubernetesHook
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager

from airgate.runtime.pod_launch import patience, patiently

# A pod that should be gone for so long is on a node that nobody can reach.
LOST_SECONDS = 60


class PatientHook(KubernetesHook):
    """Reads a pod also when the API server has to be asked for minutes."""

    def get_pod(self, name: str, namespace: str) -> Any:
        """Read the pod. Raises the client's ApiException for what waiting does not change, such as 404."""
        read = super().get_pod
        return patiently(lambda: read(name, namespace))


class PatientAsyncHook(AsyncKubernetesHook):
    """The same for the triggerer."""

    @patience()  # type: ignore[untyped-decorator]
    async def get_pod(self, name: str, namespace: str) -> Any:
        """Read the pod. Raises as PatientHook does."""
        return await super().get_pod(name, namespace)


class PatientPodManager(PodManager):
    """Reads and deletes pods also when the API server has to be asked for minutes."""

    def read_pod(self, pod: Any) -> Any:
        """Read the pod anew. Raises ApiException as PatientHook does."""
        return patiently(lambda: self._client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace))

    def delete_pod(self, pod: Any) -> None:
        """Delete the pod; that it is gone already is fine."""
        remove = super().delete_pod
        patiently(lambda: remove(pod))

    def await_pod_completion(self, pod: Any, *arguments: Any, **options: Any) -> Any:
        """Wait until the pod is over, and not for one that is lost with its node."""
        now = self.read_pod(pod)
        return now if is_lost(now) else super().await_pod_completion(pod, *arguments, **options)


def is_lost(pod: Any) -> bool:
    """Whether the pod was to be gone a while ago and is there still: its kubelet does not answer, and says nothing new of it."""
    due = pod.metadata.deletion_timestamp if pod.metadata else None
    return due is not None and (datetime.now(UTC) - due).total_seconds() > LOST_SECONDS
