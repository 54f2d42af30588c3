"""What breaks on a real cluster: each fault ends with the right state, the right record, and no pod left.

What is printed at the end is for people: which fault, what became of it, and how long it took to get there.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.kubernetes.conftest import IN_PODS, LOAD, RUNS, MakeStep, Report, body, kinds
from tests.runtime.execution_api import TaskServer
from tests.steps.results import result_of

from airgate import settings
from airgate.contracts import calls
from airgate.contracts.fork_protocol import KILL_AFTER_SECONDS
from airgate.contracts.resources import Resources
from airgate.contracts.step import StepResult
from airgate.errors import FencedError
from airgate.runtime.pod_launch import call_of

pytestmark = IN_PODS
GONE_SECONDS = 90  # a kubelet takes its time over a pod that is deleted: that of 1.20 up to 40 s, whatever the grace period


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something to become true and give it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


@pytest.fixture
def pods(api: Any, namespace: str) -> Iterator[Callable[[], list[Any]]]:
    """The steps' pods that are there; in the end none may be."""

    def there() -> list[Any]:
        return list(api.list_namespaced_pod(namespace, label_selector="app.kubernetes.io/managed-by=airgate").items)

    yield there
    assert all(pod.metadata.deletion_timestamp for pod in there())
    until(lambda: not there(), GONE_SECONDS)


@pytest.fixture
def mark(make: MakeStep) -> Path:
    """Where a step says that it has begun: in this test's store."""
    return Path(settings.load().artifact_store.removeprefix("file://")) / "mark"


def meanwhile(act: Callable[[], None]) -> Callable[[], None]:
    """Let a thread act beside what waits."""
    return lambda: Thread(target=act, daemon=True).start()


