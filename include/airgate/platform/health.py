"""Is each part well, and wait until it is."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import httpx

from airgate.errors import ConfigError
from airgate.platform import services
from airgate.platform.environment import Installation
from airgate.platform.processes import Processes

# Airflow's names for its parts in /monitor/health, where they differ from ours.
AIRFLOW_NAMES = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


def healthy(installation: Installation, processes: Processes) -> set[str]:
    """Names of the services that run and say they are well."""
    with httpx.Client(timeout=30, trust_env=False) as http:
        return _healthy(installation, processes, http)


def _healthy(installation: Installation, processes: Processes, http: httpx.Client) -> set[str]:
    running = {name: process for name in services.expected(installation) if (process := processes.find(name)) is not None}
    well = running.keys() & {"postgres"}
    if services.STEPS in running and installation.step_socket.is_socket():
        well |= {services.STEPS}
    if "mlflow" in running and _answers(http, f"{installation.mlflow_url}/health"):
        well |= {"mlflow"}
    well |= {name for name in services.FOR_PODS if name in running and _listens(installation.host, installation.ports[name])}
    if "api-server" in running:
        # Its part for tasks builds itself at the first request, 4 seconds of CPU: better now than under the first task.
        report = _airflow_report(http, installation) if _answers(http, f"{installation.airflow_url}/execution/health") else {}
        if report:
            well |= {"api-server"}
        for name, their_name in AIRFLOW_NAMES.items():
            if name in running and _beats(report.get(their_name) or {}, their_name, running[name].create_time()):
                well |= {name}
    return set(well)


def wait(installation: Installation, processes: Processes, names: Iterable[str], tell: Callable[[str], None],
         patience: float = 240.0) -> None:
    """Return when all of `names` are well; `tell` is called with each one's name as it gets there.

    Raises ConfigError, with the end of its log, when one ends or is not well after `patience` seconds.
    """
    missing = set(names)
    deadline = time.monotonic() + patience
    http = httpx.Client(timeout=30, trust_env=False)
    while missing:
        now = _healthy(installation, processes, http) & missing
        for name in sorted(now):
            tell(name)
        missing -= now
        for name in sorted(missing):
            if processes.find(name) is None:
                raise ConfigError(_complaint(processes, name, "ended while starting"))
        if missing and time.monotonic() > deadline:
            raise ConfigError(_complaint(processes, min(missing), f"is not well after {patience:.0f} s"))
        if missing:
            time.sleep(0.25)


def _complaint(processes: Processes, name: str, what: str) -> str:
    return (f"{name} {what}. The end of its log, {processes.log(name)}:\n"
            + "\n".join(f"  | {line}" for line in processes.last_lines(name).splitlines())
            + "\nWhat was started is left running for a look; `make down` stops it.")


def _answers(http: httpx.Client, url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return http.get(url).is_success
    return False


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


def _airflow_report(http: httpx.Client, installation: Installation) -> dict[str, Any]:
    with contextlib.suppress(httpx.HTTPError, ValueError):
        answer = http.get(f"{installation.airflow_url}/api/v2/monitor/health")
        if answer.is_success:
            return dict(answer.json())
    return {}


def _beats(part: dict[str, Any], name: str, started: float) -> bool:
    """Healthy by a heartbeat of this process: one of its predecessor may still be fresh."""
    heartbeat = part.get(f"latest_{name}_heartbeat")
    fresh = isinstance(heartbeat, str) and datetime.fromisoformat(heartbeat).timestamp() >= started
    return part.get("status") == "healthy" and fresh
