"""What a pod's status says of its container: how it ended, what receipt it left, and which image ran."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airgate.contracts import receipt

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")


def ended_state(pod: k8s.V1Pod | None, container: str) -> k8s.V1ContainerStateTerminated | None:
    """How the pod's container ended; None while it runs, or when Kubernetes does not say."""
    status = _status(pod, container)
    return status.state.terminated if status is not None and status.state else None


def receipt_of(pod: k8s.V1Pod | None, container: str) -> str | None:
    """The SHA-256 of the result that the pod's runner left in its termination message; None when it left none."""
    ended = ended_state(pod, container)
    return receipt.read(ended.message) if ended is not None else None


def image_of(pod: k8s.V1Pod | None, container: str, asked: str) -> str:
    """The image that was asked for with the digest of the one that ran, 'NAME:TAG@sha256:...', where Kubernetes tells it.

    The digest is that of the registry's manifest; of an image that came from no registry, that of its configuration.
    See ContainerStatus.imageID, which runtimes write as '[SCHEME://][NAME@]sha256:...'.
    """
    status = _status(pod, container)
    digest = DIGEST.search(str(status.image_id or "")) if status is not None else None
    return f"{asked.partition('@')[0]}@{digest[0]}" if digest else asked


def _status(pod: k8s.V1Pod | None, container: str) -> k8s.V1ContainerStatus | None:
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    return next((status for status in statuses if status.name == container), None)
