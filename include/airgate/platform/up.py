"""`airgate up`: start what is not running, as much at once as can be, and wait until all is well."""

import argparse
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from airgate.airflow_api import AirflowApi
from airgate.errors import ConfigError
from airgate.platform import (
    airflow_parent,
    environment,
    health,
    layout,
    postgres,
    services,
    settings_file,
)
from airgate.platform.cluster import Cluster
from airgate.platform.environment import Installation
from airgate.platform.lock import exclusive
from airgate.platform.output import Progress, say
from airgate.platform.processes import Processes
from airgate.runtime.forkserver_client import ensure_server

PARENT = "airflow-parent"
SERVED_BY = {"postgres": "postgres", "mlflow": "mlflow", "airflow": "api-server", **{name: name for name in services.FOR_PODS}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options: everything is decided by the checkout and AIRGATE_* variables."""


def run(_: argparse.Namespace) -> int:
    """Start all and print where it is. Gives 0; raises ConfigError when a part does not start."""
    installation = start()
    say(f"Airflow  {installation.airflow_url}   (users and passwords: {installation.layout.passwords})")
    say(f"MLflow   {installation.mlflow_url}")
    say(f"logs     {installation.layout.logs}")
    return 0


def start(meanwhile: Callable[[Installation], None] | None = None) -> Installation:
    """Start what is not running and wait until it is well; a second call finds all running and returns at once.

    `meanwhile` runs beside the start, as soon as the settings are known. Raises ConfigError with the end of the log of
    a part that does not start, and what `meanwhile` raises.
    """
    place = layout.find()
    settings = settings_file.load(place.root / settings_file.FILE)
    place.make()
    with exclusive(place.run / "lock"), ThreadPoolExecutor(3) as pool:
        processes = Processes(place.run, place.logs)
        installation = _installation(place, processes)
        environment.write_file(installation)
        if installation.cluster is not None:
            _serve_pods(installation, processes, installation.cluster)
        side = pool.submit(meanwhile, installation) if meanwhile else None
        if health.healthy(installation, processes) < set(services.expected(installation)):
            _start_all(installation, processes, settings, pool)
        if side is not None:
            side.result()
    return installation


def _installation(place: layout.Layout, processes: Processes) -> Installation:
    return environment.find(place, [port for port, name in SERVED_BY.items() if processes.find(name)])


def _serve_pods(installation: Installation, processes: Processes, cluster: Cluster) -> None:
    """Make what pods find in the cluster and on this machine, before anything is put there."""
    cluster.prepare(installation.ports)
    for service in services.for_pods(installation):
        processes.start(service)
    health.wait(installation, processes, services.FOR_PODS, lambda _: None)
    cluster.make_bucket(installation.ports)


def _start_all(installation: Installation, processes: Processes, settings: settings_file.SettingsFile,
               pool: ThreadPoolExecutor) -> None:
    expected = services.expected(installation)
    progress = Progress("starting", len(expected))
    began = time.monotonic()
    database_is_up = installation.layout.run / "database-is-up"
    database_is_up.unlink(missing_ok=True)
    stamp = DatabaseStamp(installation.layout.airflow / "database-version")
    parent = _launch_airflow(installation, processes, database_is_up, migrate=not stamp.is_current())
    _start_database(installation, processes)
    progress.tell("postgres")
    database_is_up.touch()
    processes.start(services.mlflow(installation))
    keys, port = installation.credentials, installation.ports["postgres"]
    audit: Future[None] = pool.submit(postgres.create_audit_log, keys, port)
    if parent is not None:
        if parent.wait() != 0:
            raise ConfigError(f"Airflow could not be started. The end of its log:\n{processes.last_lines(PARENT)}")
        stamp.set()
    steps = pool.submit(_start_steps, installation, processes)  # after Airflow, which wants the processor first
    audit.result()
    health.wait(installation, processes, set(expected) - {"postgres", services.STEPS}, progress.tell)
    if steps.result():
        progress.tell(services.STEPS)
    with AirflowApi(installation.airflow_url, "admin", installation.credentials.passwords["admin"]) as api:
        entries = settings_file.apply(settings, api)
    progress.done(f"all well after {time.monotonic() - began:.0f} s; {entries} entries of {settings_file.FILE} loaded")


def _start_steps(installation: Installation, processes: Processes) -> bool:
    """Start the warm parent that steps are forked from and wait until it is warm; False where steps come otherwise."""
    if services.STEPS not in services.expected(installation):
        return False
    pid = ensure_server(installation.step_socket, processes.log(services.STEPS), env=environment.for_steps(installation))
    processes.record(services.STEPS, pid)
    return True


def _launch_airflow(installation: Installation, processes: Processes, database_is_up: Path,
                    migrate: bool) -> "subprocess.Popen[bytes] | None":
    """Start the process that imports Airflow and forks what does not run; None when all four run."""
    if all(processes.find(name) for name in services.AIRFLOW):
        return None
    place = installation.layout
    arguments = airflow_parent.command(place.run, place.logs, database_is_up, migrate=migrate)
    return airflow_parent.launch(arguments, environment.for_airflow(installation), place.root, processes.log(PARENT))


def _start_database(installation: Installation, processes: Processes) -> None:
    keys, port = installation.credentials, installation.ports["postgres"]
    postgres.prepare(installation.layout, keys)
    processes.start(services.database(installation))
    try:
        postgres.wait(keys, port, lambda: processes.find("postgres") is not None)
    except ConfigError as error:
        raise ConfigError(f"{error}\nThe end of its log, {processes.log('postgres')}:\n"
                          f"{processes.last_lines('postgres')}") from None
    postgres.create_databases(keys, port)


class DatabaseStamp:
    """Which Airflow version the database was last brought to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted = version("apache-airflow")

    def is_current(self) -> bool:
        """True when no migration is due."""
        return self._path.exists() and self._path.read_text() == self._wanted

    def set(self) -> None:
        """Note that the database is at the installed version."""
        self._path.write_text(self._wanted)
