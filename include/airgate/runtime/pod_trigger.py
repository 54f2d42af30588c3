"""Waiting for a pod in the triggerer: the step's lines reach the task's log as they come; the API server may be away a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import ContainerState, KubernetesPodTrigger
from airflow.triggers.base import TriggerEvent

from airgate.runtime.pod_logs import LogTail
from airgate.runtime.pod_patience import PatientAsyncHook, is_lost
from airgate.runtime.pod_status import receipt_of

LOG_POSITION = "airgate_log"
RECEIPT = "airgate_receipt"
LOG_SECONDS = 5.0


class PodStepTrigger(KubernetesPodTrigger):
    """Airflow's trigger, with a patient hook, and with the step's lines in the task's log while it runs."""

    receipt: str | None = None  # seen when the pod ended; the pod may be gone when the worker looks

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path of this class, and the arguments to make it anew."""
        return f"{type(self).__module__}.{type(self).__qualname__}", super().serialize()[1]

    @cached_property
    def hook(self) -> PatientAsyncHook:
        """As Airflow's own, but patient."""
        return PatientAsyncHook(
            conn_id=self.kubernetes_conn_id, in_cluster=self.in_cluster, config_dict=self.config_dict,
            cluster_context=self.cluster_context, connection_extras=self.connection_extras)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Give one event when the pod is over; in it, its receipt, and how far its log has been written."""
        tail = LogTail(self.trigger_kwargs.get(LOG_POSITION))
        following = asyncio.create_task(self._follow(tail))
        try:
            async for event in super().run():
                await self._settled(following)
                yield TriggerEvent({**event.payload, LOG_POSITION: tail.position, RECEIPT: self.receipt})
        finally:
            following.cancel()

    def define_pod_container_state(self, pod: Any) -> Any:
        """As Airflow does, but a pod that is lost with its node has failed: nobody will ever say that it ended."""
        self.receipt = receipt_of(pod, self.base_container_name)
        return ContainerState.FAILED if is_lost(pod) else super().define_pod_container_state(pod)

    @staticmethod
    async def _settled(following: asyncio.Task[None]) -> None:
        """Let no line be written after its position was told."""
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    async def _follow(self, tail: LogTail) -> None:
        while True:
            await asyncio.sleep(max(self.poll_interval, LOG_SECONDS))
            try:
                lines = await self.hook.read_logs(
                    name=self.pod_name, namespace=self.pod_namespace, container_name=self.base_container_name,
                    since_seconds=tail.since_seconds())
            except Exception as error:  # noqa: BLE001  no container yet, no API server: the next time, or the end, gives it all
                self.log.debug("no log of pod %s yet: %s", self.pod_name, type(error).__name__)
                continue
            for line in tail.new(lines):
                self.log.info("%s", line)
