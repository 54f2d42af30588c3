"""Why a pod failed, in words that say what to do, and whether another try can help. Pure: it reads what Kubernetes said.

Kubernetes' own words: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ (container states, pod conditions),
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/ (evictions).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgate.contracts.resources import Resources
from airgate.contracts.step import StepFailure
from airgate.runtime.operator import EX_DATAERR
from airgate.runtime.pod_memory import grown
from airgate.runtime.pod_shortage import Node, shortage

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

# The image does not become right by itself; what a registry says when it is busy or down is not among these.
NO_SUCH_IMAGE = re.compile(r"not found|manifest unknown|does not exist|no such|invalid reference|denied|"
                           r"unauthorized|authentication required|no basic auth", re.IGNORECASE)
PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
NOT_MADE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun")
NODE_GONE = ("NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity")
# What the taint manager, the pod collector and newer releases' DisruptionTarget call it.
TAKEN_WITH_NODE = ("TaintManagerEviction", "NodeNotReady", "DeletionByTaintManager", "DeletionByPodGC", "NodeControllerEviction")


@dataclass(frozen=True)
class Evidence:
    """What Kubernetes says of a pod that failed. `pod` is None when it is gone, `nodes` when the role may not list them."""

    pod: k8s.V1Pod | None
    container: str
    resources: Resources
    image: str
    events: Sequence[tuple[str, str]] = ()  # reason and message, oldest first
    nodes: Sequence[Node] | None = None
    error: Exception | None = field(default=None, compare=False)  # what Airflow or the client raised

    @property
    def status(self) -> Any:
        """The pod's status, None when there is none."""
        return self.pod.status if self.pod is not None else None

    @property
    def state(self) -> k8s.V1ContainerState | None:
        """The step's container's state, None before it has one."""
        statuses = (self.status.container_statuses if self.status else None) or []
        return next((one.state for one in statuses if one.name == self.container), None)

    def event(self, *reasons: str) -> str | None:
        """The newest event with one of these reasons."""
        return next((message or reason for reason, message in reversed(self.events) if reason in reasons), None)

    def disrupted(self) -> tuple[str, str] | None:
        """Reason and message of the condition DisruptionTarget (Kubernetes 1.26 and later)."""
        conditions = (self.status.conditions if self.status else None) or []
        found = (c for c in conditions if c.type == "DisruptionTarget" and c.status == "True")
        return next(((c.reason or "", c.message or "") for c in found), None)


def explain(evidence: Evidence) -> StepFailure:
    """Say why the pod failed. The first rule that knows something speaks; the step's own words, where it left any, go first."""
    return next(found for found in (rule(evidence) for rule in RULES) if found is not None)


def _deadline(evidence: Evidence) -> StepFailure | None:
    if evidence.status is None or evidence.status.reason != "DeadlineExceeded":
        return None
    return StepFailure(error="Timeout", retryable=True, message=(
        "the step's pod was stopped: it ran longer than its execution_timeout or active_deadline_seconds. Give the task more "
        "time, or the step more cpu in model.yaml."))


def _preempted(evidence: Evidence) -> StepFailure | None:
    disrupted, reason = evidence.disrupted(), evidence.status.reason if evidence.status else None
    said = evidence.event("Preempted", "Preempting")
    if not said and reason != "Preempting" and (disrupted is None or disrupted[0] != "PreemptionByScheduler"):
        return None
    return StepFailure(error="Preempted", retryable=True, message=(
        f"the step's pod was preempted: a pod of higher priority needed its place ({said or (disrupted and disrupted[1])}). "
        "It is tried again; a `priority_class` in model.yaml keeps it from happening."))


def _node_lost(evidence: Evidence) -> StepFailure | None:
    disrupted, status = evidence.disrupted(), evidence.status
    said = evidence.event(*TAKEN_WITH_NODE)
    gone = status is not None and (status.reason in NODE_GONE or status.phase == "Unknown")
    if not gone and not said and (disrupted is None or disrupted[0] not in TAKEN_WITH_NODE):
        return None
    node = (evidence.pod.spec.node_name if evidence.pod is not None and evidence.pod.spec else None) or "?"
    return StepFailure(error="NodeLost", retryable=True, message=(
        f"the step's pod was lost with its node '{node}' ({(status and status.message) or said or 'it answers no more'}). "
        "It is tried again; what the lost pod may still do changes nothing."))


def _evicted(evidence: Evidence) -> StepFailure | None:
    if evidence.status is None or evidence.status.reason != "Evicted":
        return None
    why = str(evidence.status.message or "no reason was given").strip()
    own = re.search(r"exceed", why, re.IGNORECASE) is not None and "node was low" not in why
    what = ("It used more disk than it may: write less to the scratch folder (TMPDIR)." if own else
            "The node ran short; that was not the step's fault, and it is tried again.")
    return StepFailure(error="Evicted", message=f"the step's pod was evicted: {why} {what}", retryable=not own)


