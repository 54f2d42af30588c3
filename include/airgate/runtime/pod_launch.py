"""One pod a task try: its name, which pod that is already there is taken over, and what is done when it cannot be made yet.

A pod is named by its task try, and the API server holds no two pods of one name: whoever launches a try again finds the first
one's pod. See https://kubernetes.io/docs/concepts/overview/working-with-objects/names/.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tenacity

from airgate.contracts import calls
from airgate.contracts.step import StepCall
from airgate.errors import AirgateError
from airgate.runtime.pod_failures import said_by_api
from airgate.runtime.pod_spec import CALL_ANNOTATION, CONTAINER, label, pod_name
from airgate.runtime.pod_status import receipt_of

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

TASK_ANNOTATION = "airgate.io/task-try"
MANAGED = "app.kubernetes.io/managed-by=airgate"
# An API server that restarts, or whose machine does, is back in minutes.
PATIENCE_SECONDS = 300
AWAY = frozenset({429, 500, 502, 503, 504})
OVER = ("Succeeded", "Failed")
HASH = 10
QUOTA = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.+), used: (?P<used>.+), limited: (?P<limited>.+)")


@dataclass(frozen=True)
class Try:
    """A task try, as its pod's name and annotation say it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int

    @classmethod
    def of(cls, ti: Any) -> Try:
        """The try of a task instance."""
        return cls(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index, ti.try_number)

    @property
    def pod_name(self) -> str:
        """A DNS label that is this try's alone: readable at the front, ten hex digits of a SHA-256 at the end."""
        ids = json.dumps([self.dag_id, self.run_id, self.task_id, self.map_index, self.try_number])
        digest = hashlib.sha256(ids.encode()).hexdigest()[:HASH]
        return f"{pod_name(self.dag_id, self.task_id)[:62 - HASH].rstrip('-')}-{digest}"

    def annotation(self) -> str:
        """What the pod says it is for; labels are too short for it."""
        return json.dumps(self.__dict__, sort_keys=True)

    @classmethod
    def on(cls, pod: k8s.V1Pod) -> Try | None:
        """The try that a pod was made for; None when it does not say."""
        try:
            return cls(**json.loads((pod.metadata.annotations or {})[TASK_ANNOTATION]))
        except (KeyError, TypeError, ValueError):
            return None

    def selector(self) -> str:
        """Finds the pods of all tries of this task instance, and perhaps a few of others, which `on` tells apart."""
        return f"{MANAGED},airgate.io/dag={label(self.dag_id)},airgate.io/task={label(self.task_id)}"

    def same_task(self, other: Try | None) -> bool:
        """Whether another try is of the same task instance."""
        return other is not None and {**self.__dict__, "try_number": 0} == {**other.__dict__, "try_number": 0}


def call_of(pod: k8s.V1Pod) -> str | None:
    """URL of the call that the pod carries out."""
    url: str | None = (pod.metadata.annotations or {}).get(CALL_ANNOTATION)
    return url


def choose(mine: Try, call: StepCall, pods: Sequence[k8s.V1Pod]) -> tuple[k8s.V1Pod | None, list[k8s.V1Pod]]:
    """Of the pods of this task instance: which one to take over, if any, and which to remove.

    Taken over is the pod of this very try, whatever became of it, and the pod of an earlier try that was asked the same and
    runs still or left a good result. A pod that is being deleted is neither.
    """
    ours = [pod for pod in pods if mine.same_task(Try.on(pod)) and not pod.metadata.deletion_timestamp]
    ours.sort(key=lambda pod: Try.on(pod).try_number, reverse=True)  # type: ignore[union-attr]  # same_task saw it
    taken = next((pod for pod in ours if _fits(mine, call, pod)), None)
    return taken, [pod for pod in ours if pod is not taken]


def _fits(mine: Try, call: StepCall, pod: k8s.V1Pod) -> bool:
    url = call_of(pod)
    if url is None:
        return False
    if Try.on(pod) == mine:
        return True
    if pod.status.phase not in ("Pending", "Running", "Succeeded"):
        return False
    try:
        result = calls.read_result(url, receipt_of(pod, CONTAINER))
        return question(calls.read_call(url)) == question(call) and (
            result.failure is None if result is not None else pod.status.phase != "Succeeded")
    except AirgateError:  # a call that cannot be read is not the same
        return False


def question(call: StepCall) -> dict[str, Any]:
    """What is asked, apart from which try asks."""
    asked = call.model_dump(mode="json")
    asked["run"].pop("try_number")
    return asked


@dataclass(frozen=True)
class QuotaFull:
    """A pod was refused because the namespace's quota is used up."""

    message: str
    hopeless: bool  # it asks for more than the whole quota


def quota_full(error: Any) -> QuotaFull | None:
    """Read a refusal of a ResourceQuota, None when the error is another.

    See https://kubernetes.io/docs/concepts/policy/resource-quotas/: the API server answers 403 with this text.
    """
    if getattr(error, "status", None) != 403:
        return None
    said = said_by_api(error)
    found = QUOTA.search(said)
    if found is None:
        return None
    asked, limits = _amounts(found["requested"]), _amounts(found["limited"])
    over = [name for name, amount in asked.items() if name in limits and amount > limits[name]]
    return QuotaFull(f"quota '{found['quota']}' is used up: the step asks for {found['requested']}; in use are "
                     f"{found['used']} of {found['limited']}", hopeless=bool(over))


def _amounts(text: str) -> dict[str, Any]:
    from kubernetes.utils import parse_quantity

    return {name: parse_quantity(amount) for name, amount in (part.split("=", 1) for part in text.split(","))}


def api_is_away(error: BaseException) -> bool:
    """Whether the API server could not be reached or cannot serve at the moment."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes_asyncio.client.exceptions import ApiException as AsyncApiException

    if isinstance(error, ApiException | AsyncApiException):
        return error.status in AWAY
    import aiohttp
    from urllib3.exceptions import HTTPError

    return isinstance(error, HTTPError | aiohttp.ClientConnectionError | TimeoutError)


def patience(seconds: float = PATIENCE_SECONDS) -> Any:
    """Decorate what asks the API server, so that it asks again while that is away, for so long at most."""
    return tenacity.retry(retry=tenacity.retry_if_exception(api_is_away), stop=tenacity.stop_after_delay(seconds),
                          wait=tenacity.wait_exponential(multiplier=0.2, max=5), reraise=True)


def patiently(ask: Callable[[], Any]) -> Any:
    """Ask the API server with patience. Raises what it says, when waiting does not help."""
    return patience()(ask)()


def named(pod: k8s.V1Pod | None) -> str:
    """The pod's name, or nothing."""
    return str(pod.metadata.name) if pod is not None else ""
