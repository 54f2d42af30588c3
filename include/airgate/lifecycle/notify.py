"""Telling people what happened, by Airflow's notifiers: mail, Slack, PagerDuty, or any other.

A message is a courtesy, the audit log is the record: nothing waits for an answer, and what cannot be sent is said in the
task's log and changes no outcome. So send last, after the event is recorded.
"""

import inspect
import logging
from dataclasses import dataclass
from html import escape
from importlib import import_module
from typing import Any
from urllib.parse import quote

from airgate import settings
from airgate.contracts import notifications
from airgate.contracts.notifications import Topic
from airgate.errors import ConfigError, nearest
from airgate.redaction import redact

log = logging.getLogger(__name__)
TITLES: dict[Topic, str] = {
    "promotion.requested": "promotion requested",
    "promotion.approved": "promotion approved",
    "promotion.refused": "promotion refused",
    "stage.moved": "stage moved",
    "stage.rolled_back": "stage rolled back",
    "registry.changed": "ALARM, MLflow's registry was changed",
}


@dataclass(frozen=True)
class Notice:
    """What a notifier's templates may say of it: `{{ notice.subject }}`, `{{ notice.text }}` and so on.

    `subject` is one line; `html` is the text with everything escaped, for mail; `link` is the DAG run's page, or "".
    """

    topic: Topic
    model: str
    version: str
    environment: str
    text: str
    link: str

    @property
    def subject(self) -> str:
        """Model, version and what happened, in one line."""
        version = f" version {self.version}" if self.version else ""
        return " ".join(f"[{self.environment}] {self.model}{version}: {TITLES.get(self.topic, self.topic)}".split())

    @property
    def html(self) -> str:
        """The text as HTML. People type reasons: nothing in it is markup."""
        text = "<br>\n".join(escape(line) for line in self.text.splitlines())
        link = f'<p><a href="{escape(self.link)}">{escape(self.link)}</a></p>' if self.link else ""
        return f"<p>{text}</p>{link}"


def send(topic: Topic, *, model: str, version: str | None, text: str, context: Any = None) -> None:
    """Tell everyone whom AIRGATE_NOTIFICATIONS names for this topic and model. Never raises: failures are logged.

    `text` says what happened in sentences for people, several lines if need be; what looks like a secret in it is hidden.
    `context` is the task's. Takes as long as the notifiers do; their connections hold their time-outs.
    """
    try:
        path = settings.load().notifications
        if path is None:
            return
        wanted = {name: one for name, one in notifications.load(path).notifiers.items() if one.wants(topic, model)}
        notice = Notice(topic=topic, model=model, version=version or "", environment=settings.load().environment,
                        text=redact(text), link=_link(context))
    except Exception as error:  # noqa: BLE001 - a message may be lost, a promotion may not
        log.error("nobody was told of %s, %s: %s", topic, model, said(error))
        return
    for name, notifier in wanted.items():
        try:
            deliver(name, notifier, notice, context)
            log.info("told %s of %s, %s", name, topic, model)
        except Exception as error:  # noqa: BLE001 - each service has its own errors
            log.error("%s was not told of %s, %s: %s", name, topic, model, said(error))


def deliver(name: str, notifier: notifications.Notifier, notice: Notice, context: Any = None) -> None:
    """Send one notice by one notifier. Raises ConfigError as `build` does, and whatever the notifier raises."""
    made, known = build(name, notifier), {**(context or {}), "notice": notice}
    # The text goes in as a value, never as a template. Calling `made` would do both, and log errors with what is secret in them.
    made.render_template_fields(known)
    made.notify(known)


def build(name: str, notifier: notifications.Notifier) -> Any:
    """Make Airflow's notifier. Raises ConfigError when its class is missing or is no notifier, or an argument does not fit."""
    from airflow.sdk import BaseNotifier

    module, _, class_name = notifier.class_path.rpartition(".")
    try:
        found = getattr(import_module(module), class_name, None)
    except ImportError as error:
        raise ConfigError(f"notifier '{name}': {module} cannot be imported: {error}. Install its provider in Airflow's image, "
                          "such as apache-airflow-providers-slack.") from None
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        kinds = [key for key, value in vars(import_module(module)).items()
                 if isinstance(value, type) and issubclass(value, BaseNotifier) and value is not BaseNotifier]
        raise ConfigError(f"notifier '{name}': {notifier.class_path} is no notifier of Airflow's; {nearest(class_name, kinds)}")
    try:
        return found(**notifier.arguments)
    except TypeError as error:
        allowed = [key for key in inspect.signature(found).parameters if key != "kwargs"]
        raise ConfigError(f"notifier '{name}': {error}. Allowed: {', '.join(allowed)}") from None


def _link(context: Any) -> str:
    """The run's page in Airflow's UI."""
    run = (context or {}).get("dag_run")
    if run is None:
        return ""
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}/dags/{quote(run.dag_id, safe='')}/runs/{quote(run.run_id, safe='')}" if base else ""


def said(error: Exception) -> str:
    """An error in one line, without what looks like a secret."""
    return " ".join(redact(f"{type(error).__name__}: {error}").split())
