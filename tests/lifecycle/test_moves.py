"""Many processes, killed anywhere, in any order: one wins, the others hear who, and MLflow ends up saying what the log says."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audit.conftest import postgres, superuser  # noqa: F401  a fixture
from tests.lifecycle.moved import model_key  # noqa: F401  a fixture
from tests.lifecycle.processes import DIGESTS, MODEL, Killed, Log, Process, World, moved_to, wanted

from airgate.audit.event import Actor, AuditEvent, TaskRef
from airgate.audit.registry_changes import Change, found_event
from airgate.audit.stage_chain import claim_id
from airgate.audit.store import AuditStore
from airgate.errors import ConfigError, PromotionError
from airgate.lifecycle import sign
from airgate.lifecycle.moves import Conflict, Unsettled

pytestmark = pytest.mark.usefixtures("model_key")
PRODUCTION = "production"
TAG = "airgate.stage"


Fresh = Callable[..., World]


@pytest.fixture(scope="module")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Gives a world of its own each time; in memory where there is a place for files in it, for nothing here pulls the plug."""
    template = tmp_path_factory.mktemp("log") / "audit.db"
    AuditStore(f"sqlite:///{template}").create()
    numbers = count()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:

        def make(like: World | None = None) -> World:
            place = Path(folder, str(next(numbers)))
            place.mkdir()
            return like.copy(place) if like else World(template, place)

        yield make


@pytest.fixture
def world(new_world: Fresh) -> World:
    return new_world()


def check(world: World) -> None:
    """What must hold at the end of every history, once somebody has looked: the guard, or the next move."""
    world.moves("guard").finish(MODEL, align=[PRODUCTION])
    now = world.state()
    claims = world.log.events(kind="stage.moving")
    assert now.claim is None
    assert len(claims) == len(now.moves) + len(now.reverted)
    before = None
    for move in now.moves:
        assert move.body.from_version == before
        before = move.body.to_version
    there = before if before in world.registry.tags else None
    assert world.registry.aliases.get(PRODUCTION) == there
    assert {version: tags[TAG] for version, tags in world.registry.tags.items() if TAG in tags} == (
        {there: PRODUCTION} if there else {})


RUNS = {"p1": "1", "p2": "2", "p3": "3"}
SCHEDULES = st.lists(st.sampled_from(sorted(RUNS)), max_size=60)


@settings(max_examples=20)
@given(schedule=SCHEDULES)
@pytest.mark.attack("two promotions race")
def test_of_racing_promotions_one_wins_and_the_others_are_told_who(new_world: Fresh, schedule: list[str]) -> None:
    world = new_world()
    processes = {run: world.promotion(run, to) for run, to in RUNS.items()}
    for run in schedule:
        processes[run].step()
    for process in processes.values():
        process.run()
    winners = [run for run, process in processes.items() if moved_to(process.result)]
    [winner] = winners
    assert world.registry.aliases == {PRODUCTION: RUNS[winner]}  # nobody had to come afterwards
    for run, process in processes.items():
        if run != winner:
            assert isinstance(process.result, Conflict)
            assert f"promotion of version {RUNS[winner]} to production by run {winner} of d" in str(process.result)
    check(world)


@settings(max_examples=20)
@given(schedule=SCHEDULES, kills=st.dictionaries(st.sampled_from(sorted(RUNS)), st.integers(0, 25)),
       deleted=st.none() | st.tuples(st.sampled_from(["1", "2", "3"]), st.integers(0, 40)))
@pytest.mark.attack("a crash anywhere, and versions vanish")
def test_killed_anywhere_with_versions_vanishing_the_next_one_finishes_or_reverts(
        new_world: Fresh, schedule: list[str], kills: dict[str, int], deleted: tuple[str, int] | None) -> None:
    world = new_world()
    processes = {run: world.promotion(run, to) for run, to in RUNS.items()}
    for moment, run in enumerate([*schedule, *sorted(RUNS) * 40]):
        if deleted and deleted[1] == moment:
            world.registry.delete(deleted[0])
        process = processes[run]
        process.kill() if process.steps == kills.get(run) else process.step()
    for run, to in RUNS.items():
        if not isinstance(processes[run].result, Killed):
            assert processes[run].done
        # Airflow tries again; a task that is over and is cleared by hand is no different.
        again = world.promotion(run, to).run().result
        if moved_to(processes[run].result):
            assert moved_to(again) == to
        assert isinstance(again, PromotionError) or moved_to(again) == to
    moved = [move.body.to_version for move in world.state().moves]
    assert len(moved) <= 1
    if deleted is None:
        assert len(moved) == 1
    check(world)


