"""That a stage is moved, and signed: an in-toto Statement v1 about the claim that the audit log holds of it.

The promotion's own signature says that a version was approved, for ever. This one says that it is moved now: it names the claim,
whose id the log takes once, so it is good for no other move.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from airgate.contracts import in_toto
from airgate.contracts.base import Contract
from airgate.contracts.in_toto import PAYLOAD_TYPE
from airgate.contracts.stages import StageMove
from airgate.errors import SignatureError
from airgate.signatures import dsse, statement
from airgate.signatures.keys import Keyring, Signer

MOVE_TYPE = "https://airgate.io/predicates/stage-move/v1"
# People, and what they wrote, are sealed in the log, so that they can be erased; a signature must not keep them.
_PEOPLES = {"approvers", "reason"}


class SignedMove(Contract):
    """`claim` is the event id of the claim; of a move of release 0.2.0, which has none to name, that of its `stage.moved`."""

    model: str
    claim: str
    move: dict[str, Any]
    environment: str

    def payload(self) -> bytes:
        """The statement's RFC 8785 bytes, as they are signed; its subject is the move, by SHA-256."""
        import rfc8785

        subject = [{"name": self.claim, "digest": {"sha256": hashlib.sha256(rfc8785.dumps(self.move)).hexdigest()}}]
        return in_toto.statement(subject, MOVE_TYPE, self.model_dump(mode="json"))


def facts(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is signed of a move's body: all but people and their words. Raises SignatureError when it is no move's."""
    try:
        return StageMove.model_validate(body).model_dump(mode="json", exclude=_PEOPLES, exclude_none=True)
    except ValidationError:
        raise SignatureError("what was signed or recorded is no move of a stage.") from None


def sign(said: SignedMove, signer: Signer) -> dsse.Envelope:
    """Sign a move. Raises SignatureError when it speaks for another environment than the key."""
    statement.check_voice(said.environment, signer)
    return dsse.sign(said.payload(), PAYLOAD_TYPE, signer)


def verify(envelope: Any, keys: Keyring, environment: str | None = None) -> SignedMove:
    """Verify an envelope (JSON values) by one of the keys and give what it says. Nothing is read before.

    Raises SignatureError when no trusted key signed it, it is no statement about a move, or it speaks for another environment.
    """
    payload, key = dsse.verify(dsse.read(envelope), PAYLOAD_TYPE, keys)
    try:
        record = json.loads(payload)
        if record["predicateType"] != MOVE_TYPE:
            raise ValueError(f"predicate {record['predicateType']!r}")
        said = SignedMove.model_validate(record["predicate"])
    except (ValueError, TypeError, KeyError, RecursionError, ValidationError) as error:
        raise SignatureError(f"what was signed is no statement about a stage's move: {str(error)[:300]}.") from None
    if said.payload() != payload:
        raise SignatureError("what was signed is a statement in another spelling than RFC 8785's, or of another subject.")
    statement.check_speaker(said.environment, key, environment)
    return said
