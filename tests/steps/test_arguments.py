"""Lists that tasks share: one item for each of a mapped step, all values for the step that gathers them."""

import json
from pathlib import Path

import pytest

from airgate.contracts.part import Part
from airgate.contracts.step import RunContext, StepCall
from airgate.errors import WiringError
from airgate.steps.annotations import signature_of
from airgate.steps.arguments import arguments_of, refuse_wrong_arguments
from airgate.steps.context import StepContext
from airgate.steps.store import ArtifactStore

DAYS = [{"name": "a", "start": "2026-01-01", "end": "2026-01-03", "revision": "c1"},
        {"name": "b", "start": "2026-01-03", "end": "2026-01-04", "revision": "c1"}]


def score(part: Part, ctx: StepContext, limit: float = 0.5) -> dict[str, float]:
    return {}


def join(scored: list[dict[str, float]]) -> float:
    return 0.0


def context(tmp_path: Path, index: int = -1, **call: object) -> StepContext:
    run = RunContext(dag_id="d", run_id="r", task_id="t", try_number=1, map_index=index, actor="user:ana", code_version="c",
                     image="local")
    (tmp_path / "work").mkdir(exist_ok=True)
    return StepContext(StepCall(function="x:y", run=run, store=f"file://{tmp_path}/store", **call), tmp_path / "work")


def test_a_task_takes_the_item_of_its_map_index(tmp_path: Path) -> None:
    ref = ArtifactStore(f"file://{tmp_path}/store").put_json(DAYS)
    ctx = context(tmp_path, 1, inputs={"part": ref}, each="part", parameters={"limit": 1})
    signature = signature_of("x:score", score)
    refuse_wrong_arguments(ctx.call, signature)
    assert arguments_of(ctx.call, signature, ctx) == {"part": Part.model_validate(DAYS[1]), "limit": 1.0, "ctx": ctx}
    assert StepCall.model_validate_json(ctx.call.model_dump_json()) == ctx.call


@pytest.mark.parametrize(("value", "index", "words"), [
    (DAYS, 2, "task 2 takes an item of 'part', which is a list of 2. Clear the step that made the list"),
    (DAYS, -1, "task -1 takes an item of 'part', which is a list of 2"),
    ({"a": 1}, 0, "task 0 takes an item of 'part', which is dict"),
    ([{"name": "a"}], 0, "argument 'part' does not fit its annotation Part: start: Field required"),
])
def test_a_list_that_does_not_fit_is_refused(tmp_path: Path, value: object, index: int, words: str) -> None:
    ref = ArtifactStore(f"file://{tmp_path}/store").put_json(json.loads(json.dumps(value)))
    ctx = context(tmp_path, index, inputs={"part": ref}, each="part")
    with pytest.raises(WiringError) as caught:
        arguments_of(ctx.call, signature_of("x:score", score), ctx)
    assert words in str(caught.value)


def test_what_the_tasks_gave_is_one_list(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    refs = [store.put_json(value) for value in ({"a": 1.5}, {"a": 2.5}, {"a": 1.5})]
    ctx = context(tmp_path, gathered={"scored": refs})
    signature = signature_of("x:join", join)
    refuse_wrong_arguments(ctx.call, signature)
    assert arguments_of(ctx.call, signature, ctx) == {"scored": [{"a": 1.5}, {"a": 2.5}, {"a": 1.5}]}
    with pytest.raises(WiringError, match="takes no argument 'score'; "):
        refuse_wrong_arguments(context(tmp_path, gathered={"score": refs}).call, signature)
    both = context(tmp_path, gathered={"scored": refs}, parameters={"scored": []}).call
    with pytest.raises(WiringError, match="'scored' is given both as an input and as a parameter"):
        refuse_wrong_arguments(both, signature)


def test_no_task_gave_anything(tmp_path: Path) -> None:
    ctx = context(tmp_path, gathered={"scored": []})
    assert arguments_of(ctx.call, signature_of("x:join", join), ctx) == {"scored": []}
