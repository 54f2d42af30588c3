from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from tests.lifecycle.conftest import DIGEST, MODEL, Context, House
from tests.lifecycle.test_promotion import live, promote

from airgate.audit.event import Actor, AuditEvent, TaskRef
from airgate.audit.registry_changes import Change, found_event
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.stages import StageMove
from airgate.governance import manual, stages
from airgate.lifecycle.rollback import ChangeStage, CloseReview

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class Desk:
    """Where somebody starts the rollback DAG, and somebody else reviews."""

    def __init__(self, house: House, spec: ModelSpec, context: Context) -> None:
        self.house, self.spec, self.context = house, spec, context
        with DAG(f"{MODEL}_rollback"):
            self.change_task, self.close_task = ChangeStage(task_id="change", spec=spec), CloseReview(task_id="close", spec=spec)

    def promoted(self, *versions: str) -> "Desk":
        for version in versions:
            promote(self.house, self.spec, self.context, version, f"p{version}")
        return self

    def started(self, task: str, run: str, user: str | None, asked: datetime | None = None, clears: int = 0,
                **params: Any) -> dict[str, Any]:
        made = self.context("rollback", task, run=run, user=user,
                            params={"action": "rollback", "version": None, "reason": "the scores are off", **params})
        made["dag_run"].run_after = asked or datetime.now(UTC) + timedelta(seconds=1)
        made["dag_run"].clear_number = clears
        return made

    def change(self, run: str = "r1", user: str | None = "ana", **more: Any) -> dict[str, str]:
        return self.change_task.execute(self.started("change", run, user, **more))

    def reviewed(self, user: str, text: dict[str, str], option: str = "Agree") -> None:
        self.house.answers["review"] = {
            "subject": text["subject"], "body": text["body"], "response_received": True, "chosen_options": [option],
            "params_input": {"reason": "saw it too"}, "responded_by_user": {"id": user, "name": user},
            "responded_at": datetime.now(UTC).isoformat()}

    def close(self, run: str = "r1") -> dict[str, Any]:
        return self.close_task.execute(self.started("close", run, "ana"))


@pytest.fixture
def desk(house: House, spec: ModelSpec, context: Context) -> Desk:
    return Desk(house, spec, context)


def test_one_person_goes_back_to_the_version_before_and_another_reviews_it(desk: Desk, house: House) -> None:
    text = desk.promoted("1", "2").change()
    assert live(house) == "1"
    first, _, back = house.log.events(kind="stage.moved")
    assert (back.event.actor.kind, back.event.actor.name, back.event.body["reason"]) == ("user", "ana", "the scores are off")
    assert (back.event.body["approved_by"], back.event.body["request_digest"]) == (
        str(first.event.event_id), first.event.body["request_digest"])
    assert back.event.body["signature"] == first.event.body["signature"]
    assert b"scores are off" not in back.entry and b'"ana"' not in back.entry
    assert text["subject"] == f"review: rollback of {MODEL} version 1"
    assert "**ana** made this rollback at " in text["body"]
    assert "production held version 2 and holds version 1 now." in text["body"]
    assert house.registry.version(MODEL, "1").tags["airgate.stage"] == "production"
    assert "airgate.stage" not in house.registry.version(MODEL, "2").tags
    desk.reviewed("omar", text)
    assert desk.close()["answer"] == "agreed"
    [reviewed] = house.log.events(kind="stage.reviewed")
    assert (reviewed.event.actor.name, reviewed.event.body["move"]) == ("omar", str(back.event.event_id))
    assert b"saw it too" not in reviewed.entry


def test_a_repeated_task_goes_back_once(desk: Desk, house: House) -> None:
    first = desk.promoted("1", "2").change()
    assert desk.change() == first
    assert live(house) == "1" and house.kinds().count("stage.moved") == 3


@pytest.mark.parametrize(("user", "said"), [
    ("mia", "whoever started this run may not change a stage alone. Allowed: the people"),
    (None, "this run was started by an asset; a person must answer for it.")])
