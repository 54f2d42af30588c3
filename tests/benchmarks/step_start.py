"""What starting a step costs: a cold process against a fork of the warm parent, without and with MLflow (SQLite).

Run it from the repository: python tests/benchmarks/step_start.py [repetitions]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

INCLUDE = Path(__file__).parents[2] / "include"
sys.path.insert(0, str(INCLUDE))

from airgate.contracts import calls  # noqa: E402
from airgate.contracts.step import RunContext, StepCall  # noqa: E402
from airgate.runtime import forkserver_client as client  # noqa: E402

STEPS = """
import time
import pandas as pd
def one() -> int:
    return 1
def table() -> pd.DataFrame:
    return pd.DataFrame({"a": range(1000)})
def nap() -> int:
    time.sleep(3)
    return 1
"""


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models" / "bench").mkdir(parents=True)
        (folder / "models" / "bench" / "steps.py").write_text(STEPS)
        os.environ.update(AIRGATE_MODELS=str(folder / "models"), PYTHONPATH=str(INCLUDE))
        socket = folder / "run" / "steps.sock"
        begin = time.perf_counter()
        server = client.ensure_server(socket, folder / "log")
        print(f"server ready after {time.perf_counter() - begin:.1f} s, {pss(server):.0f} MiB (PSS) alone")
        try:
            for title, function, uri in (("one", "one", None), ("table", "table", None),
                                         ("one, MLflow on SQLite", "one", f"sqlite:///{folder}/mlflow.db")):
                make = maker(folder, function, uri)
                report(f"{title}: fork", make, lambda url: fork(socket, url), repetitions + 1)
                report(f"{title}: cold process", make, cold, max(2, repetitions // 2))
            with (folder / "out").open("w") as out:
                step = client.start_in_fork(socket, maker(folder, "nap", None)(), os.environ, out.fileno(), out.fileno())
                time.sleep(1.5)
                print(f"while one step runs: server {pss(server):.0f} MiB, step {pss(step.pid):.0f} MiB (PSS), "
                      f"of which the step's own {pss(step.pid, 'Private_Dirty:'):.0f} MiB")
                step.wait()
        finally:
            client.stop_server(socket)


def maker(folder: Path, function: str, uri: str | None) -> Callable[[], str]:
    def make() -> str:
        run = RunContext(dag_id="bench", run_id="r", task_id=function, try_number=1, actor="user:bench", code_version="x",
                         image="local")
        return calls.write_call(StepCall(function=f"bench.steps:{function}", run=run, store=f"file://{folder}/store",
                                         tracking_uri=uri))
    return make


def report(title: str, make: Callable[[], str], run: Callable[[str], int | None], repetitions: int) -> None:
    """Time every repetition; the first pays for caches and tables and is told apart."""
    times = []
    for _ in range(repetitions):
        url = make()
        begin = time.perf_counter()
        code = run(url)
        times.append(time.perf_counter() - begin)
        if code != 0:
            raise SystemExit(f"{title}: the step ended with {code}")
    print(f"{title}: first {times[0]:.3f} s, then {statistics.median(times[1:]):.3f} s (median of {len(times) - 1})")


def fork(socket: Path, url: str) -> int | None:
    with Path(os.devnull).open("w") as null:
        return client.run_in_fork(socket, url, os.environ, null.fileno(), null.fileno()).code


def cold(url: str) -> int:
    return subprocess.run([sys.executable, "-m", "airgate.steps.runner", url], capture_output=True, check=False).returncode


def pss(pid: int, field: str = "Pss:") -> float:
    """A field of the process's memory in MiB; PSS counts shared pages by the share of each that shares them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