def _out_of_memory(evidence: Evidence) -> StepFailure | None:
    ended = evidence.state.terminated if evidence.state else None
    if ended is None or ended.reason != "OOMKilled":
        return None
    has, more = evidence.resources, grown(evidence.resources, 1)
    killed = f"the step's pod was killed: it used more memory than its limit of {has.memory}."
    if more.memory != has.memory:
        return StepFailure(error="OOMKilled", retryable=True, message=(
            f"{killed} The next try gets {more.memory} (`memory_cap` in model.yaml is {has.memory_cap})."))
    how = (f"It has reached its `memory_cap` of {has.memory_cap}; raise that" if has.memory_cap else
           "Raise this step's `memory`, or let it grow from try to try up to a `memory_cap`,")
    return StepFailure(error="OOMKilled", retryable=False, message=(
        f"{killed} The same again would end the same way, so it is not tried again. {how} in model.yaml."))


def _no_image(evidence: Evidence) -> StepFailure | None:
    waiting = evidence.state.waiting if evidence.state else None
    if waiting is None or waiting.reason not in PULLING:
        return None
    # The later state says only that it waits; what the registry said is in the event.
    said = " ".join(filter(None, [waiting.message, evidence.event("Failed", "ErrImageNeverPull", "InspectFailed")]))
    final = waiting.reason in ("InvalidImageName", "ErrImageNeverPull") or NO_SUCH_IMAGE.search(said) is not None
    named = "this step's `image` in model.yaml" if evidence.resources.image else "AIRGATE_STEPS_IMAGE"
    do = "Push it, or name one that is there" if final else "The registry may be busy or down"
    return StepFailure(error="ImageMissing", retryable=not final, message=(
        f"the step's image '{evidence.image}', from {named}, cannot be pulled ({waiting.reason}): "
        f"{said or 'no reason was given'}. {do}."))


def _not_made(evidence: Evidence) -> StepFailure | None:
    state = evidence.state
    for part in (state.waiting, state.terminated) if state else ():
        if part is not None and part.reason in NOT_MADE:
            return StepFailure(error="ContainerNotStarted", retryable=False, message=(
                f"the step's container could not be started ({part.reason}): {part.message or 'no reason was given'}. Is every "
                "Secret there that AIRGATE_STEPS_SECRET names, and is the image one of Airgate's steps images?"))
    return None


def _unschedulable(evidence: Evidence) -> StepFailure | None:
    conditions = (evidence.status.conditions if evidence.status else None) or []
    found = next((c for c in conditions if c.type == "PodScheduled" and c.status == "False"), None)
    if found is None or evidence.status.phase != "Pending":
        return None
    said = found.message or evidence.event("FailedScheduling") or "no reason was given"
    return StepFailure(error="Unschedulable", retryable=True, message=(
        f"no node took the step's pod in time: {said} {shortage(evidence.resources, said, evidence.nodes)}"))


def _not_admitted(evidence: Evidence) -> StepFailure | None:
    status = getattr(evidence.error, "status", None)
    if status not in (400, 403, 422):
        return None
    return StepFailure(error="PodRefused", retryable=False, message=(
        f"Kubernetes refused the step's pod ({status} {getattr(evidence.error, 'reason', '')}): {said_by_api(evidence.error)} "
        "The same pod would be refused again. Does Airflow's role allow pods in this namespace, and what does its quota or "
        "limit range say?"))


def _no_answer(evidence: Evidence) -> StepFailure | None:
    status = getattr(evidence.error, "status", None)  # the client's own text prints all headers
    if not status or status == 404:
        return None
    return StepFailure(error="KubernetesApiError", retryable=True, message=(
        f"the step's pod did not run to its end: the Kubernetes API answered {status} {getattr(evidence.error, 'reason', '')}: "
        f"{said_by_api(evidence.error)}"))


def _exit(evidence: Evidence) -> StepFailure | None:
    ended = evidence.state.terminated if evidence.state else None
    if ended is None or (evidence.error is None and ended.exit_code == 0):
        return None
    why = f" ({ended.reason})" if ended.reason and ended.reason not in ("Error", "Completed") else ""
    signal = {137: ", killed (SIGKILL)", 143: ", told to stop (SIGTERM): was the pod deleted?"}.get(ended.exit_code, "")
    return StepFailure(error="PodFailed", message=f"the step's pod ended with exit code {ended.exit_code}{why}{signal}",
                       retryable=ended.exit_code != EX_DATAERR)


def _gone(evidence: Evidence) -> StepFailure | None:
    # A kubelet may take the container away before it has said how it ended.
    there = evidence.pod is not None and not evidence.pod.metadata.deletion_timestamp
    if there or evidence.error is None:
        return None
    killed = evidence.event("Killing", "Evicted")
    return StepFailure(error="PodDeleted", retryable=True, message=(
        "the step's pod did not run to its end: it was deleted, by a person or by the cluster"
        f"{f' ({killed})' if killed else ''}. It is tried again."))


def _unknown(evidence: Evidence) -> StepFailure:
    """What nobody has a rule for: what Airflow says."""
    error = evidence.error
    text = str(error).strip() or type(error).__name__
    return StepFailure(error=type(error).__name__ if error else "PodFailed", retryable=True,
                       message=f"the step's pod did not run to its end: {text}")


RULES: tuple[Callable[[Evidence], StepFailure | None], ...] = (
    _deadline, _preempted, _node_lost, _evicted, _out_of_memory, _no_image, _not_made, _unschedulable, _not_admitted, _no_answer,
    _exit, _gone, _unknown)


def said_by_api(error: Any) -> str:
    """The message in an API server's answer; not its headers."""
    try:
        return str(json.loads(error.body)["message"])
    except (AttributeError, TypeError, ValueError, KeyError):
        return str(getattr(error, "reason", "") or error)
