"""Steps in real pods of the real image: Airflow's own task runner, the operator, a kubelet, and the artifact store."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.kubernetes.conftest import IN_PODS, LOAD, RUNS, MakeStep, body, kinds
from tests.runtime.execution_api import TaskServer

from airgate.contracts.resources import Resources
from airgate.contracts.step import StepResult

pytestmark = IN_PODS


def no_pod_left(api: Any, namespace: str) -> bool:
    pods = api.list_namespaced_pod(namespace).items
    return all(pod.metadata.deletion_timestamp for pod in pods)


@pytest.mark.parametrize("deferrable", RUNS)
def test_two_steps_hand_a_table_over(make: MakeStep, server: TaskServer, api: Any, namespace: str, shared: Path,
                                     deferrable: bool) -> None:
    done = server.run(make(LOAD, "load", deferrable=deferrable))
    assert done.state == "success", done.error
    done = server.run(make("airgate.steps.validate:check", "check", inputs={"data": "load"}, deferrable=deferrable))
    assert done.state == "success", done.error

    loaded, checked = (StepResult.model_validate(server.value(task)) for task in ("load", "check"))
    head = (shared / "data/.git/refs/heads/main").read_text().strip()
    assert loaded.facts["data_revision"] == checked.facts["data_revision"] == head
    assert loaded.output is not None and checked.output is not None and loaded.output.kind == "table"
    content = Path(loaded.output.uri.removeprefix("file://")).read_bytes()
    assert "sha256:" + hashlib.sha256(content).hexdigest() == loaded.output.digest
    assert "data_check.json" in checked.attachments
    assert checked.mlflow_run_id == loaded.mlflow_run_id is not None
    assert kinds() == ["task.started", "task.succeeded"] * 2 and body()["runtime"] == "kubernetes"
    assert no_pod_left(api, namespace)


@pytest.mark.parametrize("deferrable", RUNS)
def test_wrong_data_is_final(make: MakeStep, server: TaskServer, api: Any, namespace: str, deferrable: bool) -> None:
    done = server.run(make(LOAD, "load", parameters={"revision": "mian"}, deferrable=deferrable))
    assert done.state == "failed" and "unknown revision 'mian'" in str(done.error) and "'main'" in str(done.error)
    assert kinds() == ["task.started", "task.failed"] and body()["ended"] == "exit code 65"
    assert no_pod_left(api, namespace)


def test_a_step_on_a_gpu_gets_one(make: MakeStep, server: TaskServer, api: Any) -> None:
    if not any(int(node.status.allocatable.get("nvidia.com/gpu", 0)) for node in api.list_node().items):
        pytest.skip("no node of the cluster offers nvidia.com/gpu")
    done = server.run(make(LOAD, "load", Resources(cpu=0.5, memory="1Gi", gpu=1)))
    assert done.state == "success", done.error