def first_trigger(done: Any) -> Any:
    """The trigger that a deferred task left, made as the triggerer makes it."""
    from airflow.sdk.module_loading import import_string
    from airflow.sdk.serde import deserialize

    return import_string(done.msg.classpath)(**deserialize(done.msg.trigger_kwargs))


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_pod_deleted_mid_run(make: MakeStep, server: TaskServer, api: Any, namespace: str, pods: Any, mark: Path,
                               report: Report, deferrable: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def step(seconds: float) -> Any:
        return make("faulty.steps:work", "work", parameters={"mark": str(mark), "seconds": seconds},
                    deferrable=deferrable, retries=3)

    deleted = []

    def delete() -> None:
        until(mark.exists)
        time.sleep(7)  # the triggerer has read of the log by then
        deleted.append(time.monotonic())
        api.delete_namespaced_pod(pods()[0].metadata.name, namespace)

    meanwhile(delete)()
    done = server.run(step(60))
    noticed = time.monotonic() - deleted[0]
    assert done.state == "up_for_retry", done.error
    assert body()["error"] in ("PodDeleted", "PodFailed") and kinds() == ["task.started", "task.retrying"]
    assert "step 3 of the work" in capsys.readouterr().out, "what it printed before is in the task's log"
    done = server.run(step(0.5), try_number=2)
    assert done.state == "success" and server.value("work")["value"] == 2
    report("pod deleted mid-run", "tried again, then success", noticed, deferrable)


@pytest.mark.parametrize("deferrable", RUNS)
def test_out_of_memory(make: MakeStep, server: TaskServer, pods: Any, report: Report, deferrable: bool) -> None:
    begin = time.monotonic()
    few = Resources(cpu=0.5, memory="48Mi")
    done = server.run(make(LOAD, "load", few, deferrable=deferrable))
    assert done.state == "failed" and "more memory than its limit of 48Mi. The same again" in str(done.error)
    assert kinds() == ["task.started", "task.failed"] and body()["error"] == "OOMKilled"
    report("container OOMKilled, no memory_cap", "failed at once, says what to raise", time.monotonic() - begin, deferrable)


def test_out_of_memory_with_a_cap(make: MakeStep, server: TaskServer, pods: Any, report: Report) -> None:
    def step() -> Any:
        return make("faulty.steps:hungry", "eat", Resources(cpu=0.5, memory="400Mi", memory_cap="1Gi"), retries=3,
                    parameters={"mebibytes": 400})

    begin = time.monotonic()
    done = server.run(step())
    assert done.state == "up_for_retry" and "The next try gets 800Mi (`memory_cap` in model.yaml is 1Gi)" in str(done.error)
    done = server.run(step(), try_number=2)
    assert done.state == "success", done.error
    assert body()["resources"]["memory"] == "800Mi"
    report("container OOMKilled, with a memory_cap", "tried again with twice as much, then success", time.monotonic() - begin)


@pytest.mark.parametrize("deferrable", RUNS)
def test_an_image_that_is_missing(make: MakeStep, server: TaskServer, pods: Any, report: Report, deferrable: bool) -> None:
    begin = time.monotonic()
    # Said never to be pulled, since no registry is at hand here: a pull that fails says so in the same place.
    done = server.run(make(LOAD, "load", Resources(cpu=0.1, memory="64Mi", image="no-such/steps:1"), deferrable=deferrable,
                           image_pull_policy="Never"))
    assert done.state == "failed" and kinds() == ["task.started", "task.failed"] and body()["error"] == "ImageMissing"
    assert "'no-such/steps:1', from this step's `image` in model.yaml, cannot be pulled (ErrImageNeverPull)" in str(done.error)
    report("image missing", "failed at once, says which and from where", time.monotonic() - begin, deferrable)


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_pod_that_finds_no_node(make: MakeStep, server: TaskServer, api: Any, pods: Any, report: Report,
                                  deferrable: bool) -> None:
    (node,) = api.list_node().items
    begin = time.monotonic()
    done = server.run(make(LOAD, "load", Resources(cpu=0.1, memory="900Gi"), deferrable=deferrable, schedule_timeout_seconds=4))
    text = str(done.error)
    assert done.state == "up_for_retry" and body()["error"] == "Unschedulable" and kinds() == ["task.started", "task.retrying"]
    assert f"Short is memory: the step asks for 900Gi; in all there are {node.metadata.name} " in text
    report("unschedulable", "tried again, says what is short", time.monotonic() - begin, deferrable)


@pytest.fixture
def quota(api: Any, namespace: str) -> Iterator[Callable[[], None]]:
    """A quota of memory, and a pod that holds most of it until the fixture is called."""
    api.create_namespaced_resource_quota(namespace, {"metadata": {"name": "few"}, "spec": {"hard": {"limits.memory": "2Gi"}}})
    until(lambda: api.read_namespaced_resource_quota("few", namespace).status.used)
    holds = {"limits": {"memory": "1500Mi", "cpu": "10m"}}
    api.create_namespaced_pod(namespace, {"metadata": {"name": "holder"}, "spec": {
        "nodeSelector": {"no": "node"}, "containers": [{"name": "c", "image": "no-such:1", "resources": holds}]}})
    yield lambda: api.delete_namespaced_pod("holder", namespace, grace_period_seconds=0)
    api.delete_namespaced_resource_quota("few", namespace)


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_full_quota(make: MakeStep, server: TaskServer, quota: Callable[[], None], pods: Any, report: Report,
                      deferrable: bool) -> None:
    freed = []

    def free() -> None:
        time.sleep(8)
        freed.extend([time.monotonic(), pods()])
        quota()

    meanwhile(free)()
    done = server.run(make(LOAD, "load", deferrable=deferrable, poll_interval=0.3))
    assert done.state == "success", done.error
    assert freed[1] == [] and kinds() == ["task.started", "task.succeeded"]
    report("quota full", "waited, then success", time.monotonic() - freed[0], deferrable)


def test_a_step_that_ignores_sigterm(make: MakeStep, server: TaskServer, pods: Any, mark: Path, report: Report) -> None:
    """Marked failed or cleared while deferred: the triggerer calls the trigger's on_kill."""
    server.dies_deferred = True
    done = server.run(make("faulty.steps:deaf", "deaf", parameters={"mark": str(mark)}))
    until(mark.exists)
    begin = time.monotonic()
    asyncio.run(first_trigger(done).on_kill())
    assert [pod.metadata.deletion_grace_period_seconds for pod in pods()] == [round(KILL_AFTER_SECONDS)]
    until(lambda: not pods(), GONE_SECONDS)
    report("step ignores SIGTERM, task marked failed", "pod gone", time.monotonic() - begin)


def test_a_result_of_200_mb(make: MakeStep, server: TaskServer, pods: Any, report: Report) -> None:
    begin = time.monotonic()
    done = server.run(make("faulty.steps:large", "large", parameters={"mebibytes": 200}))
    assert done.state == "success", done.error
    result = StepResult.model_validate(server.value("large"))
    assert result.output is not None and result.output.size == 200 * 2**20
    assert len(str(server.value("large"))) < 10_000
    report("200 MB result", "success; XCom carries its digest", time.monotonic() - begin)


@pytest.mark.parametrize("deferrable", RUNS)
def test_a_store_that_goes_down_mid_run(make: MakeStep, server: TaskServer, pods: Any, mark: Path, report: Report,
                                        deferrable: bool) -> None:
    store, away = mark.parent, mark.parent.with_name(f"{mark.parent.name}-away")

    def step(seconds: float) -> Any:
        return make("faulty.steps:work", "work", parameters={"mark": str(mark), "seconds": seconds},
                    deferrable=deferrable, retries=3)

    def take_down() -> None:
        until(mark.exists)
        store.rename(away)
        store.write_text("no folder")

    meanwhile(take_down)()
    done = server.run(step(4))
    assert done.state == "up_for_retry", done.error
    assert kinds() == ["task.started", "task.retrying"] and body()["error"] == "ArtifactError"
    done = server.run(step(4), try_number=2)
    assert done.state == "up_for_retry" and "Check that the artifact store is there" in str(done.error)
    begin = time.monotonic()
    store.unlink()
    away.rename(store)
    done = server.run(step(0.5), try_number=3)
    assert done.state == "success", done.error
    report("artifact store down", "tried again until it is back, then success", time.monotonic() - begin, deferrable)


def test_a_worker_killed_between_success_and_record(make: MakeStep, server: TaskServer, pods: Any, mark: Path,
                                                    report: Report) -> None:
    server.dies_deferred = True
    server.run(make("faulty.steps:work", "work", parameters={"mark": str(mark), "seconds": 0.5}))
    until(lambda: [pod for pod in pods() if pod.status.phase == "Succeeded"])
    server.dies_deferred, begin = False, time.monotonic()
    done = server.run(make("faulty.steps:work", "work", parameters={"mark": str(mark), "seconds": 0.5}), try_number=2)
    assert done.state == "success", done.error
    assert server.value("work")["value"] == 1, "the work was done once"
    assert kinds() == ["task.started", "task.started", "task.succeeded"] and body()["call_try"] == 1
    report("worker killed between pod success and record", "success; the work is not done again", time.monotonic() - begin)


def test_a_pod_of_an_older_try_that_comes_back_writes_nothing(make: MakeStep, server: TaskServer, pods: Any, mark: Path,
                                                              monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    """Its deletion cannot reach it, as on a node that was cut off, and it works on while another try takes its place."""
    server.dies_deferred = True
    server.run(make("faulty.steps:work", "work", parameters={"mark": str(mark), "seconds": 6}))
    (old,) = until(pods)
    until(mark.exists)
    server.dies_deferred = False
    monkeypatch.setenv("AIRGATE_CODE_VERSION", "other")  # so that try 2 does not want its pod
    two = make("faulty.steps:work", "work", parameters={"mark": str(mark), "seconds": 6})
    monkeypatch.setattr(two.pod_manager, "delete_pod", lambda pod: None)
    begin = time.monotonic()
    done = server.run(two, try_number=2)
    assert done.state == "success", done.error
    url = str(call_of(old))
    ended = until(lambda: next((p for p in pods() if p.metadata.name == old.metadata.name and p.status.phase == "Failed"), None))
    assert ended.status.container_statuses[0].state.terminated.exit_code == 1
    assert result_of(url) is None
    with pytest.raises(FencedError):
        calls.check_fence(url)
    for pod in pods():
        two.client.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
    report("an older try's pod comes back", "shut out; it wrote nothing", time.monotonic() - begin)
