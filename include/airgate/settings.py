"""What the installation decides, read from the environment in one place. Every name starts with AIRGATE_."""

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

from airgate.errors import ConfigError, nearest

RUNTIMES = ("local", "kubernetes")


@dataclass(frozen=True)
class Settings:
    """One installation's settings. `home` holds what the embedded default keeps on disk.

    `audit_patience` is how long, in seconds, a step waits for an audit database that is down; `audit_spool` the folder of
    what could not be recorded.
    """

    home: Path
    runtime: Literal["local", "kubernetes"]
    artifact_store: str
    audit_url: str
    audit_owner_url: str
    audit_key: str | None
    audit_origin: str
    audit_retention: Path | None
    audit_anchors: str
    audit_spool: Path
    audit_patience: float
    environment: str
    model_key: str | None
    model_trust: str
    store_keys: str
    people: Path | None
    notifications: Path | None
    bundle_sources: Path | None
    mlflow_uri: str
    data_repository: str
    predictions: str
    airflow_api: str
    namespace: str
    steps_image: str
    steps_secret: str | None
    dask_scheduler: str | None
    models: Path
    code_version: str


def load() -> Settings:
    """Read the settings as the environment has them now: a test or a task may change it.

    Raises ConfigError when a variable has a value that is not allowed.
    """
    ours = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AIRGATE_")))
    return _read(ours, str(Path.cwd()))


@lru_cache(maxsize=8)
def _read(variables: tuple[tuple[str, str], ...], folder: str) -> Settings:
    """Parse once: a DAG file with a hundred models asks a thousand times. `folder` is what a relative home starts from."""
    env = dict(variables)
    home = Path(folder, env.get("AIRGATE_HOME", ".airgate"))
    runtime = env.get("AIRGATE_RUNTIME", "local")
    if runtime not in RUNTIMES:
        raise ConfigError(f"AIRGATE_RUNTIME is '{runtime}'; {nearest(runtime, RUNTIMES)}")
    return Settings(
        home=home,
        runtime=cast('Literal["local", "kubernetes"]', runtime),
        artifact_store=env.get("AIRGATE_ARTIFACT_STORE", f"file://{home}/artifacts"),
        audit_url=env.get("AIRGATE_AUDIT_URL", f"sqlite:///{home}/audit.db"),
        audit_owner_url=env.get("AIRGATE_AUDIT_OWNER_URL") or env.get("AIRGATE_AUDIT_URL", f"sqlite:///{home}/audit.db"),
        audit_key=env.get("AIRGATE_AUDIT_KEY"),
        audit_retention=Path(env["AIRGATE_AUDIT_RETENTION"]) if env.get("AIRGATE_AUDIT_RETENTION") else None,
        audit_origin=env.get("AIRGATE_AUDIT_ORIGIN", "airgate.local/audit"),
        audit_anchors=env.get("AIRGATE_AUDIT_ANCHORS", ""),
        audit_spool=Path(folder, env.get("AIRGATE_AUDIT_SPOOL") or home / "spool"),
        audit_patience=_seconds("AIRGATE_AUDIT_PATIENCE", env.get("AIRGATE_AUDIT_PATIENCE", "30")),
        environment=env.get("AIRGATE_ENVIRONMENT", "development"),
        model_key=env.get("AIRGATE_MODEL_KEY"),
        model_trust=env.get("AIRGATE_MODEL_TRUST", ""),
        store_keys=env.get("AIRGATE_STORE_KEYS", ""),
        people=Path(env["AIRGATE_PEOPLE"]) if env.get("AIRGATE_PEOPLE") else None,
        notifications=Path(env["AIRGATE_NOTIFICATIONS"]) if env.get("AIRGATE_NOTIFICATIONS") else None,
        bundle_sources=Path(env["AIRGATE_BUNDLE_SOURCES"]) if env.get("AIRGATE_BUNDLE_SOURCES") else None,
        mlflow_uri=env.get("AIRGATE_MLFLOW_URI", f"sqlite:///{home}/mlflow.db"),
        data_repository=env.get("AIRGATE_DATA_REPOSITORY", str(home / "data")),
        predictions=env.get("AIRGATE_PREDICTIONS", f"file://{home}/predictions"),
        airflow_api=env.get("AIRGATE_AIRFLOW_API", "http://localhost:8080"),
        namespace=env.get("AIRGATE_NAMESPACE", "airgate"),
        steps_image=env.get("AIRGATE_STEPS_IMAGE", "airgate-steps:0.2.0"),
        steps_secret=env.get("AIRGATE_STEPS_SECRET"),
        dask_scheduler=env.get("AIRGATE_DASK_SCHEDULER"),
        models=Path(env.get("AIRGATE_MODELS", str(Path(__file__).parent.parent / "models"))),
        code_version=env.get("AIRGATE_CODE_VERSION", "unversioned"),
    )


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigError(f"{name} is '{text}'; allowed: a number of seconds, 0 or more, such as 30")
    return seconds
