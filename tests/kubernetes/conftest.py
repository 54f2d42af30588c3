"""A real cluster: the one that KUBECONFIG names. `.ci/run` starts one where it can; elsewhere these tests are skipped.

Steps run in the real steps image, which AIRGATE_TEST_STEPS_IMAGE names. The store and the data repository are folders of this
machine, which the pods see as host paths; so the cluster's node must be this machine.
"""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.conftest import home, server

from airgate.authoring.catalog import sound_models
from airgate.contracts.resources import Resources
from airgate.runtime import StepPlan, make_operator, pod_spec, record

__all__ = ["home", "server"]  # fixtures
SMALL = Resources(cpu=0.5, memory="1Gi")
LOAD = "airgate.steps.load:load_day"  # reads 2026-01-08, the day of the runs that TaskServer makes up
STEPS = Path(__file__).with_name("faulty_steps.py")
MakeStep = Callable[..., Any]
Report = Callable[..., None]
OUTCOMES: list[tuple[str, str, str, float]] = []
RUNS = [pytest.param(True, id="deferred"), pytest.param(False, id="waiting")]
IN_PODS = [
    pytest.mark.kubernetes,
    # DVC, by way of pygtrie, while the data repository is made.
    pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning"),
]


def kinds() -> list[str]:
    """Kinds of the events on record, in order."""
    return [one.event.kind for one in record.store().events()]


def body() -> dict[str, Any]:
    """The newest event's body."""
    return dict(record.store().events(newest_first=True, limit=1)[0].event.body)


@pytest.fixture(scope="session")
def api() -> Any:
    """The cluster's core API."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    from kubernetes import client, config

    config.load_kube_config(os.environ["KUBECONFIG"])
    return client.CoreV1Api()


@pytest.fixture(scope="session")
def namespace(api: Any) -> Iterator[str]:
    """A namespace of these tests' own, gone afterwards with all that is in it."""
    made = api.create_namespace({"metadata": {"generateName": "airgate-test-"}}).metadata.name
    # Kubernetes admits no pod before it has made the namespace's default service account.
    until = time.monotonic() + 30
    while not api.list_namespaced_service_account(made).items:
        assert time.monotonic() < until, f"namespace {made} got no service account; does the controller manager run?"
        time.sleep(0.1)
    yield made
    api.delete_namespace(made)


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
    (folder / "models" / "faulty").mkdir(parents=True)
    shutil.copy(STEPS, folder / "models" / "faulty" / "steps.py")
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

    def one(function: str, task_id: str, resources: Resources = SMALL, *, parameters: Any = None, inputs: Any = None,
            **kwargs: Any) -> Any:
        plan = StepPlan(function, inputs=inputs or {}, parameters=parameters or {}, spec=spec, resources=resources)
        # A DAG for each, as each try's own process would have it.
        dag = DAG("diagnosis_classifier_training")
        operator: Any = make_operator(plan, task_id=task_id, dag=dag, **{"poll_interval": 1, **kwargs})
        # An author cannot ask for this, and an installation has a store that is no folder.
        operator.volumes.append(k8s.V1Volume(name="shared", host_path=k8s.V1HostPathVolumeSource(path=str(shared))))
        operator.volume_mounts.append(k8s.V1VolumeMount(name="shared", mount_path=str(shared)))
        operator.env_vars.append(k8s.V1EnvVar(name="AIRGATE_MODELS", value=str(shared / "models")))
        return operator

    # The pods' user writes beside what this one has written.
    before = os.umask(0)
    yield one
    os.umask(before)


@pytest.fixture
def report() -> Report:
    """Keep what became of a fault, and in how many seconds, for the table at the end."""

    def keep(fault: str, outcome: str, seconds: float, deferrable: bool = True) -> None:
        OUTCOMES.append((fault, "deferred" if deferrable else "waiting", outcome, seconds))

    return keep


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if OUTCOMES:
        terminalreporter.section("faults")
        for fault, mode, outcome, seconds in OUTCOMES:
            terminalreporter.write_line(f"{fault:46} {mode:9} {seconds:6.1f} s  {outcome}")
