"""The variables of every process of the embedded installation, made here and nowhere else.

The audit log's password goes to Airflow's processes only: a step cannot write the log that speaks about it. Variables
of another Airflow that happen to be set in the user's shell do not get in; AIRGATE_* settings of the user do.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airgate.platform import cluster, credentials, ports, postgres
from airgate.platform.cluster import Cluster
from airgate.platform.credentials import PEOPLE, Credentials
from airgate.platform.layout import Layout
from airgate.platform.ports import LOCALHOST, PREFERRED
from airgate.platform.private_files import write_private

QUIET = {  # nobody is told that this runs
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "SCARF_ANALYTICS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
}
NOT_INHERITED = ("AIRFLOW", "MLFLOW", "PG", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")
# What only Airflow's own processes may know.
ONLY_AIRFLOW = ("AIRGATE_AUDIT_URL", "AIRGATE_AUDIT_OWNER_URL", "AIRGATE_AUDIT_KEY", "AIRGATE_AUDIT_ANCHORS", "AIRGATE_MODEL_KEY",
                "AIRGATE_API_USER", "AIRGATE_API_PASSWORD")


@dataclass(frozen=True)
class Installation:
    """One embedded installation: where it is, its ports and its secrets, and the cluster where its steps run, if one does."""

    layout: Layout
    credentials: Credentials
    ports: dict[str, int]
    cluster: Cluster | None = None

    @property
    def airflow_url(self) -> str:
        """Airflow's UI and API."""
        return f"http://{LOCALHOST}:{self.ports['airflow']}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's UI and tracking API: where pods reach it, if steps are pods."""
        return f"http://{self.host}:{self.ports['mlflow']}"

    @property
    def host(self) -> str:
        """Where those listen whom steps talk to."""
        return self.cluster.host if self.cluster else LOCALHOST

    @property
    def step_socket(self) -> Path:
        """Where the step server listens, by agreement with the local runtime."""
        return self.layout.run / "steps.sock"

    @property
    def in_cluster(self) -> dict[str, str]:
        """The variables of an installation whose steps are pods; none for another."""
        return self.cluster.variables(self.ports) if self.cluster else {}

    def database(self, role: str, name: str) -> str:
        """SQLAlchemy URL of a database as `role`."""
        return postgres.url(self.credentials, role, name, self.ports["postgres"])


def find(place: Layout, running: Iterable[str] = PREFERRED) -> Installation:
    """The installation at `place`. The services named in `running` are ours and keep their ports; by default all do."""
    return Installation(place, credentials.ensure(place), ports.ensure(place, frozenset(running)), cluster.load(place))