def test_who_may_not(desk: Desk, house: House, user: str | None, said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        desk.promoted("1", "2").change(user=user)
    assert live(house) == "2"


def test_two_people_in_one_emergency_go_back_one_version_not_two(desk: Desk, house: House) -> None:
    seen = datetime.now(UTC)
    desk.promoted("1", "2").change("r1", "ana")
    with pytest.raises(AirflowFailException, match=r"production of .* moved after you asked: rollback of version 1 to production "
                                                   r"by run r1 of diagnosis_classifier_rollback\. Look again"):
        desk.change("r2", "omar", asked=seen)
    assert live(house) == "1"


def test_a_demotion_leaves_nothing_live_and_a_rollback_comes_back_from_it(desk: Desk, house: House) -> None:
    desk.promoted("1", "2").change("r1", action="demote", version="2")
    assert live(house) is None
    assert stages.read(house.log, MODEL).state().version is None
    desk.change("r2")
    assert live(house) == "1"


def test_an_archived_version_is_never_live_again(desk: Desk, house: House) -> None:
    desk.promoted("1", "2").change("r1", action="archive", version="1")
    assert house.registry.version(MODEL, "1").tags["airgate.stage"] == "archived"
    assert "1" in stages.read(house.log, MODEL).archived
    with pytest.raises(AirflowFailException, match="has no approved version before version 2"):
        desk.change("r2")
    with pytest.raises(AirflowFailException, match="version 2 of .* is in production: roll back or demote first"):
        desk.change("r3", action="archive", version="2")
    with pytest.raises(AirflowFailException, match="the audit log knows no version 9 of .*, so it cannot be archived"):
        desk.change("r4", action="archive", version="9")
    assert live(house) == "2"


@pytest.mark.attack("rollback: a failed run of another person is cleared, to act in that person's name")
def test_a_failed_run_does_not_act_later(desk: Desk, house: House) -> None:
    """Ana's archiving of what was live failed; after omar's rollback it would go through, whoever clears it."""
    asked = datetime.now(UTC)
    desk.promoted("1", "2")
    asking = {"action": "archive", "version": "2"}
    with pytest.raises(AirflowFailException, match="version 2 of .* is in production: roll back or demote first"):
        desk.change("r1", **asking)
    desk.change("r2", "omar")
    for told, said in (({"clears": 1, "asked": asked}, "this run was cleared, and it would act in the name of"),
                       ({"asked": asked}, r"production of .* moved after you asked: rollback of version 1"),
                       ({"asked": asked - timedelta(hours=2)}, "more than an hour ago")):
        with pytest.raises(AirflowFailException, match=said):
            desk.change("r1", **asking, **told)
    path = f"/api/v2/dags/{MODEL}_rollback/dagRuns/r1/taskInstances/change"
    house.log.append_many(manual.events(manual.classify("DELETE", path), Actor(kind="user", name="mia"), "7", None))
    with pytest.raises(AirflowFailException, match="this run was changed by somebody else"):
        desk.change("r1", **asking)
    assert "2" not in stages.read(house.log, MODEL).archived


@pytest.mark.attack("rollback: the version before is deleted in MLflow")
def test_the_version_before_is_gone(desk: Desk, house: House) -> None:
    """A rollback goes further back, and says what it went past."""
    client = house.registry._client
    client.create_model_version(MODEL, source=client.get_model_version(MODEL, "1").source, tags={"airgate.digest": DIGEST})
    desk.promoted("1", "2", "3")
    client.delete_model_version(MODEL, "2")
    text = desk.change()
    assert live(house) == "1"
    passed = "version 2: it is gone from MLflow, or its digest there was changed"
    assert house.log.events(kind="stage.moved")[-1].event.body["passed_over"] == [passed]
    assert f"Passed over: {passed}" in text["body"]


@pytest.mark.parametrize("lost", ["deleted", "digest", "record", "unsigned"])
def test_no_version_before_can_be_used(desk: Desk, house: House, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.promoted("1", "2")
    said = "it is gone from MLflow, or its digest there was changed"
    if lost == "deleted":
        house.registry._client.delete_model_version(MODEL, "1")
    elif lost == "digest":
        house.registry.set_tag(MODEL, "1", "airgate.digest", "sha256:" + "0" * 64)
    elif lost == "record":
        replaced = Change("version.replaced", MODEL, "1")
        house.log.append(found_event(replaced, "none", None, occurred_at=datetime.now(UTC), source="operator"))
        said = f"{MODEL} version 1 in MLflow is another than the one that was registered: its source or its run differs (event "
    else:
        monkeypatch.setenv("AIRGATE_ENVIRONMENT", "elsewhere")
        said = f"it does not verify; `airgate model verify {MODEL}@1` says why"
    with pytest.raises(AirflowFailException) as caught:
        desk.change()
    assert f"has no approved version before version 2 that can be used (version 1: {said}" in str(caught.value)
    assert str(caught.value).endswith("). To stop inference, demote: start a new run with action 'demote'.")
    assert live(house) == "2"


@pytest.mark.attack("rollback: a promotion that nobody approved is appended, for a rollback to go to")
def test_a_promotion_that_was_not_signed_is_passed_over(desk: Desk, house: House, spec: ModelSpec) -> None:
    desk.promoted("1")
    house.trained(spec, "2", "t2")
    for version, before in (("2", "1"), ("3", "2")):  # as if written by whoever may append to the log
        now = stages.read(house.log, MODEL)
        claim = stages.claim_id(MODEL, now.settled)
        said = StageMove(from_version=before, to_version=version, model_digest=DIGEST, previous=now.settled)
        task = TaskRef(dag_id=f"{MODEL}_promotion", run_id=f"forged{version}", task_id="apply", try_number=1)
        for kind, event_id in (("stage.moving", claim), ("stage.moved", stages.settling_id(claim))):
            house.log.append(AuditEvent.model_validate({
                "event_id": event_id, "kind": kind, "occurred_at": datetime.now(UTC), "actor": Actor(kind="system", name="x"),
                "task": task, "model": MODEL, "version": version, "source": "operator",
                "body": {**said.model_dump(mode="json"), "claim": str(claim)}}))
    desk.change()
    assert live(house) == "1"
    assert house.log.events(kind="stage.moved")[-1].event.body["passed_over"] == [
        f"version 2: it does not verify; `airgate model verify {MODEL}@2` says why"]


def test_an_archiving_takes_the_digest_from_the_log(desk: Desk, house: House) -> None:
    desk.promoted("1", "2")
    house.registry.set_tag(MODEL, "1", "airgate.digest", "sha256:" + "0" * 64)
    desk.change(action="archive", version="1")
    assert house.log.events(kind="stage.moved")[-1].event.body["model_digest"] == DIGEST


def test_nobody_reviews_it_fails_the_run_and_can_be_made_up_for(desk: Desk, house: House) -> None:
    text = desk.promoted("1", "2").change()
    for by in (None, "ana"):
        if by:
            desk.reviewed(by, text)
        with pytest.raises(AirflowFailException) as caught:
            desk.close()
        assert str(caught.value) == (
            f"the rollback of version 1 to production by run r1 of {MODEL}_rollback is not reviewed: see this task's log, or its "
            "stage.reviewed on the page Governance. Clear the tasks 'review' and 'close' to ask again.")
    desk.reviewed("omar", text, "Disagree")
    assert desk.close()["answer"] == "disagreed"
    assert live(house) == "1"  # a review moves nothing
    reviews = house.log.events(kind="stage.reviewed")
    assert [(stored.event.body["answer"], stored.event.body["problem"]) for stored in reviews] == [
        ("none", "nobody reviewed it (a timeout, or a task marked by hand, is no review)"),
        ("agreed", "ana did it and cannot review it"), ("disagreed", None)]
    assert b"ana did it" not in reviews[1].entry


def test_nothing_changed_is_nothing_to_review(desk: Desk, house: House) -> None:
    with pytest.raises(AirflowFailException, match="nothing was changed in this run, so nothing is to be reviewed"):
        desk.close()
    assert house.log.events(kind="stage.reviewed") == []
