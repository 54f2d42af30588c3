"""What the fork server loads before it forks: the slow libraries, none of our code but the contracts.

Forking is safe only while one thread is alive. Two libraries start threads when they are imported, and both can be told
not to: OpenBLAS (numpy, scipy) starts one for each core beyond the first unless OPENBLAS_NUM_THREADS is 1, and the
jemalloc inside pyarrow one of its own unless background_thread is off. `quiet` sets both; children widen their pools.
"""

import importlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from airgate.contracts.fork_protocol import SILENCE

# The second names of a package are what it would otherwise import at its first use, in every child.
LIBRARIES = (
    "numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "pyarrow.pandas_compat",
    "sklearn.model_selection", "sklearn.metrics", "xgboost",
    "torch", "safetensors.torch",
    "mlflow", "mlflow.data", "mlflow.models", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.workspace.utils",
    "mlflow.store.tracking.sqlalchemy_workspace_store", "mlflow.store.artifact.local_artifact_repo",
    "alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg2",
    "mlflow.store.model_registry.sqlalchemy_workspace_store", "mlflow.models.display_utils", "mlflow.tracing.export",
    "mlflow.tracing.processor.otel", "mlflow.pyfunc.scoring_server", "mlflow.pyfunc.utils.environment", "git",
    "great_expectations", "great_expectations.expectations", "evidently", "evidently.presets",
    "dvc.repo", "dvc.api", "dvc.repo.index", "dvc.repo.stage", "dvc.repo.artifacts", "dvc.repo.datasets", "dvc.repo.plots",
    "dvc.data_cloud", "dvc.cachemgr", "dvc.utils.strictyaml", "dvc_data.fs", "dvc_data.hashfile.db.local", "pygit2",
    "scmrepo.fs", "configobj", "platformdirs", "pandas.api.internals",
    "fsspec", "rfc8785", "requests", "scipy.stats", "threadpoolctl",
)
OURS = ("airgate.contracts.calls", "airgate.contracts.payloads", "airgate.contracts.promotion")


def quiet() -> None:
    """Set what keeps libraries from starting threads and from calling home. Must come before they are imported."""
    os.environ.update(SILENCE)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"


def load(names: Iterable[str]) -> list[str]:
    """Import modules, with the time of each on stdout. Gives those that could not be imported, each with the reason."""
    failed = []
    for name in [*names, *OURS]:
        before = time.perf_counter()
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  a library that is absent or broken here is missed only by who needs it
            failed.append(f"{name}: {type(error).__name__}: {error}")
            say(f"not loaded: {failed[-1]}")
            continue
        if (spent := time.perf_counter() - before) > 0.01:
            say(f"loaded {name} in {spent:.2f} s")
    return failed


def threads() -> list[str]:
    """Name the threads of this process, as the kernel knows them."""
    return [f"{task.name} ({(task / 'comm').read_text().strip()})" for task in Path("/proc/self/task").iterdir()]


def memory_mib(pid: int | str = "self") -> float:
    """Proportional set size of a process in MiB: shared pages are counted by the share of each that shares them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def say(message: str) -> None:
    """Print a line to the server's log."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} step server: {message}\n")
    sys.stdout.flush()