def common(installation: Installation) -> dict[str, str]:
    """What every process gets: the user's environment without strangers' settings, and Airgate's own."""
    layout = installation.layout
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    bin_folder = Path(sys.executable).parent
    ours = {
        "AIRGATE_RUNTIME": "local",
        "AIRGATE_HOME": str(layout.home),
        "AIRGATE_MLFLOW_URI": installation.mlflow_url,
        "AIRGATE_AIRFLOW_API": installation.airflow_url,
        "AIRGATE_DATA_REPOSITORY": str(layout.data),
        "AIRGATE_CODE_VERSION": code_version(layout.root),
    }
    fixed = {
        "PATH": os.pathsep.join([str(bin_folder), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(layout.root / "include"),
        "PYTHONUNBUFFERED": "1",
    }
    return ours | inherited | installation.in_cluster | fixed | QUIET


def for_steps(installation: Installation) -> dict[str, str]:
    """The step server's environment: without Airflow's secrets, and without the audit log's."""
    return {name: value for name, value in common(installation).items() if name not in ONLY_AIRFLOW}


def for_mlflow(installation: Installation) -> dict[str, str]:
    """MLflow's server: its database's password is not on its command line, where every account could read it."""
    return for_steps(installation) | {
        "MLFLOW_BACKEND_STORE_URI": installation.database("mlflow", "mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": installation.mlflow_url.removeprefix("http://"),
    }


def for_airflow(installation: Installation) -> dict[str, str]:
    """Airflow's four processes and its commands."""
    layout, keys = installation.layout, installation.credentials.keys
    settings = {
        "CORE__DAGS_FOLDER": str(layout.root / "dags"),
        "CORE__PLUGINS_FOLDER": str(layout.root / "plugins"),
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        # Else a file is skipped in which the word "airflow" does not occur, and ours need not say it.
        "CORE__DAG_DISCOVERY_SAFE_MODE": "False",
        "CORE__FERNET_KEY": keys["fernet_key"],
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in PEOPLE.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(layout.passwords),
        "CORE__EXECUTION_API_SERVER_URL": f"{installation.airflow_url}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": installation.database("airflow", "airflow"),
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "API__HOST": LOCALHOST,
        "API__PORT": str(installation.ports["airflow"]),
        "API__BASE_URL": installation.airflow_url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": keys["api_secret"],
        "API__INSTANCE_NAME": "Airgate",
        "API_AUTH__JWT_SECRET": keys["jwt_secret"],
        # A chain of 10 tasks takes 3.5 s instead of 12 s; an idle scheduler uses 20 % of a core instead of 6 %.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "LOGGING__BASE_LOG_FOLDER": str(layout.airflow / "logs"),
    }
    ours = {
        "AIRFLOW_HOME": str(layout.airflow),
        "AIRGATE_API_USER": "airgate",
        "AIRGATE_API_PASSWORD": installation.credentials.passwords["airgate"],
        "AIRGATE_AUDIT_URL": audit_url(installation),
        "AIRGATE_AUDIT_ORIGIN": keys["audit_origin"],
        "AIRGATE_AUDIT_KEY": f"file:{layout.audit_key}",
        "AIRGATE_AUDIT_ANCHORS": layout.audit_anchor.as_uri(),
        "AIRGATE_MODEL_KEY": f"file:{layout.model_key}",
    }
    if installation.cluster is not None:
        # Before that of airflow_settings.yaml. It says nothing of a cluster, for KUBECONFIG does, and both would be too much.
        ours["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = '{"conn_type": "kubernetes"}'
    given = ("AIRGATE_AUDIT_", "AIRGATE_MODEL_")
    ours |= {name: os.environ[name] for name in ours if name.startswith(given) and os.environ.get(name)}
    inherited = {name: value for name, value in common(installation).items() if name != "AIRGATE_AUDIT_OWNER_URL"}
    return inherited | {f"AIRFLOW__{name}": value for name, value in settings.items()} | ours


def audit_url(installation: Installation) -> str:
    """Where Airflow's processes append events: the user's AIRGATE_AUDIT_URL, or ours as the role that may only add."""
    return os.environ.get("AIRGATE_AUDIT_URL") or installation.database("audit_writer", "airgate_audit")


def write_file(installation: Installation) -> None:
    """Leave what `airgate` commands need in `.airgate/environment` (mode 0600), in a form that a shell reads too."""
    environment = for_airflow(installation)
    if "AIRGATE_AUDIT_URL" not in os.environ:
        # The owner's rights are for commands that a person gives; no process of the installation has them.
        environment["AIRGATE_AUDIT_OWNER_URL"] = installation.database("audit_owner", "airgate_audit")
    names = sorted(name for name in environment if name.startswith("AIRGATE_") or name in installation.in_cluster)
    lines = [f"{name}={shlex.quote(environment[name])}" for name in names]
    write_private(installation.layout.environment_file, "\n".join(lines) + "\n")


def adopt(layout: Layout) -> None:
    """Fill this process's environment from the file that `up` left, without replacing what is set. No file: nothing."""
    try:
        text = layout.environment_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        name, _, value = line.partition("=")
        os.environ.setdefault(name, "".join(shlex.split(value)))


def code_version(root: Path) -> str:
    """The checkout's commit, with '-dirty' where files differ from it; 'unversioned' where git does not know."""
    try:
        answer = subprocess.run(["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"], cwd=root,
                                capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unversioned"
    return answer.stdout.strip() or "unversioned"
