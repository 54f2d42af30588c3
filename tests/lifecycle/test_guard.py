"""The guard against a real MLflow, on SQLite and on PostgreSQL: what was done by hand is found, recorded once, and undone."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from json import dumps
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.audit.conftest import postgres, superuser  # noqa: F401  a fixture
from tests.lifecycle.moved import model_key  # noqa: F401  a fixture

from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of
from airgate.audit.mlflow_account import MlflowAccount
from airgate.audit.registry_changes import GUARD, records
from airgate.audit.store import AuditStore
from airgate.audit.versions import judge
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.stages import StageMove
from airgate.governance import guard, stages
from airgate.lifecycle import sign
from airgate.lifecycle.guard import Guard, Watched
from airgate.lifecycle.moves import Author, Moves
from airgate.registry.versions import Registry
from airgate.signatures import statement

pytestmark = [pytest.mark.usefixtures("model_key"),
              pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")]
NOW = datetime(2026, 1, 9, tzinfo=UTC)
_numbers = count()


def files_of(version: str) -> dict[str, str]:
    return {"model.ubj": "sha256:" + version.rjust(64, "0")}


DIGESTS = {str(number): manifest_digest(files_of(str(number))) for number in range(1, 10)}


def author(name: str = "guard") -> Author:
    return Author(GUARD, TaskRef(dag_id="registry_guard", run_id=name, task_id="guard", try_number=1))


def later() -> datetime:
    """So late that every move is long over."""
    return datetime.now(UTC) + guard.UNDER_WAY * 2


@pytest.fixture(scope="module")
def log() -> Iterator[AuditStore]:
    """In memory where there is a place for files in it: nothing here pulls the plug."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        store = AuditStore(f"sqlite:///{folder}/audit.db")
        store.create()
        yield store


@pytest.fixture(scope="module", params=["sqlite"])
def mlflow_uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
        path.write_bytes(request.getfixturevalue("mlflow_template").read_bytes())
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("postgres")
    superuser(url, "CREATE DATABASE mlflow")
    return url.replace("/postgres?", "/mlflow?").replace("postgresql://", "postgresql+psycopg2://")


# What MLflow itself does differs by what is behind it; what the guard makes of it does not.
on_both = pytest.mark.parametrize("mlflow_uri", ["sqlite", "postgresql"], indirect=True)


@dataclass
class Place:
    """One model in a log and an MLflow that it shares with others."""

    model: str
    log: AuditStore
    uri: str
    told: list[Watched] = field(default_factory=list)
    clock: Callable[[], datetime] = later

    def __post_init__(self) -> None:
        from mlflow.tracking import MlflowClient

        self.mlflow = MlflowClient(self.uri, self.uri)
        self.registry, self.account = Registry(self.uri), MlflowAccount(self.uri)
        self.mlflow.create_registered_model(self.model)

    def train(self, version: str, *, signed: bool = True) -> None:
        """A training registered this version, as log and MLflow have it."""
        digest, run = DIGESTS[version], f"t{version}"
        tags = {"airgate.digest": digest, "airgate.dag_id": f"{self.model}_training", "airgate.training_run": run,
                "airgate.window_end": "2026-01-09"}
        made = self.mlflow.create_model_version(self.model, f"file:///{self.model}/{version}", tags=tags)
        assert made.version == int(version)
        self.write("task.succeeded", version, run, function="airgate.steps.register:register", facts={"model_digest": digest})
        about = statement.Registration(model=self.model, version=version, model_digest=digest, tags=tags, training_run=run,
                                       mlflow_run_id="", source=made.source, register_event="e", environment="development")
        envelope = statement.sign(statement.Statement(files=files_of(version), predicate=about), sign.own_signer()).to_json()
        if signed:
            self.write("model.signed", version, run, statement="registration", envelope=envelope, model_digest=digest)

    def write(self, kind: Any, version: str, run: str, **body: Any) -> None:
        task = TaskRef(dag_id=f"{self.model}_training", run_id=run, task_id=kind, try_number=1)
        self.log.append(AuditEvent(event_id=event_id_of(kind, self.model, run), kind=kind, occurred_at=NOW, task=task, body=body,
                                   model=self.model, version=version, actor=Actor(kind="user", name="mia"), source="operator"))

    def move(self, version: str | None, stage: str = "production", cause: Any = "promotion") -> None:
        """A move on record, by the only way there is."""
        before = stages.read(self.log, self.model).state(stage).version
        digest = DIGESTS[version] if version else None
        wanted = StageMove(cause=cause, stage=stage, from_version=before, to_version=version, model_digest=digest)
        Moves(self.log, self.registry, author(f"move{next(_numbers)}")).move(self.model, wanted)

    def watch(self, registry: Any = None) -> Watched:
        watcher = Guard(self.log, self.account, registry or self.registry, author(), tell=self.told.append, clock=self.clock)
        return watcher.watch(self.model)

    def aliases(self) -> dict[str, str]:
        return dict(self.account.state(self.model).aliases)

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.account.state(self.model).versions[version].tags)

    def recorded(self) -> list[tuple[Any, ...]]:
        """What is on record: what, about what, before, after, restored."""
        bodies = [item.event.body for item in self.log.events(model=self.model, kind="registry.changed")]
        return [tuple(body[key] for key in ("what", "subject", "before", "after", "restored")) for body in bodies]


