"""What Airflow loads to parse must be light. Only a fresh process can tell what is in its sys.modules."""

import os
import subprocess
import sys
from pathlib import Path

from tests.dags.conftest import ROOT

HEAVY = ["pandas", "numpy", "scipy", "sklearn", "xgboost", "torch", "mlflow", "great_expectations", "evidently", "dvc", "pyarrow",
         "kubernetes", "safetensors", "skops", "boto3"]
PARSE = """
import runpy, sys
for path in sys.argv[2:]:
    runpy.run_path(path)
import airgate.console.mount, airgate.governance.policies, airgate.governance.callbacks, airgate.audit.store
print(sorted({name.partition('.')[0] for name in sys.modules} & set(sys.argv[1].split(','))))
"""


def test_parsing_every_dag_and_the_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    files = [*sorted((ROOT / "dags").glob("*.py")), ROOT / "plugins" / "airgate_plugin.py",
             ROOT / "docs" / "examples" / "morning_scores.py"]
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "include"),
                   "AIRGATE_RUNTIME": "local"}
    done = subprocess.run([sys.executable, "-c", PARSE, ",".join(HEAVY), *map(str, files)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_importing_the_contracts_does_not_import_airflow(tmp_path: Path) -> None:
    code = "import sys, airgate.contracts.payloads, airgate.steps.runner; print('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "include")},
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
