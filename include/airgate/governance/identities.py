"""Who is who: rules compare people, so every account is first traced to the person behind it."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from airgate.audit.event import PEOPLE
from airgate.contracts import people as people_file
from airgate.contracts.people import People, canonical_name

_KINDS = tuple(f"{kind}:" for kind in PEOPLE)


def canonical_person(name: str) -> str:
    """One spelling for one account: 'User:Ana ', 'backfill:ana' (who started the backfill) and 'ana' are the same."""
    plain = canonical_name(name)
    while plain.startswith(_KINDS):
        plain = plain.partition(":")[2].strip()
    return plain


class Identities:
    """The people of an installation. Names are taken as records hold them: 'ana', 'user:ana', 'backfill:Ana'."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._person = {canonical_name(account): canonical_name(name) for name, person in people.people.items()
                        for account in (name, *(person.aliases if person else []))}

    def person(self, name: str) -> str:
        """The person behind an account: of one that no entry names, its own canonical spelling."""
        account = canonical_person(name)
        return self._person.get(account, account)

    def is_service(self, name: str) -> bool:
        """Whether the account is a program's, which can approve nothing."""
        return self._people.is_service(canonical_person(name))

    def is_stranger(self, name: str) -> bool:
        """Whether the file is closed and names neither this person nor this service account."""
        return self._people.closed and canonical_person(name) not in self._person and not self.is_service(name)

    def people(self, names: Iterable[str]) -> set[str]:
        """The people behind accounts."""
        return {self.person(name) for name in names}

    def accounts(self, name: str) -> list[str]:
        """The accounts under which a person may answer, as written in the file: first the name itself, no service account."""
        person = self.person(name)
        entry = next((entry for known, entry in self._people.people.items() if canonical_name(known) == person), None)
        known = next((known for known in self._people.people if canonical_name(known) == person), name)
        return [account for account in dict.fromkeys((name, known, *(entry.aliases if entry else [])))
                if not self.is_service(account)]

    def called(self, name: str) -> str:
        """An account as a reason names it: 'ana', or 'ana.diaz (an account of ana)'."""
        account, person = canonical_person(name), self.person(name)
        return account if account == person else f"{account} (an account of {person})"


def load(path: Path | None = None) -> Identities:
    """Read the people file, the one of AIRGATE_PEOPLE or, with None, Airgate's own. Raises ConfigError when it is wrong."""
    found = path or people_file.FILE
    try:
        status = found.stat()
    except OSError:
        return Identities(people_file.load(found))  # says what is wrong
    return _read(found, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, *_: int) -> Identities:
    """Once for every state of the file: each model's promotion DAG asks for each of its roles."""
    return Identities(people_file.load(path))