@pytest.mark.parametrize("finisher", ["p1", "guard"])
@pytest.mark.attack("a crash at each step of a move")
def test_a_crash_between_any_two_steps(new_world: Fresh, finisher: str) -> None:
    """Version 2 replaces 1 and is killed before each of its steps in turn; its next try, or somebody else, comes along."""
    before, kill_at, killed = new_world(), 0, True
    before.promotion("p0", "1").run()
    while killed:
        world = new_world(before)
        process = world.promotion("p1", "2", "1")
        while process.steps < kill_at and not process.done:
            process.step()
        killed = not process.done
        process.kill()
        began = bool(world.state().claim) or len(world.state().moves) == 2
        if finisher == "p1":
            assert moved_to(world.promotion("p1", "2", "1").run().result) == "2"
        check(world)
        assert world.registry.aliases == {PRODUCTION: "2" if began or finisher == "p1" else "1"}
        kill_at += 1
    assert kill_at > 15


def test_who_finishes_for_another_says_so(world: World) -> None:
    process = world.promotion("p1", "1")
    while world.state().claim is None:
        process.step()
    process.kill()
    world.moves("guard").finish(MODEL)
    [move] = world.state().moves
    assert move.event.recovered and move.event.task and move.event.task.run_id == "p1"
    assert move.event.body["finished_by"] == {"dag_id": "d", "run_id": "guard", "task_id": "apply"}
    assert not world.promotion("p2", "2", "1").run().result.event.recovered


def test_a_slow_process_does_not_undo_a_newer_move(world: World) -> None:
    slow = world.promotion("p1", "1")
    while world.state().claim is None:
        slow.step()
    slow.step()  # reads its claim
    slow.step()  # and finds version 1 sound; what is next is to set the alias
    world.promotion("p2", "2", "1").run()
    assert world.registry.aliases == {PRODUCTION: "2"}
    slow.step()
    slow.step()
    assert world.registry.aliases == {PRODUCTION: "1"}  # MLflow takes the last writer's word
    assert moved_to(slow.run().result) == "1"
    assert world.registry.aliases == {PRODUCTION: "2"}
    check(world)


def test_a_version_that_vanishes_under_its_claim_is_given_up_and_stays_so(world: World) -> None:
    world.promotion("p0", "1").run()
    process = world.promotion("p1", "2", "1")
    while world.state().claim is None:
        process.step()
    world.registry.delete("2")
    reason = "the move was begun and given up: version 2 is gone from MLflow"
    for attempt in (process, world.promotion("p1", "2", "1")):
        assert str(attempt.run().result) == reason
    [reverted] = world.state().reverted
    assert (reverted.body.from_version, reverted.body.to_version, reverted.event.kind) == ("1", "2", "stage.reverted")
    assert moved_to(world.promotion("p2", "3", "1").run().result) == "3"
    check(world)


def under_claim(world: World, run: str, to: str, expected: str | None = None) -> Process:
    """A promotion whose claim stands and that has done no more."""
    process = world.promotion(run, to, expected)
    while world.state().claim is None:
        process.step()
    return process


@pytest.mark.attack("the digest tag is changed while a promotion moves")
def test_a_changed_tag_burns_no_approvals(world: World) -> None:
    """Neither before the claim nor after it: the guard puts the tag back, and the move goes on."""
    world.registry.digests["2"] = DIGESTS["3"]
    early = world.promotion("p1", "2").run().result
    assert isinstance(early, Unsettled) and str(early) == (
        f"m version 2: its tag airgate.digest in MLflow is {DIGESTS['3']}, this promotion is for {DIGESTS['2']}. The DAG "
        "registry_guard puts the tag back, or puts on record that the version was replaced: run this task again after it.")
    assert world.log.events(kind="stage.moving") == []
    world.registry.digests.clear()
    late = under_claim(world, "p1", "2")
    world.registry.digests["2"] = DIGESTS["3"]
    assert isinstance(late.run().result, Unsettled)
    assert world.state().claim is not None and world.state().reverted == ()
    world.registry.digests.clear()
    assert moved_to(world.promotion("p1", "2").run().result) == "2"
    check(world)


