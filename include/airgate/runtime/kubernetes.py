"""Steps as pods: the operator waits in the triggerer, holding no worker slot, and reads the result from the store."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from airgate import settings
from airgate.contracts.step import StepFailure
from airgate.errors import WiringError
from airgate.redaction import HIDDEN, LineRedactor
from airgate.runtime import pod_spec
from airgate.runtime.operator import EX_DATAERR, StepTask, outlets_of
from airgate.runtime.plan import StepPlan
from airgate.signatures import keys

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import models as k8s

CALL = "airgate_call"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")
# What an author may say about the pod beyond `model.yaml`. The rest would be a way around its security context.
OPEN_TO_AUTHORS = frozenset({
    "startup_timeout_seconds", "schedule_timeout_seconds", "active_deadline_seconds", "priority_class_name", "affinity",
    "poll_interval", "logging_interval", "deferrable", "image_pull_policy", "kubernetes_conn_id",
    "log_events_on_failure",
})


class PodStepOperator(StepTask, KubernetesPodOperator):
    """Carry out a StepPlan in a pod. Deferrable unless told otherwise.

    Raises WiringError when made with a pod argument that only the platform sets.
    """

    runtime = "kubernetes"
    template_fields: Sequence[str] = (*StepTask.template_fields, *KubernetesPodOperator.template_fields)

    # Named here, not taken from kwargs, so that a DAG's default_args win over these defaults.
    def __init__(self, *, plan: StepPlan, retries: int = 1, retry_delay: timedelta = timedelta(seconds=30),
                 deferrable: bool = True, execution_timeout: timedelta | None = None, item: Any = None,
                 **kwargs: Any) -> None:
        _refuse_pod_arguments(kwargs)
        if execution_timeout is not None:
            # A pod whose worker and triggerer are both gone ends by itself.
            kwargs.setdefault("active_deadline_seconds", int(execution_timeout.total_seconds()))
        super().__init__(
            retries=retries, retry_delay=retry_delay, deferrable=deferrable, execution_timeout=execution_timeout,
            cmds=["python", "-m", "airgate.steps.runner"],
            do_xcom_push=False,  # no sidecar: docs/adr/0002-step-results-through-the-artifact-store.md
            on_finish_action="delete_pod", log_pod_spec_on_failure=False, container_name_log_prefix_enabled=False,
            log_formatter=shown_lines(),
            outlets=outlets_of(plan, kwargs),
            **pod_spec.operator_arguments(plan.resources, settings.load()),
            **kwargs,
        )
        self.hold(plan, item)
        self.name = pod_spec.pod_name(self.dag_id, self.task_id)
        self.labels = pod_spec.labels(plan, self.dag_id, self.task_id)
        self.concluded: dict[str, Any] | None = None

    def step_image(self) -> str:
        """The image that the pod asks for."""
        return str(self.image)

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Write the call, start the pod and wait for it: here, or in the triggerer."""
        with self.accounted(context):
            call_url = self.begin(context)
            self.arguments = [call_url]
            self.annotations = {pod_spec.CALL_ANNOTATION: call_url}
            # Here, not when the DAG is parsed: only a worker needs to be able to read the keys.
            self.env_vars: list[Any] = [*self.env_vars, *pod_spec.variables(keys.for_steps(settings.load()))]
            if self.deferrable:
                super().execute(context)  # ends here only when the pod was over before it could be waited for
                return self.concluded
            error = None
            try:
                super().execute(context)
            except Exception as caught:  # noqa: BLE001  conclude() puts it on record and raises it
                error = caught
            started_for = (self.trigger_kwargs or {}).get(CALL, call_url)
            return self.conclude(context, started_for, self.remote_pod or self.pod, error)

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        """Start the pod, or adopt the one that a killed worker left: its result lies beside the call of that try."""
        pod = super().get_or_create_pod(pod_request_obj, context)
        annotations = pod.metadata.annotations or {}
        self.trigger_kwargs = {CALL: annotations.get(pod_spec.CALL_ANNOTATION, self.arguments[0])}
        return pod

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Come back from the triggerer; a trigger that broke or timed out is put on record too."""
        with self.accounted(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The pod is over: let Airflow log and delete it, then account for the step."""
        error = None
        try:
            super().trigger_reentry(context, event)
        except Exception as caught:  # noqa: BLE001  conclude() puts it on record and raises it
            error = caught
        return self.conclude(context, event[CALL], self.pod, error)

    def on_kill(self) -> None:
        """Let Airflow delete the pod: the task was marked or cleared, or its worker goes down."""
        self.stopped = True
        super().on_kill()

    def conclude(self, context: Context, call_url: str, pod: k8s.V1Pod | None,
                 error: Exception | None) -> dict[str, Any]:
        """Settle, and let Airflow keep the value in XCom: it was told not to, so that the pod got no sidecar."""
        state = ended_state(pod, self.base_container_name)
        self.ran_image = image_of(pod, self.base_container_name, self.step_image())
        ended = f"exit code {state.exit_code}" if state else "pod not seen to end"
        failure = pod_failure(state, error) if error is not None else None
        self.concluded = self.settle(context, call_url, failure, ended)
        self.do_xcom_push = True
        return self.concluded


def shown_lines() -> Callable[[str, str], str]:
    """Make what turns a container's lines into those of the task's log: what looks like a credential becomes ***."""
    redact = LineRedactor()
    return lambda container, line: redact(line) or HIDDEN * (line != "")


def ended_state(pod: k8s.V1Pod | None, container: str) -> k8s.V1ContainerStateTerminated | None:
    """How the pod's container ended; None while it runs, or when Kubernetes does not say."""
    status = _status(pod, container)
    return status.state.terminated if status is not None and status.state else None


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


def pod_failure(ended: k8s.V1ContainerStateTerminated | None, error: Exception) -> StepFailure:
    """Say in plain words why a pod failed: from how its container ended, else from what Airflow or Kubernetes says."""
    if ended is None:
        status = getattr(error, "status", None)  # the Kubernetes client's own error prints all headers
        text = f"the Kubernetes API answered {status} {getattr(error, 'reason', '')}" if status else str(error)
        return StepFailure(
            error=type(error).__name__, message=f"the step's pod did not run to its end: {text}", retryable=True)
    if ended.reason == "OOMKilled":
        return StepFailure(error="OOMKilled", retryable=True, message=(
            "the step's pod was killed: it used more memory than its limit. Raise this step's `memory` in model.yaml."))
    why = f" ({ended.reason})" if ended.reason and ended.reason != "Error" else ""
    return StepFailure(error="PodFailed", message=f"the step's pod ended with exit code {ended.exit_code}{why}",
                       retryable=ended.exit_code != EX_DATAERR)


def _refuse_pod_arguments(kwargs: Mapping[str, Any]) -> None:
    platform = set(inspect.signature(KubernetesPodOperator.__init__).parameters) - OPEN_TO_AUTHORS - {"self", "kwargs"}
    given = sorted(platform & (set(kwargs) | set(kwargs.get("default_args") or {})))
    if given:
        raise WiringError(
            f"step '{kwargs.get('task_id', '?')}': {', '.join(given)} of a step's pod is the platform's to set. "
            "Resources, image and node selector stand in model.yaml; besides those a DAG may give: "
            f"{', '.join(sorted(OPEN_TO_AUTHORS))}. Take out the rest.")
