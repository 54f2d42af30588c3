"""Steps as pods: the operator waits in the triggerer, holding no worker slot, and reads the result from the store."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger

from airgate import settings
from airgate.contracts import calls
from airgate.contracts.step import StepCall, StepFailure
from airgate.errors import WiringError
from airgate.runtime import pod_evidence, pod_failures, pod_launch, pod_memory, pod_placement, pod_spec
from airgate.runtime.operator import StepTask, outlets_of
from airgate.runtime.plan import StepPlan
from airgate.runtime.pod_logs import LogTail
from airgate.runtime.pod_patience import PatientHook, PatientPodManager, is_lost
from airgate.runtime.pod_status import ended_state, image_of, receipt_of
from airgate.runtime.pod_trigger import LOG_POSITION, RECEIPT, PodStepTrigger
from airgate.signatures import keys

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import models as k8s

CALL = "airgate_call"
# A full quota is looked at again after so many poll intervals.
QUOTA_POLLS = 10
GONE_SECONDS = 60  # how long a pod of this try's name that is being deleted is waited for
# What an author may say about the pod beyond `model.yaml`. The rest would be a way around its security context.
OPEN_TO_AUTHORS = frozenset({
    "startup_timeout_seconds", "schedule_timeout_seconds", "active_deadline_seconds", "priority_class_name", "affinity",
    "poll_interval", "logging_interval", "deferrable", "image_pull_policy", "kubernetes_conn_id",
    "log_events_on_failure",
})


class PodStepOperator(StepTask, KubernetesPodOperator):
    """Carry out a StepPlan in a pod. Deferrable unless told otherwise.

    A try has one pod; a step whose earlier try left one that still answers the same question waits for that
    (airgate.runtime.pod_launch). While the namespace's quota is full it waits, and so it does while the API server is away.

    Raises WiringError when made with a pod argument that only the platform sets, or an affinity beside `gpu_memory`.
    """

    runtime = "kubernetes"
    template_fields: Sequence[str] = (*StepTask.template_fields, *KubernetesPodOperator.template_fields)

    # Named here, not taken from kwargs, so that a DAG's default_args win over these defaults. A node that has to be made
    # first, and a large image on it, take minutes.
    def __init__(self, *, plan: StepPlan, retries: int = 1, retry_delay: timedelta = timedelta(seconds=30),
                 deferrable: bool = True, execution_timeout: timedelta | None = None, schedule_timeout_seconds: int = 900,
                 startup_timeout_seconds: int = 600, item: Any = None, **kwargs: Any) -> None:
        _refuse_pod_arguments(kwargs)
        if execution_timeout is not None:
            # A pod whose worker and triggerer are both gone ends by itself.
            kwargs.setdefault("active_deadline_seconds", int(execution_timeout.total_seconds()))
        super().__init__(
            retries=retries, retry_delay=retry_delay, deferrable=deferrable, execution_timeout=execution_timeout,
            schedule_timeout_seconds=schedule_timeout_seconds, startup_timeout_seconds=startup_timeout_seconds,
            cmds=["python", "-m", "airgate.steps.runner"],
            do_xcom_push=False,  # no sidecar: docs/adr/0002-step-results-through-the-artifact-store.md
            durable=False, random_name_suffix=False,  # which pod is whose is decided in pod_launch
            on_finish_action="delete_pod", log_pod_spec_on_failure=False, container_name_log_prefix_enabled=False,
            outlets=outlets_of(plan, kwargs),
            **pod_spec.operator_arguments(plan.resources, settings.load()),
            **kwargs,
        )
        pod_placement.refuse_affinity(self.task_id, plan.resources, self.affinity)
        self.hold(plan, item)
        self.name = pod_spec.pod_name(self.dag_id, self.task_id)
        self.labels = pod_spec.labels(plan, self.dag_id, self.task_id)
        self.concluded: dict[str, Any] | None = None
        self.receipt: str | None = None

    @cached_property
    def hook(self) -> PatientHook:
        """Airflow's way to the cluster; it waits while the API server is away."""
        return PatientHook(conn_id=self.kubernetes_conn_id, in_cluster=self.in_cluster, config_file=self.config_file,
                           cluster_context=self.cluster_context)

    @cached_property
    def pod_manager(self) -> PatientPodManager:
        """Airflow's reader of pods; it waits likewise."""
        return PatientPodManager(kube_client=self.client, callbacks=self.callbacks)

    def step_image(self) -> str:
        """The image that the pod asks for."""
        return str(self.image)

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Write the call, start the pod and wait for it: here, or in the triggerer."""
        with self.accounted(context):
            self._settle_memory(context)
            call = self.ask(context)
            self.pod = self.take_over(context, call)
            if self.pod is None:
                self.launch(context, calls.write_call(call))
            return self._wait(context)

    def take_over(self, context: Context, call: StepCall) -> k8s.V1Pod | None:
        """Give the pod that this task already has, if its result will do; remove the others, which may write nothing then."""
        mine = pod_launch.Try.of(context["ti"])
        found = pod_launch.patiently(lambda: self.client.list_namespaced_pod(self.namespace, label_selector=mine.selector()))
        pod, others = pod_launch.choose(mine, call, found.items)
        for other in others:
            self.log.warning("removing pod %s of an earlier try (%s)", other.metadata.name, other.status.phase)
            self.pod_manager.delete_pod(other)
        if pod is not None:
            self._adopt(pod)
        return pod

    def launch(self, context: Context, call_url: str) -> None:
        """Make this try's pod for the call. Waits while the quota is full; in the triggerer, when deferrable."""
        mine = pod_launch.Try.of(context["ti"])
        self.name, self.arguments = mine.pod_name, [call_url]
        self.annotations = {pod_spec.CALL_ANNOTATION: call_url, pod_launch.TASK_ANNOTATION: mine.annotation()}
        # Here, not when the DAG is parsed: only a worker needs to be able to read the keys.
        self.env_vars: list[Any] = [*self.env_vars, *pod_spec.variables(keys.for_steps(settings.load()))]
        self.pod_request_obj = request = self.build_pod_request_obj(context)
        gone_by = time.monotonic() + GONE_SECONDS
        while True:
            self.pod = request  # before it is made, so that on_kill removes what is made meanwhile
            try:
                self.pod = pod_launch.patiently(lambda: self.client.create_namespaced_pod(self.namespace, request))
                return
            except Exception as error:  # noqa: BLE001  of the client: refused, or not reached; what it is comes out below
                status, full = getattr(error, "status", None), pod_launch.quota_full(error)
                if status == 409 and time.monotonic() < gone_by:
                    if self._meets_its_like():
                        return
                elif full is not None and not full.hopeless:
                    self._await_quota(context, call_url, full)
                else:
                    failure, self.pod = self._failure(error, None), None
                    raise self.refusal(context, failure) from None

    def launch_again(self, context: Context, event: Any, call_url: str) -> dict[str, Any] | None:
        """Come back from waiting for the quota."""
        with self.accounted(context):
            self._settle_memory(context)
            self.launch(context, call_url)
            return self._wait(context)

    def defer(self, *, trigger: Any, **kwargs: Any) -> Any:
        """Defer as Airflow does, to our own trigger for pods."""
        if type(trigger) is KubernetesPodTrigger:
            trigger = PodStepTrigger(**trigger.serialize()[1])
        return super().defer(trigger=trigger, **kwargs)

    def find_pod(self, namespace: str, context: Context, *, exclude_checked: bool = True) -> k8s.V1Pod | None:
        """The pod that is waited for: by its name, since there is no other."""
        return self._read(pod_launch.named(self.pod)) if self.pod is not None else None

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Come back from the triggerer; a trigger that broke or timed out is put on record too."""
        with self.accounted(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The pod is over: let Airflow log and delete it, then account for the step."""
        self._settle_memory(context)
        self.trigger_kwargs = {key: event[key] for key in (CALL, LOG_POSITION) if key in event}
        self.receipt = event.get(RECEIPT)
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

    def await_pod_completion(self, pod: k8s.V1Pod) -> None:
        """Wait here, with the step's lines in the task's log as they come. Asking anew survives what cuts a stream."""
        tail = LogTail()
        while True:
            now = self.pod_manager.read_pod(pod)
            with suppress(Exception):  # no log yet, or no longer; the next time gives what was missed
                self._write_lines(pod, tail)
            if now.status.phase in pod_launch.OVER or is_lost(now):
                self.receipt = receipt_of(now, self.base_container_name)
                return
            time.sleep(self.poll_interval)

    def post_complete_action(self, *, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, **kwargs: Any) -> None:
        """Look at the pod once more before Airflow deletes it: why one did not start stands nowhere else."""
        self.remote_pod = self._read(pod_launch.named(pod)) if pod is not None else None
        super().post_complete_action(pod=pod, remote_pod=self.remote_pod, **kwargs)

    def conclude(self, context: Context, call_url: str, pod: k8s.V1Pod | None,
                 error: Exception | None) -> dict[str, Any]:
        """Settle, and let Airflow keep the value in XCom: it was told not to, so that the pod got no sidecar."""
        state = ended_state(pod, self.base_container_name)
        self.ran_image = image_of(pod, self.base_container_name, self.step_image())
        ended = f"exit code {state.exit_code}" if state else "pod not seen to end"
        failure = self._failure(error, pod) if error is not None else None
        self.concluded = self.settle(context, call_url, receipt_of(pod, self.base_container_name) or self.receipt, failure, ended)
        self.do_xcom_push = True
        return self.concluded

    def _wait(self, context: Context) -> dict[str, Any] | None:
        call_url = pod_launch.call_of(self.pod) or ""
        self.trigger_kwargs = {CALL: call_url}
        if self.deferrable:
            super().execute(context)  # ends here only when the pod was over before it could be waited for
            return self.concluded
        error = None
        try:
            super().execute(context)
        except Exception as caught:  # noqa: BLE001  conclude() puts it on record and raises it
            error = caught
        return self.conclude(context, call_url, self.remote_pod, error)

    def _adopt(self, pod: k8s.V1Pod) -> None:
        self.log.info("taking over pod %s (%s), which does this work already", pod.metadata.name, pod.status.phase)
        calls.let_write(pod_launch.call_of(pod) or "")
        self.pod = self.pod_request_obj = pod

    def _meets_its_like(self) -> bool:
        """Whether a pod of this name is there to be taken over: the same try was launched twice, or an answer was lost."""
        there = self._read(pod_launch.named(self.pod))
        if there is not None and not there.metadata.deletion_timestamp and pod_launch.call_of(there):
            self._adopt(there)
            return True
        time.sleep(self.poll_interval)  # it is being deleted, or the quota's own record was written by two at once
        return False

    def _await_quota(self, context: Context, call_url: str, full: pod_launch.QuotaFull) -> None:
        self.pod = None
        pause = timedelta(seconds=self.poll_interval * QUOTA_POLLS)
        self.log.info("waiting %s: %s", pause, full.message)
        if not self.deferrable:
            time.sleep(pause.total_seconds())  # Airflow ends the wait after execution_timeout
            return
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        left = None
        if self.execution_timeout is not None:
            left = max(timedelta(0), context["ti"].start_date + self.execution_timeout - datetime.now(UTC)) + pause
        self.defer(trigger=TimeDeltaTrigger(pause), method_name="launch_again", kwargs={"call_url": call_url}, timeout=left)

    def _settle_memory(self, context: Context) -> None:
        """Give the step more memory than model.yaml says, if earlier tries were killed for want of it and it may have more."""
        if self.plan.resources.memory_cap is None:
            return
        resources = pod_memory.grown(self.plan.resources, pod_memory.kills(context["ti"]))
        self.plan = replace(self.plan, resources=resources)
        self.container_resources = pod_spec.container_resources(resources)

    def _failure(self, error: Exception, pod: k8s.V1Pod | None) -> StepFailure:
        evidence = pod_evidence.gather(self.client, self.namespace, pod, pod_launch.named(pod or self.pod), pod_failures.Evidence(
            pod=pod, container=self.base_container_name, resources=self.plan.resources, image=self.step_image(), error=error))
        return pod_failures.explain(evidence)

    def _read(self, name: str) -> k8s.V1Pod | None:
        try:
            return self.hook.get_pod(name, self.namespace)
        except Exception as error:
            if getattr(error, "status", None) == 404:
                return None
            raise

    def _write_logs(self, pod: k8s.V1Pod, follow: bool = False, since_time: Any = None) -> None:
        """What the triggerer has not written of the log. Never waits for more: a pod that timed out may print for ever."""
        self._write_lines(pod, LogTail((self.trigger_kwargs or {}).get(LOG_POSITION)))

    def _write_lines(self, pod: k8s.V1Pod, tail: LogTail) -> None:
        lines = self.client.read_namespaced_pod_log(
            name=pod.metadata.name, namespace=pod.metadata.namespace, container=self.base_container_name, timestamps=True,
            since_seconds=tail.since_seconds(), _preload_content=False)
        for line in tail.new(raw.decode("utf-8", "replace") for raw in lines):
            self.log.info("%s", line)


def _refuse_pod_arguments(kwargs: Mapping[str, Any]) -> None:
    platform = set(inspect.signature(KubernetesPodOperator.__init__).parameters) - OPEN_TO_AUTHORS - {"self", "kwargs"}
    given = sorted(platform & (set(kwargs) | set(kwargs.get("default_args") or {})))
    if given:
        raise WiringError(
            f"step '{kwargs.get('task_id', '?')}': {', '.join(given)} of a step's pod is the platform's to set. "
            "Resources, image and node selector stand in model.yaml; besides those a DAG may give: "
            f"{', '.join(sorted(OPEN_TO_AUTHORS))}. Take out the rest.")