@pytest.fixture
def place(log: AuditStore, mlflow_uri: str) -> Place:
    return Place(f"m{next(_numbers)}", log, mlflow_uri)


@pytest.fixture
def live(place: Place) -> Place:
    """Two versions, the second in production."""
    place.train("1")
    place.train("2")
    place.move("2")
    assert place.aliases() == {"production": "2"}
    return place


def test_what_was_promoted_is_left_alone(live: Place) -> None:
    seen = live.watch()
    assert (seen.versions, seen.found, seen.restored, seen.failed) == (2, [], [], [])
    assert (live.recorded(), live.told) == ([], [])


@on_both
@pytest.mark.attack("the alias is moved by hand")
def test_an_alias_moved_by_hand_is_put_back_and_is_on_record_before_and_after(live: Place) -> None:
    live.mlflow.set_registered_model_alias(live.model, "production", "1")
    seen = live.watch()
    assert live.aliases() == {"production": "2"}
    assert live.recorded() == [("alias.changed", "production", "2", "1", False), ("alias.changed", "production", "2", "1", True)]
    assert seen.lines() == [f"{live.model} production is version 1 in MLflow, the last move on record put version 2 there; "
                            "the alias is set to version 2 again"]
    assert live.told == [seen]
    assert live.watch().found == []


def test_the_same_change_a_second_time_is_a_second_record(live: Place) -> None:
    for _ in range(2):
        live.mlflow.set_registered_model_alias(live.model, "production", "1")
        live.watch()
    assert [one[-1] for one in live.recorded()] == [False, True, False, True]


@on_both
@pytest.mark.attack("the alias is taken away, or put on another stage")
def test_an_alias_taken_away_and_one_that_nobody_put_there(live: Place) -> None:
    live.mlflow.delete_registered_model_alias(live.model, "production")
    live.mlflow.set_registered_model_alias(live.model, "staging", "1")
    seen = live.watch()
    assert live.aliases() == {"production": "2"}
    assert [line.split("; ")[1] for line in seen.lines()] == ["the alias is removed", "the alias is set to version 2 again"]


def test_an_alias_that_is_no_stage_is_told_once_and_left(live: Place) -> None:
    live.mlflow.set_registered_model_alias(live.model, "champion", "1")
    assert [change.what for change, _ in live.watch().found] == ["alias.created"]
    assert live.watch().found == []
    live.mlflow.set_registered_model_alias(live.model, "champion", "2")
    assert live.watch().lines() == [
        f"{live.model} alias champion names version 2 in MLflow; it is none of Airgate's stages; left as it is: Airgate loads "
        "nothing by it"]
    live.mlflow.delete_registered_model_alias(live.model, "champion")
    live.watch()
    assert [one[3:] for one in live.recorded()] == [("1", False), ("2", False), ("2", True)]
    assert live.aliases() == {"production": "2"}


