"""`airgate status`: what runs, how it is, what memory it takes."""

import argparse

from airgate.platform import environment, health, layout, services
from airgate.platform.output import say
from airgate.platform.private_files import read_json
from airgate.platform.processes import Processes, memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_: argparse.Namespace) -> int:
    """Print a line a process. Gives 0 when all are well, 1 otherwise; the step server may sleep."""
    place = layout.find()
    processes = Processes(place.run, place.logs)
    if not read_json(place.home / "ports.json"):
        say("never started here; `make up` or `make demo` does")
        return 1
    installation = environment.find(place)
    expected = services.expected(installation)
    well = health.healthy(installation, processes)
    total = 0
    for name in expected:
        process = processes.find(name)
        used = memory(process) if process else 0
        total += used
        state = "well" if name in well else "running, not well" if process else "asleep" if name == services.STEPS else "stopped"
        say(f"{name:14} {state:18} {process.pid if process else '-':>8} {used / 2**20:8.0f} MB  {processes.log(name)}")
    say(f"{'together':42} {total / 2**20:7.0f} MB")
    say(f"Airflow {installation.airflow_url}   MLflow {installation.mlflow_url}")
    return 0 if well >= set(expected) - {services.STEPS} else 1
