"""Every account leads to one person."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts.people import People
from airgate.errors import ConfigError
from airgate.governance import identities
from airgate.governance.identities import Identities, canonical_person

WHO = Identities(People.model_validate({
    "people": {"ana": {"aliases": ["Ana.Diaz", "17", "svc-ana"]}, "omar": None}, "service_accounts": ["svc-*", "airgate"]}))


@pytest.mark.parametrize(("account", "person"), [
    ("ana", "ana"), ("ANA", "ana"), ("user:ana", "ana"), ("backfill:Ana.Diaz", "ana"), ("17", "ana"), (" ana.diaz ", "ana"),
    ("svc-ana", "ana"), ("omar", "omar"), ("eve", "eve"), ("Eve", "eve"), ("asset:m.validated", "asset:m.validated")])
def test_the_person_behind_an_account(account: str, person: str) -> None:
    assert WHO.person(account) == person


def test_service_accounts() -> None:
    assert WHO.is_service("user:Airgate") and WHO.is_service("svc-ana") and not WHO.is_service("ana")


def test_the_accounts_that_may_answer_for_a_person() -> None:
    assert WHO.accounts("ana") == ["ana", "Ana.Diaz", "17"]
    assert WHO.accounts("17") == ["17", "ana", "Ana.Diaz"]
    assert WHO.accounts("eve") == ["eve"]
    assert WHO.accounts("svc-risk") == []


def test_an_account_is_called_by_its_name_and_its_persons() -> None:
    assert [WHO.called(name) for name in ("Ana", "17", "eve")] == ["ana", "17 (an account of ana)", "eve"]


def test_nobody_is_a_stranger_to_an_open_file() -> None:
    assert not WHO.is_stranger("eve")
    closed = Identities(People.model_validate({"closed": True, "people": {"ana": {}}, "service_accounts": ["svc-*"]}))
    assert [closed.is_stranger(name) for name in ("user:eve", "ana", "svc-ci")] == [True, False, False]


@given(st.text(max_size=8) | st.lists(st.sampled_from(["user:", "Backfill: ", "outside:", "ana", " ", "ẞ", "ﬁ"])).map("".join))
def test_a_name_is_its_own_persons_name(name: str) -> None:
    person = WHO.person(name)
    assert WHO.person(person) == person
    assert canonical_person(canonical_person(name)) == canonical_person(name)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "people.yaml"
    path.write_text("people: {ana: {aliases: [a]}}")
    assert identities.load(path).person("a") == "ana"
    path.write_text("people: {omar: {aliases: [a]}}")
    os.utime(path, ns=(1, 1))
    assert identities.load(path).person("a") == "omar"
    path.unlink()
    with pytest.raises(ConfigError, match="file is missing"):
        identities.load(path)