@on_both
def test_tags_of_ours_are_set_again_and_those_of_others_stay(live: Place) -> None:
    for tag, text in {"airgate.digest": DIGESTS["1"], "airgate.stage": "archived", "airgate.more": "x", "team": "risk"}.items():
        live.mlflow.set_model_version_tag(live.model, "2", tag, text)
    live.mlflow.delete_model_version_tag(live.model, "2", "airgate.window_end")
    before = live.tags("2")
    seen = live.watch()
    assert before["airgate.digest"] == DIGESTS["1"]
    assert live.tags("2") == {
        "airgate.digest": DIGESTS["2"], "airgate.dag_id": f"{live.model}_training", "airgate.training_run": "t2",
        "airgate.window_end": "2026-01-09", "airgate.stage": "production", "team": "risk"}
    assert live.aliases() == {"production": "2"}
    assert [(change.what, change.subject) for change in seen.restored] == [("tags.changed", "2")]
    assert live.recorded()[0][2:4] == (
        {"airgate.digest": DIGESTS["2"], "airgate.more": None, "airgate.stage": "production", "airgate.window_end": "2026-01-09"},
        {"airgate.digest": DIGESTS["1"], "airgate.more": "x", "airgate.stage": "archived", "airgate.window_end": None})


@pytest.mark.attack("the digest tag and the alias are changed at once")
def test_digest_and_alias_changed_at_once_are_both_put_back(live: Place) -> None:
    live.mlflow.set_registered_model_alias(live.model, "production", "1")
    live.mlflow.set_model_version_tag(live.model, "2", "airgate.digest", "sha256:forged")
    seen = live.watch()
    assert (len(seen.restored), seen.failed) == (2, [])
    assert (live.aliases(), live.tags("2")["airgate.digest"]) == ({"production": "2"}, DIGESTS["2"])


def test_a_stage_tag_that_is_not_there_is_set_without_a_word(live: Place) -> None:
    live.mlflow.delete_model_version_tag(live.model, "2", "airgate.stage")
    assert live.watch().found == []
    assert live.tags("2")["airgate.stage"] == "production"


def test_a_version_from_before_signatures_has_its_digest_and_run_guarded(place: Place) -> None:
    place.train("1", signed=False)
    place.move("1")
    place.mlflow.set_model_version_tag(place.model, "1", "airgate.digest", "sha256:forged")
    place.mlflow.delete_model_version_tag(place.model, "1", "airgate.training_run")
    place.watch()
    assert (place.tags("1")["airgate.digest"], place.tags("1")["airgate.training_run"]) == (DIGESTS["1"], "t1")
    assert place.aliases() == {"production": "1"}


@on_both
@pytest.mark.attack("a version is made by hand")
def test_a_version_made_by_hand_is_told_once_and_left(live: Place) -> None:
    live.mlflow.create_model_version(live.model, "s3://mine", tags=live.tags("2"))
    [line] = live.watch().lines()
    assert line == (f"{live.model} version 3 is in MLflow, but no training on record registered it; left as it is: no promotion "
                    "takes it, and nothing is scored with it")
    assert live.watch().found == []
    assert live.recorded()[0][3]["source"] == "s3://mine"


@on_both
@pytest.mark.attack("the approved version is deleted")
def test_an_approved_version_that_was_deleted_blocks_and_takes_its_alias_along(live: Place) -> None:
    live.mlflow.delete_model_version(live.model, "2")
    seen = live.watch()
    assert live.aliases() == {}
    assert seen.lines() == [
        f"{live.model} version 2 was registered by the log's word, but MLflow no longer has it; MLflow cannot bring it back. It "
        f"stands in production: nothing is scored with it any more. Go back to the version before with the DAG "
        f"{live.model}_rollback, or promote another"]
    on_record = records(live.log, live.model)
    event = on_record["version.deleted", "2"].event_id
    assert guard.blocking(on_record, "1") is None
    assert guard.blocking(on_record, "2") == (
        f"{live.model} version 2 was registered by the log's word, but MLflow no longer has it (event "
        f"{event}, registry.changed). Nothing is scored with it: go back to the version "
        f"before with the DAG {live.model}_rollback, or promote another.")
    live.mlflow.set_registered_model_alias(live.model, "production", "1")
    assert live.watch().lines() == [
        f"{live.model} production is version 1 in MLflow, the last move on record put version 2 there; the alias is removed: "
        "version 2 is not in MLflow as it was approved"]
    assert live.aliases() == {}
    live.move("1", cause="rollback")
    assert live.watch().found == []
    assert live.aliases() == {"production": "1"}


