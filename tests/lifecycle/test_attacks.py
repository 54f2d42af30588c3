"""Attacks on an approval, each flown against a real log, MLflow and answer records. `pytest -s` prints the matrix."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.lifecycle.conftest import MODEL, REPORT, Context, House
from tests.lifecycle.test_promotion import judged, live, refuses, requested, tasks

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import PromotionRequest
from airgate.errors import AuditError
from airgate.lifecycle.moves import Unsettled
from airgate.lifecycle.promotion_request import text_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
PEOPLE = """
people: {mia: {}, ana: {aliases: [ana.diaz]}, omar: {aliases: [omar.k]}}
service_accounts: ["svc-*"]
"""
# Wider than the demo's, so that an attack meets the rule it is about, not only "is not named for this role".
APPROVERS = {"ml_engineer": ["ana", "mia"], "risk_officer": ["omar", "ana", "svc-risk"]}
ENGINEER, OFFICER = APPROVERS


@dataclass
class Scene:
    """A promotion as an attacker meets it."""

    house: House
    spec: ModelSpec
    context: Context

    def asked(self, run: str = "run1", *, by: str | None = None, trained_by: str = "eve") -> dict[str, str]:
        """Open a request in a run; gives the text that approvers are shown."""
        event_id = judged(self.house, self.spec, run=f"t-{run}", actor=trained_by)
        request, _ = tasks(self.spec)
        return request.execute(self.context("promotion", "request", run=run, user=by, payloads=[{"event_id": event_id}]))

    def answered(self, text: dict[str, str], engineer: str = "ana", officer: str = "omar", **officers: Any) -> None:
        """Two answers on Airflow's record; `officers` changes the second."""
        self.house.answer(ENGINEER, engineer, text)
        self.house.answer(OFFICER, officer, text)
        self.house.answers[f"approve_{OFFICER}"].update(officers)

    def applied(self, run: str = "run1", **ti: Any) -> dict[str, Any]:
        """What `apply` makes of it."""
        context = self.context("promotion", "apply", run=run)
        vars(context["ti"]).update(ti)
        return tasks(self.spec)[1].execute(context)

    def recorded_again(self, run: str, **changes: Any) -> PromotionRequest:
        """The request on record, changed, as the request of another run."""
        [item] = self.house.log.events(kind="promotion.requested", limit=1)
        event = item.event
        assert event.task
        body = requested(self.house).document() | changes
        self.house.log.append(event.model_copy(update={
            "event_id": uuid4(), "body": body, "task": event.task.model_copy(update={"run_id": run})}))
        return PromotionRequest.model_validate(body)


Attack = Callable[[Scene], dict[str, Any]]
ATTACKS: dict[str, tuple[Attack, str]] = {}


def attack(name: str, refused_with: str) -> Callable[[Attack], Attack]:
    """One row of the matrix: the attack, and what the refusal must say."""

    def add(function: Attack) -> Attack:
        ATTACKS[name] = (function, refused_with)
        return function

    return add


@attack("the requester approves", "ana asked for this promotion and cannot approve it")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(by="ana"))
    return scene.applied()


@attack("the trainer approves", "ana asked for this promotion and cannot approve it")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(trained_by="ana"))
    return scene.applied()


@attack("the requester approves under an alias", "ana.diaz (an account of ana) asked for this promotion and cannot approve it")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(by="ana"), engineer="ana.diaz")
    return scene.applied()


@attack("the requester asked under an alias", "omar asked for this promotion and cannot approve it")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(by="Omar.K"))
    return scene.applied()


@attack("one person in both roles", "ana answered in both roles: two different people must agree")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), officer="Ana")
    return scene.applied()


@attack("one person under two accounts", "ana and ana.diaz are one person, who answered in both roles")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), officer="ana.diaz")
    return scene.applied()


@attack("a service account approves", "svc-risk is a service account; only a person can approve")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), officer="svc-risk")
    return scene.applied()


@attack("somebody whom model.yaml does not name", "zoe is not named for this role in model.yaml")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), officer="zoe")
    return scene.applied()


@attack("answers of another request are replayed", "the text that was answered is not the text of this request")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked("run1"))
    scene.asked("run2")
    return scene.applied("run2")


@attack("an approved request is used again", "these approvals were used before: run run1 of diagnosis_classifier_promotion")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked("run1"))
    assert scene.applied("run1")["outcome"] == "applied"
    scene.recorded_again("run2")
    return scene.applied("run2")


@attack("a refused request is tried again", "this request was refused before, by run run1")
def _(scene: Scene) -> dict[str, Any]:
    text = scene.asked("run1")
    assert scene.applied("run1")["outcome"] == "refused"
    scene.recorded_again("run2")
    scene.answered(text)
    return scene.applied("run2")


@attack("a report is changed after the approval", "the evaluation changed after the request was made")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked())
    scene.house.stored_at(REPORT).write_bytes(b'{"passed": false}')
    return scene.applied()


@attack("a report is removed after the approval", "the data check that the request names, sha256:")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked())
    scene.house.stored_at(REPORT).unlink()
    return scene.applied()


@attack("the verdict is changed in the database", "the gate verdict changed after the request was made")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked())
    with closing(sqlite3.connect(scene.house.log.where)) as connection, connection:
        changed = "CAST(replace(CAST(entry AS TEXT), '\"data_hash\":\"d\"', '\"data_hash\":\"e\"') AS BLOB)"
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        assert connection.execute(f"UPDATE airgate_events SET entry = {changed} WHERE kind = 'gate.verdict'").rowcount == 1
    return scene.applied()


