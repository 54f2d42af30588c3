"""Start Airflow's four processes as forks of one process that has Airflow imported.

Each of the four would spend 5 seconds of CPU on the same imports, and every task on what it imports besides; forks
share them, in time and in memory. The parent imports before the database is up, migrates it when asked, forks, and ends.

Arguments: the folder of the records, the folder of the logs, and a file whose appearing says that the database is up.
"""

import fcntl
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO

from airgate.platform.processes import Processes

# name of the process: arguments of `airflow`. Task logs are read from disk, so the log servers of scheduler and
# triggerer, which would listen on every address, stay off.
COMMANDS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
# A fork of a process with several threads may hang in a lock that one of them holds: OpenBLAS and the allocator inside
# pyarrow would each start one when imported.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
PRELOADED = (
    "airflow", "airflow.cli.cli_parser", "airflow.jobs.scheduler_job_runner", "airflow.executors.local_executor",
    "airflow.dag_processing.manager", "airflow.jobs.triggerer_job_runner", "airflow.utils.db",
    "airflow.api_fastapi.app", "airflow.sdk.execution_time.supervisor", "airflow.sdk.execution_time.task_runner",
    "airflow.providers.standard.operators.hitl", "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.decorators.python", "psycopg2", "asyncpg",
    # what DAG files and tasks of ours import
    "airgate.authoring", "airgate.authoring.catalog", "airgate.authoring.dags", "airgate.runtime.local",
    "airgate.audit.store", "airgate.audit.sweep", "airgate.audit.airflow_account", "airgate.registry.answers",
    "airgate.lifecycle.approval", "airgate.lifecycle.candidate", "airgate.lifecycle.drift", "airgate.lifecycle.live",
    "airgate.lifecycle.promotion", "airgate.lifecycle.retraining", "airgate.lifecycle.upkeep", "airgate.lifecycle.verdict",
    "airgate.authoring.assets", "airgate.authoring.steps", "airgate.governance.policies", "airgate.governance.callbacks",
    "airgate.governance.callable_scan", "airgate.governance.dag_rules",
    # what tasks that read the registry import; 1 second of CPU in each
    "mlflow.tracking", "mlflow.exceptions",
)


def main(records: Path, logs: Path, database_is_up: Path, *, migrate: bool) -> int:
    """Import, wait for the database, migrate it when `migrate`, fork the four. Gives 1 when the migration fails."""
    _preload()
    launcher = os.getppid()
    while not database_is_up.exists():
        if os.getppid() != launcher:
            return 1  # `airgate up` was interrupted
        time.sleep(0.05)
    # An interrupted `airgate up` leaves its parent at work; the parent of the next one waits for it here.
    with (records / "airflow-parent.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if migrate and _in_child(["db", "migrate"]) != 0:
            return 1
        _fork_all(Processes(records, logs), turn)
    return 0


def _fork_all(processes: Processes, turn: IO[str]) -> None:
    gc.freeze()  # the collector would touch, and so copy, what the four share
    for name in COMMANDS:
        if processes.find(name) is None:
            pid = os.fork()
            if pid == 0:
                turn.close()  # the lock is held as long as one process has the file open
                _become(name, processes.log(name))
            processes.record(name, pid)


def _preload() -> None:
    """Import what the forks share. What cannot be imported is for Airflow to show, where a DAG file needs it."""
    os.environ |= ONE_THREAD
    for module in PRELOADED:
        _try(f"import of {module}", partial(import_module, module))
    _try("plugins", lambda: import_module("airflow.plugins_manager").ensure_plugins_loaded())
    # The first asset makes Airflow look through all providers for those that know its kind of address.
    _try("providers", lambda: import_module("airflow.sdk").Asset("airgate", uri="airgate://warm/up"))
    for name in ONE_THREAD:
        del os.environ[name]
    threads = list(Path("/proc/self/task").glob("*"))
    if len(threads) > 1:
        sys.stderr.write(f"{len(threads)} threads are alive before forking: a library that was preloaded started some\n")


def _try(what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:  # noqa: BLE001 - any code of a module may fail
        sys.stderr.write(f"not preloaded: {what}: {type(error).__name__}: {error}\n")


def _in_child(arguments: list[str]) -> int:
    """Run one `airflow` command in a fork and give its exit status."""
    pid = os.fork()
    if pid == 0:
        _airflow(arguments)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become(name: str, log: Path) -> None:
    """Turn this fork into the process `name`, in a session of its own. Does not return."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    _airflow(COMMANDS[name])


def _airflow(arguments: list[str]) -> None:
    status = 1
    try:
        from airflow.__main__ import main as airflow_main

        sys.argv = ["airflow", *arguments]
        airflow_main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may unwind into the parent's code, whatever it is
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def command(records: Path, logs: Path, database_is_up: Path, *, migrate: bool) -> list[str]:
    """The command line of this module."""
    paths = [str(records), str(logs), str(database_is_up)]
    return [sys.executable, "-m", "airgate.platform.airflow_parent", *paths, *(["--migrate"] if migrate else [])]


def launch(arguments: list[str], environment: dict[str, str], directory: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start the parent, in a session of its own so that Ctrl-C does not reach a migration half-way."""
    with log.open("wb") as output:
        return subprocess.Popen(
            arguments, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4]), migrate="--migrate" in sys.argv[4:]))
