"""Where the embedded installation keeps its things: `.airgate` in the checkout, unless AIRGATE_HOME says else."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """`root` is the checkout (dags/, plugins/, include/); `home` everything that running it leaves behind."""

    root: Path
    home: Path

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "postgres"

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.home / "airflow"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Records of what was started, and sockets."""
        return self.home / "run"

    @property
    def passwords(self) -> Path:
        """The people's passwords, in the file that Airflow's SimpleAuthManager reads."""
        return self.home / "passwords.json"

    @property
    def mlflow_artifacts(self) -> Path:
        """What MLflow's server stores for its runs."""
        return self.home / "mlflow-artifacts"

    @property
    def audit_key(self) -> Path:
        """The key that signs the audit log's checkpoints."""
        return self.home / "audit-key.pem"

    @property
    def model_key(self) -> Path:
        """The key that signs models, for Airflow's processes alone."""
        return self.home / "model-key.pem"

    @property
    def audit_anchor(self) -> Path:
        """Where checkpoints are kept outside the database. On another machine they would be worth more."""
        return self.home / "audit-checkpoints"

    @property
    def data(self) -> Path:
        """The data repository of the demo."""
        return self.home / "data"

    @property
    def environment_file(self) -> Path:
        """The variables that `airgate` commands need to find this installation, for `set -a; . file`."""
        return self.home / "environment"

    def make(self) -> None:
        """Make the folders, closed to other accounts."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.airflow, self.logs, self.run, self.mlflow_artifacts, self.audit_anchor):
            folder.mkdir(exist_ok=True, mode=0o700)


def find() -> Layout:
    """The layout of this checkout."""
    root = Path(__file__).resolve().parents[3]
    return Layout(root=root, home=Path(os.environ.get("AIRGATE_HOME", root / ".airgate")).absolute())
