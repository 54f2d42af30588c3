"""`people.yaml`: which accounts are one person, and which are nobody. The two people who approve must be two people."""

import unicodedata
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from airgate.contracts import yaml_file
from airgate.contracts.base import Contract
from airgate.errors import ConfigError

FILE = Path(__file__).parents[2] / "compliance" / "people.yaml"


def canonical_name(account: str) -> str:
    """One spelling of an account's name: compatible characters unified (Unicode NFKC), case folded, no spaces around."""
    folded = unicodedata.normalize("NFKC", account).casefold()
    return unicodedata.normalize("NFKC", folded).casefold().strip()  # folding may leave what can be unified again


class Person(Contract):
    """One person's other accounts: a second sign-in, an address, the account's number where the auth manager is FAB."""

    aliases: list[str] = []


class People(Contract):
    """The whole file. Whoever stands in no entry is a person of his own, unless the file is `closed`.

    `service_accounts` are names, with '*' for any characters: whatever signs in so is no person. An alias may be one too: what
    it asks for, that person asked for, and it approves nothing.
    """

    schema_version: Literal[1] = 1
    closed: bool = Field(default=False, description="only people named here may ask for a promotion or approve one")
    people: dict[str, Person | None] = {}
    service_accounts: list[str] = []

    @field_validator("service_accounts")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            if not canonical_name(pattern).strip("*?"):
                raise ValueError(f"'{pattern}' takes everybody for a service account; write part of the name, such as 'svc-*'")
        return patterns

    @model_validator(mode="after")
    def _one_person_an_account(self) -> Self:
        owner: dict[str, str] = {}
        for name, person in self.people.items():
            if self.is_service(name):
                raise ValueError(f"people.{name} is a service account too, by service_accounts; a person signs in under a name "
                                 "that no pattern there fits")
            for account in (name, *(person.aliases if person else [])):
                spelled = canonical_name(account)
                if not spelled:
                    raise ValueError(f"people.{name} holds an empty name; remove it")
                if spelled in owner:
                    raise ValueError(f"'{account}' stands at people.{owner[spelled]} and at people.{name}; an account belongs to "
                                     "one person, and is named once")
                owner[spelled] = name
        return self

    def is_service(self, account: str) -> bool:
        """Whether an account fits a pattern of `service_accounts`."""
        return any(fnmatchcase(canonical_name(account), canonical_name(pattern)) for pattern in self.service_accounts)


def load(path: Path | None = None) -> People:
    """Read the people file; without a path the one that comes with Airgate. Raises ConfigError that names the place."""
    return yaml_file.read(
        path or FILE, People, ConfigError, missing="AIRGATE_PEOPLE names it; unset it for include/compliance/people.yaml.",
        help_="include/compliance/people.yaml shows a right one.")
