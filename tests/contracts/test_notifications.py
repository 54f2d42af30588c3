"""The file that says who is told what: what is wrong in it is named, and no secret is taken or repeated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airgate.contracts.notifications import TOPICS, Notifier, load
from airgate.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "include" / "compliance" / "notifications.example.yaml"
Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: Any) -> Path:
        path = tmp_path / "notifications.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path
    return to_file


def one(**changed: Any) -> dict[str, Any]:
    return {"notifiers": {"mail": {"class": "a.B", "arguments": {"text": "{{ notice.text }}"}, **changed}}}


def test_the_example_is_right_with_and_without_what_is_commented_out(write: Write) -> None:
    assert list(load(EXAMPLE).notifiers) == ["mail"]
    whole = "\n".join(line.replace("  # ", "  ", 1) if line.startswith("  # ") else line
                      for line in EXAMPLE.read_text(encoding="utf-8").splitlines())
    assert list(load(write(whole)).notifiers) == ["mail", "chat", "on_call"]


def test_the_example_names_every_topic() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert [topic for topic in TOPICS if topic not in text] == []


def test_topics_and_models_choose() -> None:
    some = Notifier.model_validate(one(topics=["stage.moved"], models=["a"])["notifiers"]["mail"])
    everything = Notifier.model_validate(one()["notifiers"]["mail"])
    assert some.wants("stage.moved", "a")
    assert not some.wants("stage.moved", "b") and not some.wants("registry.changed", "a")
    assert all(everything.wants(topic, "any") for topic in TOPICS)


@pytest.mark.parametrize(("content", "said"), [
    (one(topics=["stage.move"]), "mail.topics: .*'stage.move' is no topic; did you mean 'stage.moved'[?] Allowed: promotion"),
    (one(topics=[]), "notifiers.mail.topics: .*at least 1"),
    (one(to="x"), "notifiers.mail.to: Extra inputs"),
    (one(**{"class": "SmtpNotifier"}), "notifiers.mail.class: .*pattern"),
    (one(arguments={"to": "a@example.org"}), "no argument mentions 'notice'.*notice.subject"),
    ("notifiers: [", r"not YAML, line \d"),
    ("notifiers: {}\nnotifiers: {}", "not YAML, line 2: key 'notifiers' is given twice; keep one"),
    ("notifiers:\n  mail: \x00", "not YAML"),
    ("", "the file: Input should be.*notifications.example.yaml"),
])
def test_a_wrong_file_is_named_with_the_place(write: Write, content: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(content))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read.*No such file.*AIRGATE_NOTIFICATIONS"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "latin.yaml")


@pytest.mark.parametrize(("name", "value"), [
    ("password", "hunter2hunter2"), ("slack_token", "hunter2hunter2"), ("integration_key", "hunter2hunter2"),
    ("routing_key", "hunter2hunter2"), ("webhook_url", "https://example.org/hunter2hunter2"),
    ("text", "https://hooks.slack.com/services/hunter2hunter2"), ("proxy", "http://me:hunter2hunter2@proxy.example.org"),
    ("to", "https://discord.com/api/webhooks/1/hunter2hunter2"),
])
@pytest.mark.parametrize("nest", [lambda v: v, lambda v: [{"more": [v]}]])
def test_secrets_belong_into_a_connection(write: Write, name: str, value: str, nest: Any) -> None:
    arguments = nest({name: value})
    inside = arguments if isinstance(arguments, dict) else {"blocks": arguments}
    with pytest.raises(ConfigError, match=rf"mail: .*arguments\.\S*{name}\S* looks like a secret.*Airflow connection") as error:
        load(write(one(arguments={"summary": "{{ notice.text }}", **inside})))
    assert "hunter2" not in str(error.value)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
                    max_leaves=9)


@given(JSON)
@settings(max_examples=50)
def test_no_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(one(arguments={"x": content})), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"notifiers\.mail: .*(mentions|secret)"):
        load(path)
