"""Waiting inside a run for a drift verdict: Airgate's own, or one that an outside monitor posted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airgate.contracts.payloads import DriftVerdict
from airgate.contracts.step import Window
from airgate.errors import AirgateError
from airgate.lifecycle import recording
from airgate.runtime.window import window_of


class DriftSensor(BaseSensorOperator):
    """Waits for the verdict on a model's window, deferred, so that it holds no worker slot. Gives the DriftVerdict.

    Use it in a DAG of your own that must not go on before the drift check has spoken, for example:
    `DriftSensor(task_id="drift", model="diagnosis_classifier", timeout=3600)`.
    """

    def __init__(self, *, model: str, poke_interval: float = 30, **options: Any) -> None:
        super().__init__(poke_interval=poke_interval, **options)
        self.model = model

    def execute(self, context: Any) -> dict[str, Any]:
        """Give the verdict if it is there; otherwise defer until it is, or until `timeout`."""
        window = window_of(context["dag_run"], context["params"])
        verdict = find_verdict(self.model, window)
        if verdict is not None:
            return verdict
        self.log.info("waiting for the drift verdict of %s on %s", self.model, window.start)
        self.defer(
            trigger=DriftVerdictTrigger(self.model, window.start.isoformat(), window.end.isoformat(), self.poke_interval),
            method_name="resume",
            timeout=timedelta(seconds=self.timeout),
        )
        return {}  # defer() has raised; the value comes from resume()

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Give what the trigger found. Raises AirgateError when it could not look."""
        if "error" in event:
            raise AirgateError(f"the drift verdict could not be looked up: {event['error']}")
        return dict(event["verdict"])


class DriftVerdictTrigger(BaseTrigger):
    """Looks into the audit log until the verdict on the window is there."""

    def __init__(self, model: str, start: str, end: str, interval: float) -> None:
        super().__init__()
        self.model, self.start, self.end, self.interval = model, start, end, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """For Airflow's trigger table: names and dates only, no credentials."""
        return (f"{type(self).__module__}.{type(self).__qualname__}",
                {"model": self.model, "start": self.start, "end": self.end, "interval": self.interval})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the verdict, or why it cannot be had."""
        window = Window.model_validate({"start": self.start, "end": self.end})
        while True:
            try:
                # the store is synchronous; a thread keeps the triggerer's loop free
                verdict = await asyncio.to_thread(find_verdict, self.model, window)
            except AirgateError as error:
                yield TriggerEvent({"error": str(error)})
                return
            if verdict is not None:
                yield TriggerEvent({"verdict": verdict})
                return
            await asyncio.sleep(self.interval)


def find_verdict(model: str, window: Window) -> dict[str, Any] | None:
    """The newest recorded verdict for exactly this window, None if there is none yet."""
    for item in recording.store().events(kind="drift.verdict", model=model, newest_first=True):
        verdict = DriftVerdict.model_validate({**item.event.body, "event_id": str(item.event.event_id)})
        if verdict.window == window:
            return verdict.model_dump(mode="json")
    return None