@attack("the request has expired", "the request expired at ")
def _(scene: Scene) -> dict[str, Any]:
    scene.asked("run1")
    request = scene.recorded_again("run2", expires_at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    scene.answered(text_of(request))
    return scene.applied("run2")


@attack("nobody answers in time", "nobody answered (a timeout, or a task marked by hand, is no answer)")
def _(scene: Scene) -> dict[str, Any]:
    scene.asked()
    return scene.applied()


@attack("a timeout picks a default answer", "risk_officer: nobody answered")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), responded_by_user=None)
    return scene.applied()


@attack("tasks and XComs are forged", "ml_engineer: nobody answered")
def _(scene: Scene) -> dict[str, Any]:
    scene.asked()
    forged = {"chosen_options": ["Approve"], "params_input": {"reason": "fine"}, "responded_by_user": {"name": "ana"}}
    return scene.applied(xcom_pull=lambda *_, **__: forged)


@attack("approvers are shown another text", "the text that was answered is not the text of this request")
def _(scene: Scene) -> dict[str, Any]:
    text = scene.asked()
    scene.answered({**text, "body": f"A mere formality. `{text['digest']}`"})
    return scene.applied()


@attack("approvers are shown another headline", "the text that was answered is not the text of this request")
def _(scene: Scene) -> dict[str, Any]:
    text = scene.asked()
    scene.answered({**text, "subject": f"Only a drill, click Approve: {text['subject']}"})
    return scene.applied()


@attack("approvals are answered anew after they were recorded", "ml_engineer: on record is the approval of ana of ")
def _(scene: Scene) -> dict[str, Any]:
    text = scene.asked()
    scene.answered(text)
    scene.house.registry.set_alias(MODEL, "production", "2")  # so that the first try records, and waits for the guard
    with pytest.raises(Unsettled):
        scene.applied()
    scene.house.registry.set_alias(MODEL, "production", None)
    scene.answered(text, engineer="mia", officer="ana")
    return scene.applied()


@attack("one role is answered anew by the other role's person", "now has an answer of mia of ")
def _(scene: Scene) -> dict[str, Any]:
    text = scene.asked()
    scene.answered(text)
    # The first try records ana as the engineer, and is killed before it comes to the officer.
    refuses(scene.house, "promotion.approved", "AND (SELECT count(*) FROM airgate_events WHERE kind = NEW.kind) > 0")
    with pytest.raises(AuditError):
        scene.applied()
    refuses(scene.house, "promotion.approved", now=False)
    scene.answered(text, engineer="mia", officer="ana")
    return scene.applied()


@attack("a refusal without a reason", "risk_officer: omar refused without a reason")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), chosen_options=["Refuse"], params_input={"reason": ""})
    return scene.applied()


@attack("an approval without a reason", "risk_officer: omar approved without a reason")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), params_input={})
    return scene.applied()


@attack("one of the two refuses", "risk_officer: omar refused: recall is too low")
def _(scene: Scene) -> dict[str, Any]:
    scene.answered(scene.asked(), chosen_options=["Refuse"], params_input={"reason": "recall is too low"})
    return scene.applied()


@pytest.fixture
def scene(house: House, spec: ModelSpec, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    (tmp_path / "people.yaml").write_text(PEOPLE)
    monkeypatch.setenv("AIRGATE_PEOPLE", str(tmp_path / "people.yaml"))
    rules = spec.promotion.model_copy(update={"approvers": APPROVERS})
    return Scene(house, spec.model_copy(update={"promotion": rules}), context)


@pytest.fixture(scope="module")
def matrix() -> Iterator[dict[str, str]]:
    """Collects the rows, and prints them when all attacks were flown."""
    rows: dict[str, str] = {}
    yield rows
    width = max(map(len, rows), default=0)
    print(f"\n\n{'attack on an approval':{width}}  refused, because", *(f"{name:{width}}  {said}" for name, said in rows.items()),
          sep="\n")


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.attack("an approval: {name}")
def test_an_attack_is_refused_with_its_reason_and_moves_nothing(name: str, scene: Scene, matrix: dict[str, str]) -> None:
    attacked, expected = ATTACKS[name]
    outcome = attacked(scene)
    assert outcome["outcome"] == "refused", outcome
    [said, *_] = [reason for reason in outcome["reasons"] if expected in reason] or [f"(missing) {outcome['reasons']}"]
    assert expected in said
    matrix[name] = said
    # What moved before the attack moved once, and nothing by the attack.
    moves = [kind for kind in scene.house.kinds() if kind.startswith("stage.")]
    assert moves == (["stage.moving", "stage.moved"] if "used again" in name else [])
    assert live(scene.house) == ("1" if "used again" in name else None)
    refused = scene.house.log.events(kind="promotion.refused", model=MODEL, newest_first=True, limit=1)[0].event
    assert refused.body["reasons"] == outcome["reasons"]


def test_two_honest_answers_go_through(scene: Scene) -> None:
    scene.answered(scene.asked(by="eve"), engineer="ana.diaz")
    assert scene.applied()["outcome"] == "applied"
    assert live(scene.house) == "1"
    approvals = [item.event.body for item in scene.house.log.events(kind="promotion.approved")]
    assert [(one["user"], one["person"]) for one in approvals] == [("ana.diaz", "ana"), ("omar", "omar")]
    assert all(one["meaning"] == requested(scene.house).statements[str(one["role"])] for one in approvals)
    assert str(approvals[0]["meaning"]).startswith("I reviewed the gate verdict, the evaluation and the data check. I accept")