def test_a_replaced_version_under_its_claim_is_given_up_once_that_is_on_record(world: World) -> None:
    late = under_claim(world, "p1", "2")
    world.registry.digests["2"] = DIGESTS["3"]
    change = Change("version.replaced", MODEL, "2", {"source": "a"}, {"source": "b"})
    world.log.append(found_event(change, "none", None, occurred_at=datetime.now(UTC), source="operator"))
    assert "the move was begun and given up: m version 2" in str(late.run().result)
    assert moved_to(world.promotion("p2", "3").run().result) == "3"


def test_a_version_that_is_gone_can_be_archived(world: World) -> None:
    world.registry.delete("2")
    gone = wanted("2", stage="archived", cause="archiving")
    assert moved_to(world.moves("a").move(MODEL, gone)) == "2"
    assert world.state().archived == {"2"} and world.registry.aliases == {}


def forged(world: World, to: str, **more: Any) -> AuditEvent:
    """A claim on the chain's next link, as somebody who may append could write it."""
    before = world.state().settled
    body = wanted(to).model_copy(update={"previous": before}).model_dump(mode="json") | more
    event = AuditEvent(event_id=claim_id(MODEL, before), kind="stage.moving", occurred_at=datetime.now(UTC), model=MODEL,
                       version=to, actor=Actor(kind="system", name="x"), source="operator", body=body,
                       task=TaskRef(dag_id="d", run_id="evil", task_id="apply", try_number=1))
    world.log.append(event)
    return event


@pytest.mark.parametrize(("envelope", "why"), [
    ("none", "the promotion of version 3 to production by run evil of d is not signed. Only what Airgate signed moves a stage"),
    ("torn", "the signature of the promotion of version 3 to production by run evil of d does not count: this is no DSSE"),
    ("another move's", "does not count: it is of another move, of m, claimed by event"),
    ("its own, of another version", "does not count: the record says something else than what was signed"),
])
@pytest.mark.attack("a claim is written into the log: {envelope}")
def test_nobody_finishes_a_claim_that_is_not_signed(world: World, envelope: str, why: str) -> None:
    world.promotion("p1", "1").run()
    of_another = world.log.events(kind="stage.moving")[0].event.body["envelope"]
    claim = str(claim_id(MODEL, world.state().settled))
    of_version_2 = sign.move_envelope(MODEL, claim, wanted("2").model_dump(mode="json")).to_json()
    forged(world, "3", **{"none": {}, "torn": {"envelope": {"payload": "?"}}, "another move's": {"envelope": of_another},
                          "its own, of another version": {"envelope": of_version_2}}[envelope])
    world.moves("guard").finish(MODEL)
    assert world.registry.aliases == {PRODUCTION: "1"}
    [reverted] = world.state().reverted
    assert reverted.body.reason and why in reverted.body.reason
    assert moved_to(world.promotion("p2", "2", "1").run().result) == "2"


def test_without_a_key_nothing_moves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRGATE_MODEL_KEY")
    assert isinstance(world.promotion("p1", "1").run().result, ConfigError)
    assert world.log.events() == [] and world.registry.aliases == {}


def test_an_approved_version_that_is_gone_leaves_no_alias_and_can_be_followed(world: World) -> None:
    world.promotion("p0", "1").run()
    world.registry.delete("1")
    world.registry.aliases[PRODUCTION] = "3"
    world.moves("guard").finish(MODEL, align=[PRODUCTION])
    assert world.registry.aliases == {}
    assert moved_to(world.promotion("p1", "2", "1").run().result) == "2"


