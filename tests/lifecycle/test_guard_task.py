"""The guard as Airflow runs it, and what inference says of a version that it found gone."""

from pathlib import Path

import pytest
import yaml
from airflow.sdk import BaseNotifier
from tests.conftest import MODELS
from tests.lifecycle.conftest import DIGEST, MODEL, Context, House
from tests.lifecycle.moved import moved

from airgate.contracts.model_spec import ModelSpec
from airgate.errors import AuditError, PromotionError
from airgate.lifecycle.guard import RegistryGuardOperator
from airgate.lifecycle.live import LiveModelOperator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
CATALOG = list(MODELS.glob("*/model.yaml"))
SENT: list[tuple[str, str]] = []


class Pigeon(BaseNotifier):
    """A notifier of a site's own."""

    template_fields = ("subject", "text")

    def __init__(self, subject: str, text: str) -> None:
        super().__init__()
        self.subject, self.text = subject, text

    def notify(self, context: object) -> None:
        SENT.append((self.subject, self.text))


@pytest.fixture(autouse=True)
def pigeon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SENT.clear()
    path = tmp_path / "notifications.yaml"
    arguments = {"subject": "{{ notice.subject }}", "text": "{{ notice.text }}"}
    path.write_text(yaml.safe_dump({"notifiers": {"pigeon": {"class": f"{__name__}.Pigeon", "arguments": arguments}}}))
    monkeypatch.setenv("AIRGATE_NOTIFICATIONS", str(path))


def watch(context: Context, run: str = "run1") -> dict[str, int]:
    return RegistryGuardOperator(task_id="guard").execute(context("x", "guard", run=run))


def promoted(house: House, version: str) -> None:
    moved(house, f"{MODEL}_promotion", "p", {"to_version": version, "model_digest": DIGEST, "data_revision": "c", "window": {}})


def test_every_model_is_watched_and_people_are_told_once(house: House, context: Context) -> None:
    house.registry.set_alias(MODEL, "production", "1")
    assert watch(context) == {"models": len(CATALOG), "versions": 2, "found": 3, "restored": 1}
    assert house.registry.live(MODEL, "production") is None
    [(subject, text)] = SENT
    assert subject == f"[development] {MODEL}: ALARM, MLflow's registry was changed"
    assert text.splitlines()[2] == (
        f"{MODEL} production is version 1 in MLflow, the last move on record put none there; the alias is removed")
    assert watch(context, "run2") == {"models": len(CATALOG), "versions": 2, "found": 0, "restored": 0}
    assert len(SENT) == 1
    events = [item.event for item in house.log.events(kind="registry.changed")]
    assert {(event.actor.kind, event.actor.name, event.source) for event in events} == {("system", "registry guard", "operator")}
    assert {event.task and event.task.task_id for event in events} == {"guard"}


def test_inference_says_that_the_approved_version_is_gone(house: House, spec: ModelSpec, context: Context) -> None:
    from mlflow.tracking import MlflowClient

    house.trained(spec)
    promoted(house, "1")
    house.registry.set_alias(MODEL, "production", "1")
    uri = f"sqlite:///{house.folder}/mlflow.db"
    MlflowClient(uri, uri).delete_model_version(MODEL, "1")
    watch(context)
    with pytest.raises(PromotionError, match=f"{MODEL} version 1 was registered by the log's word, but MLflow no longer has it "
                                             r"\(event .*, registry.changed\). Nothing is scored with it: go back"):
        LiveModelOperator(task_id="live_model", spec=spec).execute(context("batch_inference", "live_model"))


def test_an_mlflow_that_is_down_fails_the_task(house: House, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("AIRGATE_MLFLOW_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(AuditError) as caught:
        watch(context)
    assert str(caught.value).startswith(
        f"the registry guard could not do its work in {len(CATALOG)} place(s): {MODEL}: MLflow's registry cannot be read "
        "(INTERNAL_ERROR)")
    assert "secret" not in str(caught.value)
