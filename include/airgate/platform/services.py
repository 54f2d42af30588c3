"""What the embedded installation runs: name, command and environment of each process, in the order of starting."""

import sys

from airgate.contracts.fork_protocol import supported
from airgate.platform import airflow_parent, environment, postgres
from airgate.platform.environment import Installation
from airgate.platform.processes import Service

AIRFLOW = tuple(airflow_parent.COMMANDS)
# Ends by itself after half an hour without work; the next step starts it again.
STEPS = "steps"
ALL = ("postgres", STEPS, "mlflow", *AIRFLOW)
# Those that give work first, the database last.
STOP_ORDER = ("scheduler", "dag-processor", "triggerer", STEPS, "api-server", "mlflow", "postgres")


def expected() -> set[str]:
    """The names of those that run on this system: the step server needs Linux."""
    return set(ALL) if supported() else set(ALL) - {STEPS}


def database(installation: Installation) -> Service:
    """PostgreSQL."""
    return postgres.service(installation.layout, installation.ports["postgres"])


def mlflow(installation: Installation) -> Service:
    """MLflow's server, which also hands out artifacts."""
    command = [sys.executable, "-m", "airgate.platform.mlflow_server", str(installation.ports["mlflow"]),
               str(installation.layout.mlflow_artifacts)]
    return Service("mlflow", command, environment.for_mlflow(installation), installation.layout.home)
