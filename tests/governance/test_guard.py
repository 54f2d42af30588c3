"""What the guard makes of a registry: any meddling is found, the remedies lead back, and the way back is recorded once."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.chain import MODEL, Chain, clock, digest_of

from airgate.audit.registrations import Known, Registration
from airgate.audit.registry_changes import Change, Recorded
from airgate.audit.registry_state import RegisteredVersion, RegistryState
from airgate.contracts.stages import STAGE_TAG, STAGES
from airgate.contracts.version_tags import DIGEST
from airgate.governance import guard, stages
from airgate.governance.guard import Remedy, View

LATE = clock(10_000)
VERSIONS = ("1", "2", "3")


def view(chain: Chain, aliases: dict[str, str] | None = None, **versions: dict[str, str]) -> View:
    """What MLflow says beside what the chain says; without versions those that were registered, as they were."""
    now = stages.of_events(chain.model, chain.events)
    there = versions or {f"v{one}": {} for one in VERSIONS}
    found = {}
    for name, tags in there.items():
        one = name.removeprefix("v")
        shown = now.stage_of(one)
        found[one] = RegisteredVersion(one, {DIGEST: digest_of(one), **({STAGE_TAG: shown} if shown else {}), **tags})
    log = Known({one: Registration(one, {DIGEST: digest_of(one)}, signed=True) for one in VERSIONS})
    return View(RegistryState(chain.model, found, aliases or {}), log, now)


def promoted(*versions: str) -> Chain:
    chain = Chain()
    for minute, version in enumerate(versions):
        chain.move(version, minute * 60, model_digest=digest_of(version))
    return chain


def test_nothing_is_found_where_nothing_was_done() -> None:
    assert guard.changes(view(Chain()), LATE) == []
    assert guard.changes(view(promoted("1", "2"), {"production": "2"}), LATE) == []


def test_each_stage_has_the_alias_that_the_log_says() -> None:
    chain = promoted("1")
    chain.move("2", 120, stage="staging", model_digest=digest_of("2"))
    seen = view(chain, {"production": "1", "staging": "2"})
    assert guard.changes(seen, LATE) == []
    strange = replace(seen, state=replace(seen.state, aliases={"development": "3", "staging": "1"}))
    assert guard.changes(strange, LATE) == [
        Change("alias.changed", MODEL, "development", None, "3"), Change("alias.changed", MODEL, "staging", "2", "1"),
        Change("alias.changed", MODEL, "production", "1", None)]
    assert [guard.remedy(change, strange) for change in guard.changes(strange, LATE)] == [
        Remedy("align", "the alias is removed"), Remedy("align", "the alias is set to version 2 again"),
        Remedy("align", "the alias is set to version 1 again")]


def test_an_approved_version_that_mlflow_has_under_another_digest_gets_no_alias() -> None:
    chain = Chain()
    chain.move("1", 0, model_digest="sha256:" + "f" * 64)
    seen = view(chain, {"production": "1"})
    [change] = guard.changes(seen, LATE)
    assert change == Change("alias.changed", MODEL, "production", "1", "1")
    assert guard.remedy(change, seen).text == "the alias is removed: version 1 is not in MLflow as it was approved"


def test_a_move_that_is_under_way_is_left_alone_and_one_that_was_left_is_not() -> None:
    chain = promoted("1")
    chain.move("2", 500, model_digest=digest_of("2"), settles=False)
    for alias in ("1", "2", "3"):
        assert guard.changes(view(chain, {"production": alias}), clock(500)) == []
    assert guard.changes(view(chain, {"production": "3", "staging": "1"}), clock(500)) == [
        Change("alias.changed", MODEL, "staging", None, "1")]
    now = stages.of_events(MODEL, chain.events)
    assert now.claim is not None
    over = now.claim.stored_at + guard.UNDER_WAY
    assert not guard.is_left(now, over)
    assert guard.is_left(now, over + timedelta(seconds=1))
    assert len(guard.changes(view(chain, {"production": "2"}), LATE)) == 1


def test_what_losing_a_version_means() -> None:
    seen = view(promoted("1", "2"), {}, v1={}, v3={})
    [change] = guard.changes(seen, LATE)
    assert (change.what, change.subject) == ("version.deleted", "2")
    assert guard.remedy(change, seen) == Remedy("none", (
        "MLflow cannot bring it back. It stands in production: nothing is scored with it any more. Go back to the version "
        f"before with the DAG {MODEL}_rollback, or promote another"))
    assert guard.remedy(Change("version.deleted", MODEL, "3"), seen).text == "none: MLflow cannot bring it back"


def test_what_stands_in_no_stage_and_is_shown_in_one() -> None:
    seen = view(promoted("1"), {"production": "1"}, v1={}, v2={STAGE_TAG: "production"}, v3={})
    assert guard.changes(seen, LATE) == [
        Change("tags.changed", MODEL, "2", {STAGE_TAG: None}, {STAGE_TAG: "production"})]
    assert list(guard.unshown(seen)) == []
    bare = replace(seen, state=replace(seen.state, versions={"1": RegisteredVersion("1", {DIGEST: digest_of("1")})}))
    assert list(guard.unshown(bare)) == [("1", "production")]


def test_a_record_is_closed_when_nothing_of_its_kind_is_there() -> None:
    there, gone = Change("alias.created", MODEL, "a", None, "1"), Change("alias.created", MODEL, "b", None, "1")
    done = Change("alias.created", MODEL, "c", None, "1")
    on_record = {one.key: Recorded("id", one, restored=one is done) for one in (there, gone, done)}
    assert [one.change for one in guard.closed(on_record, [there])] == [gone]


def test_a_version_is_blocked_while_a_record_says_that_it_is_gone() -> None:
    lost = Change("version.deleted", MODEL, "2", "d")
    assert guard.blocking({}, "2") is None
    assert guard.blocking({lost.key: Recorded("e1", lost, restored=True)}, "2") is None
    assert guard.blocking({lost.key: Recorded("e1", lost, restored=False)}, "1") is None
    assert guard.blocking({lost.key: Recorded("e1", lost, restored=False)}, "2") == (
        f"{MODEL} version 2 was registered by the log's word, but MLflow no longer has it (event e1, registry.changed). Nothing "
        f"is scored with it: go back to the version before with the DAG {MODEL}_rollback, or promote another.")


class Mlflow:
    """A registry that anybody may write to, as MLflow behaves."""

    def __init__(self, state: RegistryState) -> None:
        self.versions = {one: dict(found.tags) for one, found in state.versions.items()}
        self.aliases = dict(state.aliases)

    def state(self) -> RegistryState:
        return RegistryState(MODEL, {one: RegisteredVersion(one, dict(tags)) for one, tags in self.versions.items()},
                             dict(self.aliases))

    def delete(self, version: str) -> None:
        self.versions.pop(version, None)
        self.aliases = {alias: there for alias, there in self.aliases.items() if there != version}

    def point(self, alias: str, version: str) -> None:
        if version in self.versions:
            self.aliases[alias] = version

    def tag(self, version: str, name: str, text: str | None) -> None:
        if version in self.versions:
            self.versions[version].pop(name, None)
            if text is not None:
                self.versions[version][name] = text


_version = st.sampled_from(VERSIONS)
_meddling: st.SearchStrategy[Callable[[Mlflow], None]] = st.one_of(
    st.builds(lambda alias, version: lambda one: one.point(alias, version), st.sampled_from([*STAGES, "champion"]), _version),
    st.builds(lambda alias: lambda one: one.aliases.pop(alias, None), st.sampled_from(STAGES)),
    st.builds(lambda version, name, text: lambda one: one.tag(version, name, text), _version,
              st.sampled_from([DIGEST, STAGE_TAG, "airgate.more"]), st.sampled_from([None, "x", "production", digest_of("2")])),
    st.builds(lambda version: lambda one: one.delete(version), _version),
    st.just(lambda one: one.versions.setdefault("4", {DIGEST: digest_of("2")})),
)


@settings(max_examples=150)
@given(st.lists(_version, max_size=3), st.lists(_meddling, max_size=6))
def test_whatever_is_done_to_it_the_remedies_lead_back_to_what_the_log_says(
        moves: list[str], meddling: list[Callable[[Mlflow], None]]) -> None:
    live = moves[-1] if moves else None
    before = view(promoted(*moves), {"production": live} if live else {})
    mlflow = Mlflow(before.state)
    assert guard.changes(before, LATE) == []
    for meddle in meddling:
        meddle(mlflow)
    found = replace(before, state=mlflow.state())
    touched = deepcopy(mlflow)
    for change in guard.changes(found, LATE):
        action = guard.remedy(change, found).action
        if action == "set_tags":
            for name, text in change.before.items():
                mlflow.tag(change.subject, name, text)
        elif action == "align":
            approved = found.approved(change.subject)
            mlflow.aliases.pop(change.subject, None)
            if approved is not None:
                mlflow.point(change.subject, approved)
    after = replace(found, state=mlflow.state())
    assert all(guard.remedy(change, after).action == "none" for change in guard.changes(after, LATE))
    assert mlflow.aliases.get("production") == (live if live in mlflow.versions else None)
    assert mlflow.aliases.keys() <= {"production", "champion"}
    assert mlflow.versions.keys() == touched.versions.keys()
    for version in mlflow.versions.keys() - {"4"}:
        assert mlflow.versions[version][DIGEST] == digest_of(version)
        assert mlflow.versions[version].get(STAGE_TAG) in (None, "production" if version == live else None)
