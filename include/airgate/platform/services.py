"""What the embedded installation runs: name, command and environment of each process, in the order of starting."""

import sys

from airgate.contracts.fork_protocol import supported
from airgate.platform import airflow_parent, environment, postgres
from airgate.platform.environment import Installation
from airgate.platform.processes import Service

AIRFLOW = tuple(airflow_parent.COMMANDS)
# Ends by itself after half an hour without work; the next step starts it again.
STEPS = "steps"
# What pods need besides MLflow; see airgate.platform.cluster.
FOR_PODS = ("object-store", "data-server")
# Those that give work first, the database last.
STOP_ORDER = ("scheduler", "dag-processor", "triggerer", STEPS, "api-server", "mlflow", *FOR_PODS, "postgres")


def expected(installation: Installation) -> tuple[str, ...]:
    """The names of those that run: steps are forked from the step server, which needs Linux, or they are pods."""
    if installation.cluster is not None:
        return ("postgres", *FOR_PODS, "mlflow", *AIRFLOW)
    return ("postgres", *([STEPS] if supported() else []), "mlflow", *AIRFLOW)


def database(installation: Installation) -> Service:
    """PostgreSQL."""
    return postgres.service(installation.layout, installation.ports["postgres"])


def mlflow(installation: Installation) -> Service:
    """MLflow's server, which also hands out artifacts."""
    command = [sys.executable, "-m", "airgate.platform.mlflow_server", installation.host, str(installation.ports["mlflow"]),
               str(installation.layout.mlflow_artifacts)]
    return Service("mlflow", command, environment.for_mlflow(installation), installation.layout.home)


def for_pods(installation: Installation) -> list[Service]:
    """An S3 server, whose objects are gone when it ends, and git's own server for the data repository, which only reads."""
    home, host, ports = installation.layout.home, installation.host, installation.ports
    store = [sys.executable, "-m", "moto.server", "--host", host, "--port", str(ports["object-store"])]
    git = ["git", "daemon", f"--listen={host}", f"--port={ports['data-server']}", "--reuseaddr", "--export-all",
           f"--base-path={home}", str(installation.layout.data)]
    variables = environment.common(installation)
    return [Service(name, command, variables, home) for name, command in zip(FOR_PODS, (store, git), strict=True)]
