"""What the embedded installation runs: name, command and environment of each process, in the order of starting."""

import sys

from airgate.platform import airflow_parent, environment, postgres
from airgate.platform.environment import Installation
from airgate.platform.processes import Service

AIRFLOW = tuple(airflow_parent.COMMANDS)
ALL = ("postgres", "step-server", "mlflow", *AIRFLOW)
# Those that give work first, the database last.
STOP_ORDER = ("scheduler", "dag-processor", "triggerer", "step-server", "api-server", "mlflow", "postgres")


def database(installation: Installation) -> Service:
    """PostgreSQL."""
    return postgres.service(installation.layout, installation.ports["postgres"])


def step_server(installation: Installation) -> Service:
    """The warm parent that steps are forked from."""
    command = [sys.executable, "-m", "airgate.steps.forkserver", str(installation.step_socket)]
    return Service("step-server", command, environment.for_steps(installation), installation.layout.root)


def mlflow(installation: Installation) -> Service:
    """MLflow's server, which also hands out artifacts."""
    command = [sys.executable, "-m", "airgate.platform.mlflow_server", str(installation.ports["mlflow"]),
               str(installation.layout.mlflow_artifacts)]
    return Service("mlflow", command, environment.for_mlflow(installation), installation.layout.home)