@pytest.mark.parametrize(("move", "error"), [
    (wanted("2"), "m: production is version 1 since the promotion of version 1 to production by run p0 of d, "),
    (wanted("2"), "; this promotion was asked for when it was none. Ask again."),
    (wanted("5", "1"), "version 5 of m is archived and cannot go to production: train a new one"),
    (wanted("1", "5", stage="archived", cause="archiving"),
     "version 1 of m is in production: roll back or demote first, then archive it"),
    (wanted("4", "1"), "version 4 is gone from MLflow"),
])
def test_what_cannot_move(world: World, move: object, error: str) -> None:
    world.promotion("p0", "1").run()
    world.moves("a").move(MODEL, wanted("5", stage="archived", cause="archiving"))
    world.registry.delete("4")
    with pytest.raises(PromotionError) as caught:
        world.moves("p1").move(MODEL, move)  # type: ignore[arg-type]
    assert error in str(caught.value)
    assert world.registry.aliases == {PRODUCTION: "1", "archived": "5"}
    assert world.registry.tags["5"] == {TAG: "archived"}


def test_an_alias_moved_by_hand_stops_a_promotion_and_no_rollback(world: World) -> None:
    world.promotion("p0", "1").run()
    world.promotion("p1", "2", "1").run()
    world.registry.aliases[PRODUCTION] = "4"
    refused = world.promotion("p2", "3", "2").run().result
    assert isinstance(refused, Unsettled)
    assert str(refused) == ("m: production is version 4 in MLflow by no move on record; this promotion was asked for when it was "
                            "version 2. The DAG registry_guard puts the alias back: run this task again after it.")
    assert world.moves("r").move(MODEL, wanted("1", "2", cause="rollback", reason="wrong scores")).body.cause == "rollback"
    assert world.registry.aliases == {PRODUCTION: "1"}


def test_a_demotion_leaves_production_empty(world: World) -> None:
    world.promotion("p0", "1").run()
    world.moves("d").move(MODEL, wanted(None, "1", cause="demotion"))
    assert world.registry.aliases == {} and world.registry.tags["1"] == {}
    assert world.state().live is None
    assert moved_to(world.promotion("p1", "2").run().result) == "2"


def test_somebody_who_never_stops_writing_the_alias(world: World) -> None:
    process = world.promotion("p0", "1")
    while not process.done:
        process.step()
        if world.state().claim:
            world.registry.aliases[PRODUCTION] = "4"
    assert isinstance(process.result, Unsettled)
    assert str(process.result) == (
        "m: something else keeps writing the alias production in MLflow. Only Airgate may: see 'MLflow accounts' in "
        "docs/platform.md, then run this task again.")
    assert moved_to(world.promotion("p0", "1").run().result) == "1"


@pytest.mark.attack("two promotions race, on PostgreSQL")
def test_real_writers_on_postgresql(request: pytest.FixtureRequest, new_world: Fresh) -> None:
    """The same race on the other database, with threads that really overlap."""
    url: str = request.getfixturevalue("postgres")
    superuser(url, "CREATE DATABASE moves")
    world, barrier = new_world(), Barrier(3)
    world.log = Log(url.replace("/postgres?", "/moves?"))
    world.log.create()

    def promote(run: str) -> Process:
        barrier.wait()
        return world.promotion(run, RUNS[run]).run()

    with ThreadPoolExecutor(3) as pool:
        results = {run: process.result for run, process in zip(RUNS, pool.map(promote, RUNS), strict=True)}
    [winner] = [run for run, result in results.items() if moved_to(result)]
    losers = [result for run, result in results.items() if run != winner]
    assert all(isinstance(result, Conflict) and f"by run {winner} of d" in str(result) for result in losers)
    check(world)


@pytest.mark.attack("one version archived and promoted at once")
def test_archiving_and_promoting_one_version_at_once(new_world: Fresh) -> None:
    """One chain a model, not one a stage: whichever comes first, the other is refused."""
    outcomes = set()
    for ahead in range(0, 30, 3):
        world = new_world()
        archive = Process(lambda at=world: at.moves("a").move(MODEL, wanted("1", stage="archived", cause="archiving")))
        promote = world.promotion("p", "1")
        for _ in range(ahead):
            archive.step()
        promote.run()
        archive.run()
        moved = [bool(moved_to(process.result)) for process in (archive, promote)]
        assert sorted(moved) == [False, True]
        outcomes.add(moved[0])
        assert world.registry.aliases == ({"archived": "1"} if moved[0] else {PRODUCTION: "1"})
    assert outcomes == {True, False}
