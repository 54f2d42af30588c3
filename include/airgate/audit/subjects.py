"""Personal fields: each is encrypted under a key of the person it is about. Destroying the key erases the person.

A sealed text is {"$sealed": {"by": SUBJECT_ID, "box": BASE64(nonce || ciphertext || tag)}}: AES-256-GCM (NIST SP 800-38D), 96-bit
nonce, the event's id and the field's path as associated data, so that a box cannot be moved. The subject id is random and says
nothing about the person; which name it stands for is known to the table of keys alone, and goes with the key.

The nonce is made from key, place and text (as in SIV, RFC 5297), not drawn: the same event offered again has the same bytes,
which is how the log tells a repetition from a contradiction. It repeats only for the same text at the same place.
"""

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from airgate.audit.canonical_json import SEALED_KEY
from airgate.audit.event import PEOPLE, AuditEvent
from airgate.errors import AuditError

ERASED = "erased:"
_NONCE = 12


@dataclass(frozen=True)
class Subject:
    """A person the log speaks of. `key` has 32 bytes; a subject that was erased has neither name nor key."""

    id: str
    name: str | None
    key: bytes | None
    hold: str | None = None

    def seal(self, event_id: UUID, path: str, text: str) -> dict[str, Any]:
        """Encrypt one text at its place. Raises AuditError when the key is gone."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if self.key is None:
            raise AuditError(f"subject {self.id} was erased; nothing more can be recorded under its key")
        place, data = _place(event_id, path), text.encode("utf-8")
        nonce = _derived(self.key, b"airgate nonce", place + b"\n" + data)[:_NONCE]
        box = nonce + AESGCM(_derived(self.key, b"airgate seal")).encrypt(nonce, data, place)
        return {SEALED_KEY: {"box": b64encode(box).decode(), "by": self.id}}

    def open(self, event_id: UUID | str, path: str, box: str) -> str:
        """Decrypt. Gives 'erased:<subject id>' when the key is gone. Raises AuditError when the box is not of this place."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if self.key is None:
            return ERASED + self.id
        try:
            data = b64decode(box, validate=True)
            opened = AESGCM(_derived(self.key, b"airgate seal")).decrypt(data[:_NONCE], data[_NONCE:], _place(event_id, path))
        except (InvalidTag, ValueError) as error:
            raise AuditError(f"{path} of event {event_id} cannot be decrypted: it was changed, or moved here") from error
        return opened.decode("utf-8")


@dataclass
class Subjects:
    """The subjects at hand, for sealing by name and for opening by id."""

    by_name: Mapping[str, Subject] = field(default_factory=dict)
    by_id: Mapping[str, Subject] = field(default_factory=dict)

    def seal(self, event_id: UUID, path: str, subject: str, text: str) -> dict[str, Any]:
        """Encrypt a text under the key of the subject of that name."""
        return self.by_name[subject].seal(event_id, path, text)

    def opened(self, record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Give an event's decoded JSON with its personal fields in clear, and {path in the body: subject's name}."""
        personal: dict[str, str] = {}
        event_id = record["event_id"]

        def walk(value: Any, path: str) -> Any:
            if isinstance(value, dict):
                if value.keys() == {SEALED_KEY}:
                    return unseal(value[SEALED_KEY], path)
                return {key: walk(item, f"{path}.{key}") for key, item in value.items()}
            return [walk(item, f"{path}.{index}") for index, item in enumerate(value)] if isinstance(value, list) else value

        def unseal(sealed: dict[str, str], path: str) -> str:
            subject = self.by_id.get(sealed["by"]) or Subject(sealed["by"], None, None)
            if path.startswith("body."):
                personal[path.removeprefix("body.")] = subject.name or ERASED + subject.id
            return subject.open(event_id, path, sealed["box"])

        return record | {"actor": walk(record["actor"], "actor"), "body": walk(record["body"], "body")}, personal


def names_in(events: Iterable[AuditEvent]) -> set[str]:
    """Name every person that these events speak of in fields that are sealed."""
    found: set[str] = set()
    for event in events:
        if event.actor.kind in PEOPLE:
            found.add(event.actor.name)
        if event.personal:
            found.update(event.personal.values())
    return found


def ids_in(entry: bytes) -> set[str]:
    """Give the ids of the subjects under whose keys something in a leaf's bytes is sealed."""
    if b'{"$sealed":' not in entry:
        return set()
    found: set[str] = set()

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if record.keys() == {"box", "by"}:
            found.add(str(record["by"]))
        return record

    json.loads(entry, object_pairs_hook=note)
    return found


def _place(event_id: UUID | str, path: str) -> bytes:
    return f"{event_id}\n{path}".encode()


def _derived(key: bytes, purpose: bytes, data: bytes = b"") -> bytes:
    return hmac.digest(key, purpose + b"\n" + data, "sha256")