@on_both
@pytest.mark.attack("the model is deleted and made again")
def test_a_model_deleted_and_made_again_is_not_the_one_that_was_approved(live: Place) -> None:
    live.mlflow.delete_registered_model(live.model)
    assert [change.what for change, _ in live.watch().found] == ["model.deleted"]
    assert live.watch().found == []
    assert guard.blocking(records(live.log, live.model), "2") is not None
    live.mlflow.create_registered_model(live.model)
    for version in ("1", "2"):
        tags = {"airgate.digest": DIGESTS[version], "airgate.dag_id": f"{live.model}_training",
                "airgate.training_run": f"t{version}", "airgate.window_end": "2026-01-09"}
        live.mlflow.create_model_version(live.model, "s3://mine", tags=tags)
    live.mlflow.set_registered_model_alias(live.model, "production", "2")
    assert [(change.what, change.subject) for change, _ in live.watch().found] == [
        ("version.replaced", "1"), ("version.replaced", "2")]
    assert "version 2 in MLflow is another than the one that was registered" in str(
        guard.blocking(records(live.log, live.model), "2"))


@on_both
def test_a_model_renamed_and_renamed_back(live: Place) -> None:
    live.mlflow.rename_registered_model(live.model, live.model + "-away")
    assert [change.what for change, _ in live.watch().found] == ["model.deleted"]
    live.mlflow.rename_registered_model(live.model + "-away", live.model)
    live.watch()
    assert [one[-1] for one in live.recorded() if one[0] == "model.deleted"] == [False, True]
    assert guard.blocking(records(live.log, live.model), "2") is None
    assert live.aliases() == {"production": "2"}


def test_mlflows_own_stage_is_told(live: Place) -> None:
    live.mlflow.transition_model_version_stage(live.model, "1", "Production")
    assert [change.what for change, _ in live.watch().found] == ["stage.set"]
    assert live.watch().found == []


class Killed(BaseException):
    """As SIGKILL would end a process."""


class Interrupted(Registry):
    """A registry that lets something happen just before an alias is written, once."""

    def __init__(self, uri: str, meanwhile: Callable[[], None]) -> None:
        super().__init__(uri)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        super().set_alias(model, alias, version)


@on_both
@pytest.mark.attack("a slow guard meets a promotion")
def test_a_guard_that_is_slow_does_not_undo_a_promotion(live: Place) -> None:
    live.train("3")
    live.mlflow.set_registered_model_alias(live.model, "production", "1")

    def promoted() -> None:
        live.mlflow.set_registered_model_alias(live.model, "production", "2")
        live.move("3")

    live.watch(Interrupted(live.uri, promoted))
    assert live.aliases() == {"production": "3"}
    assert live.watch().found == []


def test_a_guard_killed_between_record_and_remedy_is_followed_by_another(live: Place) -> None:
    def killed() -> None:
        raise Killed

    live.mlflow.set_registered_model_alias(live.model, "production", "1")
    with pytest.raises(Killed):
        live.watch(Interrupted(live.uri, killed))
    assert live.recorded() == [("alias.changed", "production", "2", "1", False)]
    assert len(live.told) == 1
    assert live.watch().found == []
    assert live.recorded()[1:] == [("alias.changed", "production", "2", "1", True)]
    assert live.aliases() == {"production": "2"}


def claim(place: Place, version: str) -> None:
    """A promotion that is killed just after it has told the log what it is about to do."""
    def killed() -> None:
        raise Killed

    wanted = StageMove(from_version="2", to_version=version, model_digest=DIGESTS[version])
    with pytest.raises(Killed):
        Moves(place.log, Interrupted(place.uri, killed), author(f"move{next(_numbers)}")).move(place.model, wanted)


def test_an_alias_inside_a_move_is_no_finding_and_a_move_that_was_left_is_finished(live: Place) -> None:
    live.train("3")
    claim(live, "3")
    live.mlflow.set_registered_model_alias(live.model, "production", "3")
    live.clock = lambda: datetime.now(UTC)
    assert live.watch().found == []
    assert stages.read(live.log, live.model).claim is not None
    live.clock = later
    assert live.watch().found == []
    assert stages.read(live.log, live.model).state().version == "3"
    assert live.aliases() == {"production": "3"}


@pytest.mark.attack("the digest tag of a version is changed while it moves, and the mover is killed")
def test_a_move_that_was_left_is_finished_once_its_tag_is_put_back(live: Place) -> None:
    live.train("3")
    claim(live, "3")
    live.mlflow.set_model_version_tag(live.model, "3", "airgate.digest", "sha256:forged")
    seen = live.watch()
    assert [change.what for change in seen.restored] == ["tags.changed"]
    assert (live.aliases(), live.tags("3")["airgate.digest"]) == ({"production": "3"}, DIGESTS["3"])
    assert stages.read(live.log, live.model).state().version == "3"


