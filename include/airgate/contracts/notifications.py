"""Who is told what: the file that AIRGATE_NOTIFICATIONS names. It chooses among Airflow's notifiers and holds no secret."""

import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from airgate.contracts import yaml_file
from airgate.contracts.base import Contract
from airgate.errors import ConfigError, nearest
from airgate.redaction import secret_in

Topic = Literal["promotion.requested", "promotion.approved", "promotion.refused", "stage.moved", "stage.rolled_back",
                "registry.changed"]
TOPICS: tuple[str, ...] = get_args(Topic)
# What redaction does not know, because elsewhere it is none: PagerDuty's keys, and addresses that are a password themselves.
_SECRET_NAME = re.compile(r"(?:integration|routing)_?key$|webhook_?(?:url|token)$", re.IGNORECASE)
_SECRET_URL = re.compile(r"https://hooks\.slack\.com/|https://[^\s/]*webhook\.office\.com/|https://discord(?:app)?\.com/api/webhooks/")


class Notifier(Contract):
    """One of Airflow's notifiers with its arguments, and what it is told. Without `topics` or `models`: of all of them.

    Text arguments are Jinja templates as everywhere in Airflow; `notice` is what happened (see airgate.lifecycle.notify).
    """

    class_path: str = Field(alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
    topics: list[str] = Field(default=list(TOPICS), min_length=1)
    models: list[str] | None = Field(default=None, min_length=1)
    arguments: dict[str, JsonValue]

    @field_validator("topics")
    @classmethod
    def _known(cls, topics: list[str]) -> list[str]:
        for topic in topics:
            if topic not in TOPICS:
                raise ValueError(f"'{topic}' is no topic; {nearest(topic, TOPICS)}")
        return topics

    @model_validator(mode="after")
    def _sayable(self) -> "Notifier":
        place = secret_in(self.arguments) or _secret_of_a_service(self.arguments)
        if place is not None:
            raise ValueError(f"arguments.{place} looks like a secret. Keep it in an Airflow connection, and name that "
                             "connection here (smtp_conn_id, slack_webhook_conn_id, pagerduty_events_conn_id)")
        if "notice." not in str(self.arguments):
            raise ValueError("no argument mentions 'notice', so the message would not say what happened. Write, for "
                             "example, \"{{ notice.subject }}\" and \"{{ notice.text }}\" (\"{{ notice.html }}\" in mail)")
        return self

    def wants(self, topic: str, model: str) -> bool:
        """Whether it is told of this topic for this model."""
        return topic in self.topics and (self.models is None or model in self.models)


class Notifications(Contract):
    """The whole file: notifiers by the name that logs call them."""

    notifiers: dict[str, Notifier]


def load(path: Path) -> Notifications:
    """Read the file. Raises ConfigError, naming the place in it, when it is missing or wrong; a secret is never repeated."""
    try:
        return Notifications.model_validate(yaml_file.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the notifications file cannot be read: {error}. Is AIRGATE_NOTIFICATIONS right?") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path}: not YAML{f', line {mark.line + 1}' if mark else ''}: "
                          f"{getattr(error, 'problem', None) or 'it holds a character that YAML does not allow'}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()[:5])
        raise ConfigError(f"{path}: {wrong}. include/compliance/notifications.example.yaml shows a right one") from None


def _secret_of_a_service(value: Any, name: str = "", place: str = "") -> str | None:
    """Give the place of the first text that a well-known service takes for a password."""
    if isinstance(value, dict):
        found = (_secret_of_a_service(item, str(key), f"{place}.{key}".lstrip(".")) for key, item in value.items())
    elif isinstance(value, list):
        found = (_secret_of_a_service(item, name, f"{place}.{index}") for index, item in enumerate(value))
    else:
        secret = isinstance(value, str) and (_SECRET_NAME.search(name) or _SECRET_URL.search(value))
        return place if secret else None
    return next((one for one in found if one), None)
