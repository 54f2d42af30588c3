"""`make cluster-demo`: one model's whole life with its steps as pods, its artifacts in S3 and MLflow over the network."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.flight.place import HAND_OVER, ROOT
from tests.kubernetes.conftest import IN_PODS

pytestmark = [*IN_PODS, pytest.mark.timeout(1800)]
NAMESPACE = "airgate-test-demo"


def test_a_models_life_in_pods(api: Any, image: str) -> None:
    home = Path(tempfile.mkdtemp(prefix="airgate-flight-", dir="/tmp"))  # short, for the sockets in it
    strange = ("AIRGATE_", "AIRFLOW", "MLFLOW")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(strange)} | {
        "AIRGATE_HOME": str(home), "AIRGATE_STEPS_IMAGE": image, "AIRGATE_NAMESPACE": NAMESPACE,
        "PYTHONPATH": str(ROOT / "include")}

    def airgate(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-c", HAND_OVER, *words], cwd=ROOT, env=environment, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    try:
        done = airgate("demo", "--cluster")
        left = api.list_namespaced_pod(NAMESPACE).items
    finally:
        down = airgate("down")
        api.delete_namespace(NAMESPACE)
    assert done.returncode == 0, done.stdout
    for told in ("version 2: in production, in place of version 1", "rows by version 2: s3://airgate/predictions/",
                 "integrity: ok", "completeness: ok"):
        assert told in done.stdout, done.stdout
    assert all(pod.metadata.deletion_timestamp for pod in left)
    assert down.returncode == 0, down.stdout
    shutil.rmtree(home)
