"""What Kubernetes says of a pod that failed: its events, and the nodes that there are. Never a reason to fail itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airgate.runtime.pod_failures import Evidence
from airgate.runtime.pod_shortage import Node

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Pod

TIMEOUT = 10  # seconds: a task that failed should say so soon
LONG_AGO = datetime.min.replace(tzinfo=UTC)


def gather(api: CoreV1Api, namespace: str, pod: V1Pod | None, name: str, known: Evidence) -> Evidence:
    """Add to what is known the events about the pod of this name, and, when no node took it, the nodes.

    What the API server does not tell, because it may not or is away, stays unknown.
    """
    events: list[tuple[str, str]] = []
    nodes = None
    with suppress(Exception):
        found = api.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}", _request_timeout=TIMEOUT)
        events = [(item.reason or "", item.message or "") for item in sorted(found.items, key=_moment)]
    if pod is not None and pod.spec is not None and not pod.spec.node_name:
        with suppress(Exception):
            nodes = [Node(item.metadata.name, item.status.allocatable or {}, item.metadata.labels or {})
                     for item in api.list_node(_request_timeout=TIMEOUT).items]
    return replace(known, events=events, nodes=nodes)


def _moment(event: Any) -> datetime:
    moment: datetime = event.last_timestamp or event.event_time or event.metadata.creation_timestamp or LONG_AGO
    return moment
