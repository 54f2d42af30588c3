"""What an answer stands on: the events it was made from, each proven to be in the log that the newest checkpoint signed.

`evidence` makes the proofs and `Evidence.check` holds them against the signature, as whoever gets them would: a leaf that was
edited in the database, or a checkpoint that somebody else signed, gives no answer but an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airgate.audit import checkpoints, proofs, trust
from airgate.audit.store import AuditStore
from airgate.audit.verifier import Note, VerifierKey, leaf_hash, verify_inclusion
from airgate.errors import AuditError


@dataclass(frozen=True)
class Evidence:
    """`signed` are proofs (as `proofs.inclusion` gives them) under the checkpoint `note`, which `key` signed.

    `unsigned` are proofs of later events in the tree as it is now: nobody outside can vouch for that root yet.
    """

    note: Note | None
    key: VerifierKey | None
    signed: tuple[dict[str, Any], ...]
    unsigned: tuple[dict[str, Any], ...]

    def check(self) -> "Evidence":
        """Verify the signature and every proof, and give the evidence. Raises AuditError for what does not hold."""
        if self.note is not None and (self.key is None or not self.note.signed_by(self.key)):
            raise AuditError(f"the checkpoint over {self.note.size} events is not signed by the key that was in force: it is "
                             "forged, or was changed. Run `airgate audit verify --anchors`")
        for proof in (*self.signed, *self.unsigned):
            root = self.note.root if self.note is not None and proof in self.signed else bytes.fromhex(proof["root"])
            hashes = [bytes.fromhex(node) for node in proof["proof"]]
            # An expired event has no text left; its hash is proven all the same.
            leaf = bytes.fromhex(proof["leaf_hash"]) if proof["entry"] is None else leaf_hash(proof["entry"].encode())
            if not verify_inclusion(leaf, proof["index"], proof["size"], hashes, root):
                raise AuditError(f"event {proof['index']} is not the one that was recorded: its bytes do not lead to the root "
                                 f"over {proof['size']} events. Run `airgate audit verify`")
        return self

    def as_json(self) -> dict[str, Any]:
        """{"checkpoint": the signed note's text, "key", "events": [proof and whether that note covers it]}."""
        events = [{**proof, "signed": True} for proof in self.signed] + [{**proof, "signed": False} for proof in self.unsigned]
        return {"checkpoint": self.note.raw.decode() if self.note else None, "key": self.key.text() if self.key else None,
                "events": sorted(events, key=lambda proof: proof["index"])}

    def line(self) -> str:
        """Say it in one line: 'proof: events 3, 4 are in the tree of 9 that audit.example.org signed at 2026-01-08 14:03'."""
        parts = []
        if self.signed and self.note is not None:
            parts.append(f"{_listed(self.signed)} in the tree of {self.note.size} that {self.note.origin} signed at "
                         f"{self.note.time[:16].replace('T', ' ')}")
        if self.unsigned:
            parts.append(f"{_listed(self.unsigned)} not signed yet (`airgate audit checkpoint` signs)")
        return "proof: " + ("; ".join(parts) or "nothing is on record, so there is nothing to prove")


def evidence(store: AuditStore, seqs: Iterable[int]) -> Evidence:
    """Prove the events of these numbers against the newest checkpoint, and check it.

    Raises AuditError when the log cannot be read, or when it is not what was signed.
    """
    wanted = sorted(set(seqs))
    notes = checkpoints.notes(store)
    note = notes[-1] if notes else None
    size = note.size if note else 0
    signed = [seq for seq in wanted if seq < size]
    later = [seq for seq in wanted if seq >= size]
    keys = checkpoints.succession(checkpoints.keys_named(store), notes)
    key = keys[len(notes) - 1] if note else None
    configured = trust.configured_key()
    if configured is not None and note is not None and keys[-1] != configured:
        raise AuditError(f"the key in force is not the configured one, {configured.text()}: somebody else signs this log, or "
                         "AIRGATE_AUDIT_KEY was not changed after a rotation. Run `airgate audit verify`")
    return Evidence(note, key, tuple(proofs.inclusions(store, signed, size)), tuple(proofs.inclusions(store, later))).check()


def _listed(found: tuple[dict[str, Any], ...]) -> str:
    numbers = [str(proof["index"]) for proof in found]
    shown = ", ".join(numbers[:8]) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"event {shown} is" if len(numbers) == 1 else f"events {shown} are"
