"""Messages over a real mail server, by Airflow's own SMTP notifier; and that none of them can do harm."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller
from airflow.sdk import BaseNotifier
from tests.contracts.test_notifications import EXAMPLE
from tests.lifecycle.conftest import Context, House
from tests.lifecycle.test_promotion import judged, promote, tasks

from airgate import cli
from airgate.contracts import notifications
from airgate.contracts.model_spec import ModelSpec
from airgate.errors import ConfigError
from airgate.lifecycle import notify

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of MLflow
SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
MAIL = {"class": SMTP, "arguments": {"from_email": "airgate@example.org", "to": ["risk@example.org"],
                                     "subject": "{{ notice.subject }}", "html_content": "{{ notice.html }}"}}
Configure = Callable[[dict[str, Any]], None]


@dataclass
class Inbox:
    """A mail server's handler that keeps what it gets."""

    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 kept"

    def html(self) -> str:
        part = self.mails[-1].get_body()
        assert part is not None
        return str(part.get_content())


class Broken(BaseNotifier):
    """A notifier of a site's own, which does not work."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        raise OSError("https://me:hunter2@chat.example.org did not answer")


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    found = Inbox()
    server = Controller(found, hostname="127.0.0.1", port=_free_port())
    server.start()
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", _connection(server.port))
    yield found
    server.stop()


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    def to_file(notifiers: dict[str, Any]) -> None:
        (tmp_path / "n.yaml").write_text(yaml.safe_dump({"notifiers": notifiers}, sort_keys=False), encoding="utf-8")
        monkeypatch.setenv("AIRGATE_NOTIFICATIONS", str(tmp_path / "n.yaml"))
    return to_file


def _connection(port: int) -> str:
    extra = {"disable_ssl": True, "disable_tls": True}
    return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra})


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_mail_says_what_happened_and_where_to_look(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_NOTIFICATIONS", str(EXAMPLE))
    monkeypatch.setenv("AIRGATE_ENVIRONMENT", "staging")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/af/")
    run = SimpleNamespace(dag_id="m_promotion", run_id="manual__2026-01-09T09:00:00+00:00")
    notify.send("promotion.requested", model="m", version="3", text="mia asks for version 3.\nAnswer by Friday.",
                context={"dag_run": run})
    mail = inbox.mails[0]
    assert (mail["subject"], mail["from"], mail["to"]) \
        == ("[staging] m version 3: promotion requested", "airgate@example.org", "model-risk@example.org")
    link = "https://airflow.example.org/af/dags/m_promotion/runs/manual__2026-01-09T09%3A00%3A00%2B00%3A00"
    assert inbox.html().strip() == f'<p>mia asks for version 3.<br>\nAnswer by Friday.</p><p><a href="{link}">{link}</a></p>'


def test_what_people_typed_is_neither_template_nor_markup_nor_header(inbox: Inbox, configure: Configure) -> None:
    configure({"mail": MAIL})
    notify.send("promotion.refused", model="m", version="3\r\nBcc: eve@example.org",
                text="{{ conn.smtp_default.host }} <b>no</b>")
    assert inbox.html().strip() == "<p>{{ conn.smtp_default.host }} &lt;b&gt;no&lt;/b&gt;</p>"
    assert inbox.mails[0]["bcc"] is None and "3 Bcc: eve@example.org" in inbox.mails[0]["subject"]


def test_a_secret_in_the_text_is_hidden(inbox: Inbox, configure: Configure) -> None:
    configure({"mail": MAIL})
    notify.send("stage.rolled_back", model="m", version="2", text="see https://me:hunter2@wiki.example.org/x")
    assert "hunter2" not in inbox.html() and "https://***@wiki.example.org/x" in inbox.html()


def test_each_is_told_its_own_topics_and_models(inbox: Inbox, configure: Configure) -> None:
    configure({"alarms": {**MAIL, "topics": ["registry.changed"]}, "theirs": {**MAIL, "models": ["other"]}})
    notify.send("stage.moved", model="m", version="3", text="x")
    assert inbox.mails == []
    notify.send("registry.changed", model="other", version=None, text="x")
    assert [mail["subject"] for mail in inbox.mails] == ["[development] other: ALARM, MLflow's registry was changed"] * 2


def test_one_that_fails_keeps_nobody_else_from_being_told(inbox: Inbox, configure: Configure,
                                                            caplog: pytest.LogCaptureFixture) -> None:
    own = {"class": f"{__name__}.Broken", "arguments": {"text": "{{ notice.text }}"}}
    lost = {"class": SMTP, "arguments": {**MAIL["arguments"], "smtp_conn_id": "nowhere"}}
    gone = {"class": "airflow.providers.nowhere.Chat", "arguments": own["arguments"]}
    configure({"broken": own, "lost": lost, "gone": gone, "mail": MAIL})
    with caplog.at_level(logging.INFO, logger="airgate.lifecycle.notify"):
        notify.send("stage.moved", model="m", version="3", text="x")
    assert len(inbox.mails) == 1
    said = [record.getMessage() for record in caplog.records if record.name == "airgate.lifecycle.notify"]
    assert [line.partition(" of ")[0] for line in said] \
        == ["broken was not told", "lost was not told", "gone was not told", "told mail"]
    assert "OSError: https://***@chat.example.org did not answer" in said[0] and "hunter2" not in caplog.text
    assert "connection" in said[1].lower()
    assert "airflow.providers.nowhere cannot be imported" in said[2]


def test_a_mail_server_that_is_down_changes_nothing(configure: Configure, monkeypatch: pytest.MonkeyPatch,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", _connection(_free_port()))
    configure({"mail": MAIL})
    notify.send("stage.moved", model="m", version="3", text="x")
    assert "mail was not told of stage.moved, m: ConnectionRefusedError" in caplog.text


def test_a_wrong_file_is_logged_and_raises_nothing(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    configure({"mail": {**MAIL, "topics": ["nothing"]}})
    notify.send("stage.moved", model="m", version="3", text="x")
    assert "nobody was told of stage.moved, m: ConfigError" in caplog.text and "'nothing' is no topic" in caplog.text


def test_without_a_file_nobody_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("AIRGATE_NOTIFICATIONS", raising=False)
    with caplog.at_level(logging.INFO):
        notify.send("stage.moved", model="m", version="3", text="x")
    assert caplog.text == ""


@pytest.mark.parametrize(("path", "arguments", "said"), [
    ("airflow.providers.nowhere.Chat", {}, "notifier 'n': airflow.providers.nowhere cannot be imported: .*Install its provider"),
    (SMTP.replace("SmtpN", "MailN"), {}, "MailNotifier is no notifier of Airflow's; did you mean 'SmtpNotifier'"),
    ("json.JSONDecoder", {}, "json.JSONDecoder is no notifier of Airflow's; Allowed: nothing"),
    (SMTP, {}, "missing 1 required .*'to'. Allowed: to, from_email, subject"),
    (SMTP, {"to": "x", "tow": "y"}, "unexpected keyword argument 'tow'. Allowed: to"),
])
def test_a_notifier_that_cannot_be_made_says_why(path: str, arguments: dict[str, Any], said: str) -> None:
    one = notifications.Notifier.model_validate({"class": path, "arguments": {**arguments, "subject": "{{ notice.subject }}"}})
    with pytest.raises(ConfigError, match=said):
        notify.build("n", one)


def test_a_promotion_tells_of_request_approval_and_move(inbox: Inbox, configure: Configure, house: House, spec: ModelSpec,
                                                        context: Context) -> None:
    configure({"mail": MAIL})
    assert promote(house, spec, context, "1", "p1")["outcome"] == "applied"
    about = f"[development] {spec.name} version 1: "
    assert [mail["subject"] for mail in inbox.mails] \
        == [about + "promotion requested", about + "promotion approved", about + "stage moved"]


def test_a_refusal_is_told_with_its_reasons(inbox: Inbox, configure: Configure, house: House, spec: ModelSpec,
                                            context: Context) -> None:
    configure({"mail": MAIL})
    request, apply = tasks(spec)
    text = request.execute(context("promotion", "request", payloads=[{"event_id": judged(house, spec)}]))
    house.answer("ml_engineer", "ana", text, "Reject")
    assert apply.execute(context("promotion", "apply"))["outcome"] == "refused"
    assert inbox.mails[-1]["subject"] == f"[development] {spec.name} version 1: promotion refused"
    assert "ml_engineer" in inbox.html()


def test_the_command_shows_who_is_told_and_can_try_it(inbox: Inbox, configure: Configure,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    configure({"mail": MAIL, "own": {"class": f"{__name__}.Broken", "topics": ["registry.changed"], "models": ["m"],
                                     "arguments": {"text": "{{ notice.text }}"}}})
    assert cli.main(["notify"]) == 0
    assert capsys.readouterr().out.splitlines() == ["mail: all topics, all models: ready", "own: registry.changed, m: ready"]
    assert inbox.mails == []
    assert cli.main(["notify", "--send"]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "mail.log" not in line]
    assert said == ["mail: all topics, all models: sent",
                    "own: registry.changed, m: OSError: https://***@chat.example.org did not answer"]
    assert "a trial, nothing happened" in inbox.html()


def test_the_command_names_what_is_wrong(configure: Configure, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    configure({"gone": {"class": "airflow.providers.nowhere.Chat", "arguments": {"text": "{{ notice.text }}"}}})
    assert cli.main(["notify"]) == 1
    assert "gone: all topics, all models: ConfigError: notifier 'gone'" in capsys.readouterr().out
    monkeypatch.delenv("AIRGATE_NOTIFICATIONS")
    assert cli.main(["notify"]) == 2
    assert "AIRGATE_NOTIFICATIONS is not set, so nobody is told" in capsys.readouterr().err
