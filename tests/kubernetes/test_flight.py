"""Steps in real pods of the real image: Airflow's own task runner, the operator, a kubelet, and the artifact store.

The store and the data repository are folders of this machine, which the pods see as host paths. So these tests need a
cluster whose node is this machine, and the steps image in it: AIRGATE_TEST_STEPS_IMAGE names it.
"""

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.execution_api import TaskServer

from airgate.authoring.catalog import sound_models
from airgate.contracts.model_spec import Resources
from airgate.contracts.step import StepResult
from airgate.runtime import StepPlan, make_operator, pod_spec, record

pytestmark = [
    pytest.mark.kubernetes,
    # DVC, by way of pygtrie, while the data repository is made.
    pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning"),
]
RUNS = [pytest.param(True, id="deferred"), pytest.param(False, id="waiting")]
SMALL = Resources(cpu=0.5, memory="1Gi")
LOAD = "airgate.steps.load:load_day"  # reads 2026-01-08, the day of the runs that TaskServer makes up

MakeStep = Callable[..., Any]


@pytest.fixture(scope="session")
def image(api: Any) -> str:
    """The steps image in the cluster."""
    named = os.environ.get("AIRGATE_TEST_STEPS_IMAGE")
    if not named:
        pytest.skip("AIRGATE_TEST_STEPS_IMAGE names no steps image in the cluster; docker/steps/Dockerfile makes one")
    return named


@pytest.fixture(scope="session")
def shared(api: Any, image: str) -> Iterator[Path]:
    """A folder that pods can see, with the demo's data repository in it."""
    from airgate.steps import demo_data

    (node,) = api.list_node().items
    address = next(one.address for one in node.status.addresses if one.type == "InternalIP")
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            pytest.skip(f"the cluster's node {address} is another machine, so pods cannot see a folder of this one")
    if os.geteuid() != 0:
        pytest.skip("only root can give the data repository to the pods' user")
    folder = Path(tempfile.mkdtemp(prefix="airgate-pods-"))
    folder.chmod(0o755)
    demo_data.create(folder / "data")
    # git opens a repository for its owner only, and that must be the pods' user.
    for path in (folder / "data", *(folder / "data").rglob("*")):
        os.chown(path, pod_spec.USER, pod_spec.GROUP, follow_symlinks=False)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make(home: Path, shared: Path, namespace: str, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeStep]:
    """Make a step's operator for the cluster. Its store is this test's own."""
    from airflow.sdk import DAG
    from kubernetes.client import models as k8s

    store = Path(tempfile.mkdtemp(prefix="store-", dir=shared))
    store.chmod(0o777)
    for name, value in {
        "AIRGATE_RUNTIME": "kubernetes", "AIRGATE_NAMESPACE": namespace, "AIRGATE_STEPS_IMAGE": image,
        "AIRGATE_ARTIFACT_STORE": f"file://{store}", "AIRGATE_MLFLOW_URI": f"sqlite:///{store}/mlflow.db",
        "AIRGATE_DATA_REPOSITORY": str(shared / "data"),
    }.items():
        monkeypatch.setenv(name, value)
    spec = next(one for one in sound_models() if one.name == "diagnosis_classifier")
    dag = DAG("diagnosis_classifier_training")

    def one(function: str, task_id: str, resources: Resources = SMALL, *, parameters: Any = None, inputs: Any = None,
            **kwargs: Any) -> Any:
        plan = StepPlan(function, inputs=inputs or {}, parameters=parameters or {}, spec=spec, resources=resources)
        operator: Any = make_operator(plan, task_id=task_id, dag=dag, poll_interval=1, **kwargs)
        # An author cannot ask for this, and an installation has a store that is no folder.
        operator.volumes.append(k8s.V1Volume(name="shared", host_path=k8s.V1HostPathVolumeSource(path=str(shared))))
        operator.volume_mounts.append(k8s.V1VolumeMount(name="shared", mount_path=str(shared)))
        return operator

    # The pods' user writes beside what this one has written.
    before = os.umask(0)
    yield one
    os.umask(before)


def kinds() -> list[str]:
    return [one.event.kind for one in record.store().events()]


def body() -> dict[str, Any]:
    return dict(record.store().events(newest_first=True, limit=1)[0].event.body)


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


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_step_over_its_memory_is_tried_again_and_says_so(make: MakeStep, server: TaskServer, api: Any, namespace: str,
                                                           deferrable: bool) -> None:
    done = server.run(make(LOAD, "load", Resources(cpu=0.5, memory="48Mi"), deferrable=deferrable))
    assert done.state == "up_for_retry" and "Raise this step's `memory` in model.yaml" in str(done.error)
    assert kinds() == ["task.started", "task.retrying"] and body()["error"] == "OOMKilled"
    assert no_pod_left(api, namespace)


def test_a_pod_that_finds_no_node_is_tried_again(make: MakeStep, server: TaskServer, api: Any, namespace: str) -> None:
    nowhere = Resources(cpu=0.5, memory="1Gi", node_selector={"accelerator": "none-such"})
    done = server.run(make(LOAD, "load", nowhere, deferrable=False, startup_timeout_seconds=2, schedule_timeout_seconds=2))
    assert done.state == "up_for_retry" and "did not run to its end" in str(done.error)
    assert kinds() == ["task.started", "task.retrying"]
    assert no_pod_left(api, namespace)


def test_a_step_on_a_gpu_gets_one(make: MakeStep, server: TaskServer, api: Any) -> None:
    if not any(int(node.status.allocatable.get("nvidia.com/gpu", 0)) for node in api.list_node().items):
        pytest.skip("no node of the cluster offers nvidia.com/gpu")
    done = server.run(make(LOAD, "load", Resources(cpu=0.5, memory="1Gi", gpu=1)))
    assert done.state == "success", done.error
