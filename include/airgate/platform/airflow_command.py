"""`airgate airflow ...`: Airflow's own command line, against the embedded installation."""

import argparse
import os
import sys

from airgate.errors import ConfigError
from airgate.platform import environment, layout
from airgate.platform.private_files import read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything after the word goes to `airflow` as it is."""
    parser.add_argument("words", nargs=argparse.REMAINDER, help="as for `airflow`")


def run(args: argparse.Namespace) -> int:
    """Become `airflow` with this installation's settings. Raises ConfigError when it was never started."""
    place = layout.find()
    if not read_json(place.home / "ports.json"):
        raise ConfigError("Airflow was never started here; `make up` or `make demo` does")
    settings = environment.for_airflow(environment.find(place))
    os.execve(sys.executable, [sys.executable, "-m", "airflow", *args.words], settings)  # noqa: S606 - no shell is what is wanted
