"""people.yaml: a wrong file is an error when it is read, never a file that names nobody."""

import re
from pathlib import Path

import pytest
import yaml

from airgate.contracts import people
from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.people import People, canonical_name
from airgate.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "people.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_that_comes_with_airgate_is_right() -> None:
    found = people.load()
    assert set(found.people) == {"mia", "ana", "omar"}
    assert found.is_service("airgate")
    assert not any(found.is_service(name) for name in found.people)


def test_an_entry_may_be_empty(tmp_path: Path) -> None:
    found = people.load(written(tmp_path, "people:\n  ana:\n  omar: {aliases: ['17']}\n"))
    assert found.people["ana"] is None


@pytest.mark.parametrize(("text", "expected"), [
    ("", "expected a mapping of keys, got NoneType. include/compliance/people.yaml shows a right one."),
    ("people: [ana]", "people: Input should be a valid dictionary"),
    ("peopel: {ana: {}}",
     "unknown key 'peopel'; did you mean 'people'? Allowed: closed, people, schema_version, service_accounts"),
    ("people: {ana: {alias: [a]}}", "unknown key 'people.ana.alias'; did you mean 'aliases'? Allowed: aliases"),
    ("people: {ana: {aliases: [17]}}", "people.ana.aliases.0: Input should be a valid string (got 17)"),
    ("people: {ana: {aliases: [a]}, omar: {aliases: [A ]}}",
     "'A' stands at people.ana and at people.omar; an account belongs to one person, and is named once"),
    ("people: {ana: {}, omar: {aliases: [Ana]}}", "'Ana' stands at people.ana and at people.omar"),
    ("people: {ana: {aliases: [ana]}}", "'ana' stands at people.ana and at people.ana"),
    ("people: {ana: {aliases: [' ']}}", "people.ana holds an empty name; remove it"),
    ("people: {svc-ana: {}}\nservice_accounts: ['svc-*']",
     "people.svc-ana is a service account too, by service_accounts; a person signs in under a name that no pattern there fits"),
    ("service_accounts: ['*']", "'*' takes everybody for a service account; write part of the name, such as 'svc-*'"),
    ("people: {ana: {}}\npeople: {omar: {}}", "key 'people' is given twice; keep one"),
    ("people: {ana: {}, ana: {}}", "key 'ana' is given twice; keep one"),
    ("people: {ana: {}", "not readable as YAML"),
    ("schema_version: 2", "schema_version: Input should be 1 (got 2)"),
    ("closed: maybe", "closed: Input should be a valid boolean"),
])
def test_a_wrong_file(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        people.load(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"people.yaml: file is missing. AIRGATE_PEOPLE names it; unset it for"):
        people.load(tmp_path / "people.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        people.load(tmp_path)


def test_an_alias_may_be_a_service_account() -> None:
    found = People.model_validate({"people": {"ana": {"aliases": ["svc-ana"]}}, "service_accounts": ["svc-*"]})
    assert found.is_service("SVC-Ana")


def test_one_spelling() -> None:
    assert {canonical_name(name) for name in ("Ana", " ana\t", "\uff21\uff2e\uff21", "ana")} == {"ana"}


def test_the_page_for_data_engineers_shows_right_files() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data-engineer.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.S)]
    [who] = [People.model_validate(one) for one in shown if "people" in one]
    [rules] = [PromotionSpec.model_validate(one["promotion"]) for one in shown if "promotion" in one]
    assert who.closed and list(who.people) == ["ana", "omar"]
    assert set(rules.statements) == {"risk_officer"}