@pytest.mark.attack("a model is made again while one of its versions moves")
def test_a_move_that_was_left_is_given_up_once_it_is_on_record_that_its_version_was_replaced(live: Place) -> None:
    live.train("3")
    claim(live, "3")
    live.mlflow.delete_registered_model(live.model)
    live.mlflow.create_registered_model(live.model)
    for number in (1, 2, 3):
        live.mlflow.create_model_version(live.model, f"s3://mine/{number}")
    live.watch()
    now = stages.read(live.log, live.model)
    assert (now.claim, now.state().version, len(now.reverted)) == (None, "2", 1)
    assert live.aliases() == {}


@pytest.mark.attack("moves are written into the log: people are told")
def test_what_somebody_wrote_about_a_stage_is_an_alarm_once(live: Place) -> None:
    task = {"event_id": uuid4(), "kind": "stage.moved", "occurred_at": NOW, "actor": GUARD, "source": "operator"}
    live.log.append(AuditEvent(**task, model=live.model, version="1", body={"cause": "hm"}))
    last = stages.read(live.log, live.model).settled
    link = stages.settling_id(stages.claim_id(live.model, last))
    live.log.append(AuditEvent(**{**task, "event_id": link}, model=live.model, version="1",
                               body={"to_version": "1", "model_digest": DIGESTS["1"], "previous": last}))
    live.watch()
    alarms = [item.event.body["what"] for item in live.log.events(kind="audit.alarm", model=live.model)]
    assert len(alarms) == 2 and "Airgate did not write it, and it counts for nothing" in alarms[0]
    assert "the promotion of version 1 to production is not signed. Only what Airgate signed moves a stage" in alarms[1]
    assert live.told[0].forged == alarms
    live.watch()
    assert len(live.log.events(kind="audit.alarm", model=live.model)) == 2


def test_two_guards_at_once_write_one_record(live: Place) -> None:
    live.mlflow.set_registered_model_alias(live.model, "production", "1")
    live.watch(Interrupted(live.uri, lambda: live.watch() and None))
    assert live.recorded() == [("alias.changed", "production", "2", "1", False), ("alias.changed", "production", "2", "1", True)]


def test_the_hourly_comparison_agrees_and_says_nothing_twice(live: Place) -> None:
    live.mlflow.create_model_version(live.model, "s3://mine")
    live.mlflow.set_registered_model_alias(live.model, "champion", "1")
    live.mlflow.set_model_version_tag(live.model, "1", "airgate.digest", "forged")
    live.mlflow.delete_model_version(live.model, "2")
    hourly = [finding.line for finding in judge(live.model, live.account, live.log)[1]]
    assert len(hourly) == 3
    assert set(hourly) < {change.line() for change, _ in live.watch().found}
    assert judge(live.model, live.account, live.log, later())[1] == []


def test_what_looks_like_a_secret_or_is_long_is_not_copied_into_the_log(live: Place) -> None:
    live.mlflow.set_model_version_tag(live.model, "1", "airgate.api_token", "hunter2")
    live.mlflow.set_model_version_tag(live.model, "1", "airgate.long", "x" * 4000)
    live.watch()
    [(_, _, _, after, _), _] = live.recorded()
    assert "hunter2" not in dumps(after)
    assert after["airgate.long"].startswith("x" * 300 + "... (4000 characters, sha256 ")
    assert "airgate.api_token" not in live.tags("1")


def test_a_stage_of_a_version_that_moved_just_now_is_not_judged(live: Place) -> None:
    live.mlflow.set_model_version_tag(live.model, "1", "airgate.stage", "production")
    live.clock = lambda: datetime.now(UTC) - timedelta(seconds=1)
    assert live.watch().found == []
    live.clock = later
    assert [change.what for change in live.watch().restored] == ["tags.changed"]


def test_the_folder_of_a_registry_that_nobody_made_stays_empty(log: AuditStore, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    watcher = Guard(log, MlflowAccount(uri), Registry.__new__(Registry), author())
    assert watcher.watch("never made") == Watched("never made")
    assert list(tmp_path.iterdir()) == []
