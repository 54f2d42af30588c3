"""Mapped steps, run by Airflow's own task runner: the list comes from the record, never from what Airflow mapped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.execution_api import TaskServer

from airgate.contracts import calls
from airgate.contracts.step import ArtifactRef, StepCall, StepResult
from airgate.runtime import StepPlan, record

ITEMS = [{"name": "a"}, {"name": "b"}]


def result(value: Any, digest: str = "ab") -> StepResult:
    ref = ArtifactRef(uri=f"file:///store/{digest}", digest="sha256:" + digest * 32, kind="json", size=12)
    return StepResult(output=ref, value=value, started_at="2026-01-09T06:00:00Z", facts={"data_revision": "r1"})


class Flow:
    """partition, score for each item, and join, whose steps answer as told; `calls` are what they were asked."""

    def __init__(self, server: TaskServer, operator: Any, items: Any = None) -> None:
        from airflow.sdk import DAG

        self.server, self.calls = server, []
        self.value: Any = ITEMS if items is None else items
        with DAG("heart_scoring") as self.dag:
            self.first = operator(task_id="partition", plan=StepPlan("airgate.steps.x:cut"), flow=self)
            self.score = operator.partial(
                task_id="score", plan=StepPlan("airgate.steps.x:score", inputs={"part": "partition"}, each="part"),
                flow=self).expand(item=self.first.output)
            self.join = operator(task_id="join", plan=StepPlan("airgate.steps.x:join", gathers={"scored": "score"}), flow=self)
            self.score >> self.join

    def answer(self, call: StepCall) -> StepResult:
        self.calls.append(call)
        if call.run.task_id == "score":
            return result({"n": call.run.map_index}, f"{call.run.map_index}{call.run.try_number}")
        return result(self.value if call.run.task_id == "partition" else None)


@pytest.fixture
def flow(home: Path, server: TaskServer) -> Callable[..., Flow]:
    from airflow.sdk import BaseOperator

    from airgate.runtime.operator import StepTask

    class Told(StepTask, BaseOperator):
        runtime = "told"

        def __init__(self, *, plan: StepPlan, flow: Any, item: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.hold(plan, item)
            self.flow = flow

        def step_image(self) -> str:
            return "told"

        def execute(self, context: Any) -> Any:
            with self.accounted(context):
                url = self.begin(context)
                receipt = calls.write_result(url, self.flow.answer(calls.read_call(url)))
                return self.settle(context, url, receipt, None, "exit code 0")

    return lambda **options: Flow(server, Told, **options)


def test_each_task_is_asked_for_its_index_of_the_recorded_list(flow: Any, server: TaskServer) -> None:
    one = flow()
    assert server.run(one.first).state == "success"
    assert server.value("partition") == ITEMS
    for index in (1, 0):
        done = server.run(one.score, map_index=index)
        assert done.state == "success", done.error
    server.run(one.join)
    first, second, _, last = one.calls
    assert (second.each, second.run.map_index, second.facts) == ("part", 1, {"data_revision": "r1"})
    assert second.inputs == {"part": result(None).output}
    assert [ref.digest for ref in last.gathered["scored"]] == ["sha256:" + "01" * 32, "sha256:" + "11" * 32]
    assert last.inputs == {} and first.each is None
    events = record.store().events(kind="task.succeeded", task_id="score")
    assert [event.event.task.map_index for event in events if event.event.task] == [1, 0]
    joined = record.store().events(kind="task.started", task_id="join")[0].event.body["inputs"]
    assert joined == {"scored": ["sha256:" + "01" * 32, "sha256:" + "11" * 32]}


def test_a_list_changed_by_hand_reaches_no_step(flow: Any, server: TaskServer) -> None:
    one = flow()
    server.run(one.first)
    server.xcoms[("partition", "return_value", -1)] = [{"name": "forged"}, {"name": "forged"}]
    assert server.run(one.score, map_index=0).state == "success"
    assert "forged" not in one.calls[-1].model_dump_json()
    forged = {**server.xcoms[("partition", "step_result", -1)], "facts": {"data_revision": "other"}}
    server.xcoms[("partition", "step_result", -1)] = forged
    done = server.run(one.score, map_index=1)
    assert done.state == "failed"
    assert "upstream step 'partition' is not what the audit log holds of it (its facts)" in str(done.error)


def test_a_forged_value_of_a_mapped_task_is_not_even_read(flow: Any, server: TaskServer) -> None:
    one = flow()
    server.run(one.first)
    for index in (0, 1):
        server.run(one.score, map_index=index)
        server.xcoms[("score", "return_value", index)] = {"output": "forged"}
    assert server.run(one.join).state == "success"
    assert [ref.uri for ref in one.calls[-1].gathered["scored"]] == ["file:///store/01", "file:///store/11"]


def test_the_newest_success_of_an_index_counts(flow: Any, server: TaskServer) -> None:
    one = flow()
    server.run(one.first)
    for index, number in ((0, 1), (1, 1), (0, 2)):
        server.run(one.score, map_index=index, try_number=number)
    server.run(one.join)
    assert [ref.uri for ref in one.calls[-1].gathered["scored"]] == ["file:///store/02", "file:///store/11"]


@pytest.mark.parametrize(("value", "words"), [
    ({"a": 1}, "is to be mapped over, but its value is dict. Return a list of at most 32 KiB, an item for each task."),
    ("x", "is to be mapped over, but its value is str."),
])
def test_what_is_no_list_is_no_success(flow: Any, server: TaskServer, value: Any, words: str) -> None:
    done = server.run(flow(items=value).first)
    assert done.state == "failed" and words in str(done.error)
    assert not record.store().events(kind="task.succeeded")


def test_a_task_marked_success_by_hand_is_named(flow: Any, server: TaskServer) -> None:
    one = flow()
    server.run(one.first)
    server.run(one.score, map_index=0)
    from airgate.audit.event import Actor
    from airgate.runtime.record import task_event

    class Marked:
        dag_id, run_id, task_id, try_number, map_index = "heart_scoring", "run-1", "score", 1, 1

    record.store().append(task_event(Marked(), "task.succeeded", "callback", Actor(kind="user", name="ana"), {}))
    done = server.run(one.join)
    assert "upstream step 'score' has a success without an output (map index 1): it was marked success by hand" in str(done.error)


def test_secrets_in_the_runs_conf_are_masked_for_mapped_tasks_too(flow: Any, server: TaskServer,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    one = flow()
    server.run(one.first)
    real = record.mask_conf
    monkeypatch.setattr(record, "mask_conf", lambda context: (seen.append(context["ti"].task_id), real(context)))
    assert server.run(one.score, map_index=0).state == "success"
    assert "score" in seen


@pytest.mark.parametrize("runtime", ["local", "kubernetes"])
def test_both_runtimes_can_be_mapped(home: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    from airflow.sdk import DAG

    from airgate.runtime import make_operator

    monkeypatch.setenv("AIRGATE_RUNTIME", runtime)
    with DAG("heart_scoring"):
        first: Any = make_operator(StepPlan("airgate.steps.partitions:partition"), task_id="partition")
        plan = StepPlan("airgate.steps.predict:predict", inputs={"part": "partition"}, each="part")
        mapped: Any = make_operator(plan, items=first.output, task_id="predict", max_active_tis_per_dag=2)
    one = mapped.unmap({"item": {"name": "2026-01-01"}})
    assert one.runtime == runtime and one.plan is plan and one.item == {"name": "2026-01-01"}
    assert one.max_active_tis_per_dag == 2 and list(first.iter_mapped_dependants()) == [mapped]
