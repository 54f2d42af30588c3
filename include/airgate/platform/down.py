"""`airgate down`: stop what `airgate up` started, and nothing else."""

import argparse
from concurrent.futures import ThreadPoolExecutor

from airgate.platform import layout, services
from airgate.platform.lock import exclusive
from airgate.platform.output import say
from airgate.platform.processes import Processes
from airgate.runtime.forkserver_client import stop_server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_: argparse.Namespace) -> int:
    """Stop all; data and logs stay in .airgate. Gives 0, also when nothing was running."""
    place = layout.find()
    if not place.run.is_dir():
        say("nothing is running")
        return 0
    with exclusive(place.run / "lock"):
        stopped = stop_all(Processes(place.run, place.logs))
        # One that a task started because ours had ended for want of work.
        if stop_server(place.run / "steps.sock") and services.STEPS not in stopped:
            stopped.append(services.STEPS)
    say(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
    return 0


def stop_all(processes: Processes) -> list[str]:
    """Stop every process on record, the database after all others; give the names of those that were running."""
    names = [*services.STOP_ORDER, *(name for name in processes.names() if name not in services.STOP_ORDER)]
    names.remove("postgres")
    with ThreadPoolExecutor(len(names)) as pool:
        was_running = pool.map(processes.stop, names)
        stopped = [name for name, ran in zip(names, was_running, strict=True) if ran]
    if processes.stop("postgres"):
        stopped.append("postgres")
    return stopped
