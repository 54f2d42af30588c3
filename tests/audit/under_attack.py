"""A log as somebody with every right over its place can change it: a database with its triggers off, or an exported folder.

Both offer the same acts, so that an attack is written once.
"""

import json
from base64 import b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from tests.audit.test_integrity import COLUMNS, Owner

from airgate.audit import merkle
from airgate.audit.event import time_text
from airgate.audit.merkle import Frontier, leaf_hash
from airgate.audit.verifier import Note

TABLES = ("events", "head", "tree", "checkpoints", "receipts")


class Place(Protocol):
    def leaves(self) -> list[bytes]: ...
    def put(self, seq: int, leaf: bytes | None, *, hash_too: bool = False) -> None: ...
    def put_hash(self, seq: int, digest: bytes) -> None: ...
    def remove(self, seq: int) -> None: ...
    def add(self, seq: int, leaf: bytes) -> None: ...
    def cut(self, size: int) -> None: ...
    def notes(self) -> dict[int, bytes]: ...
    def put_note(self, size: int, raw: bytes) -> None: ...
    def drop_note(self, size: int) -> None: ...
    def agree(self) -> None: ...


class InDatabase(Owner):
    """Rows; `agree` makes hashes and the head fit them again."""

    def __init__(self, url):
        super().__init__(url)
        self.connection = self._connect()
        if self.sqlite:
            names = self.do("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            self.run(f"DROP TRIGGER {name}" for (name,) in names)
        else:
            self.run(f"ALTER TABLE airgate_{table} DISABLE TRIGGER ALL" for table in TABLES)

    def do(self, statement, *values):
        cursor = self.connection.cursor()
        cursor.execute(statement if self.sqlite else statement.replace("?", "%s"), values)
        rows = cursor.fetchall() if cursor.description else []
        self.connection.commit()
        return [[bytes(cell) if isinstance(cell, memoryview) else cell for cell in row] for row in rows]

    def run(self, statements):
        for statement in statements:
            self.do(statement)

    def close(self):
        self.connection.close()

    def leaves(self):
        return [entry for (entry,) in self.do("SELECT entry FROM airgate_events ORDER BY seq")]

    def put(self, seq, leaf, *, hash_too=False):
        self.do("UPDATE airgate_events SET entry = ? WHERE seq = ?", leaf, seq)
        if hash_too:
            self.put_hash(seq, leaf_hash(leaf))

    def put_hash(self, seq, digest):
        self.do("UPDATE airgate_events SET leaf_hash = ? WHERE seq = ?", digest, seq)

    def remove(self, seq):
        self.do("DELETE FROM airgate_events WHERE seq = ?", seq)

    def add(self, seq, leaf):
        self.do("UPDATE airgate_events SET seq = -seq - 1000 WHERE seq >= ?", seq)
        columns = ", ".join(COLUMNS[2:-2])
        self.do(f"INSERT INTO airgate_events (seq, event_id, leaf_hash, entry, {columns}) "
                f"SELECT ?, '00000000-0000-0000-0000-000000000000', ?, ?, {columns} FROM airgate_events WHERE seq = ?",
                seq, leaf_hash(leaf), leaf, seq - 1)
        self.do("UPDATE airgate_events SET seq = -seq - 999 WHERE seq < -1")

    def cut(self, size):
        self.do("DELETE FROM airgate_events WHERE seq >= ?", size)

    def notes(self):
        return dict(self.do("SELECT size, note FROM airgate_checkpoints ORDER BY size"))

    def put_note(self, size, raw):
        self.drop_note(size)
        self.do("INSERT INTO airgate_checkpoints (size, note, made_at) VALUES (?, ?, '')", size, raw)

    def drop_note(self, size):
        self.do("DELETE FROM airgate_checkpoints WHERE size = ?", size)
        self.do("DELETE FROM airgate_receipts WHERE size = ?", size)

    def age(self, days):
        """Let every event have been stored so many days earlier; for a log of less than 256, before anything is signed."""
        for seq, leaf in enumerate(self.leaves()):
            stored_at = time_text(datetime.fromisoformat(leaf[-29:-2].decode()) - timedelta(days=days))
            self.put(seq, leaf[:-29] + stored_at.encode() + leaf[-2:])
            self.do("UPDATE airgate_events SET stored_at = ? WHERE seq = ?", stored_at, seq)
        self.agree()

    def agree(self):
        tree = Frontier()
        for seq, leaf in enumerate(self.leaves()):
            tree.append(leaf_hash(leaf))
            self.put_hash(seq, leaf_hash(leaf))
        self.do("UPDATE airgate_head SET size = ?, root = ?, frontier = ?", tree.size, tree.root(), tree.to_bytes())


class InFolder:
    """The files of an export of one segment; `agree` makes hashes, manifest, keys and proofs fit the leaves again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines, self.digests = folder / "log" / f"{0:020d}.jsonl", folder / "log" / f"{0:020d}.hashes"

    def leaves(self):
        return self.lines.read_bytes().split(b"\n")[:-1]

    def hashes(self):
        data = self.digests.read_bytes()
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    def put(self, seq, leaf, *, hash_too=False):
        if leaf is None:
            leaf = b'{"expired":"%b"}' % self.hashes()[seq].hex().encode()
        self._write([*self.leaves()[:seq], leaf, *self.leaves()[seq + 1 :]])
        if hash_too:
            self.put_hash(seq, leaf_hash(leaf))

    def put_hash(self, seq, digest):
        self.digests.write_bytes(b"".join([*self.hashes()[:seq], digest, *self.hashes()[seq + 1 :]]))

    def remove(self, seq):
        self._write([*self.leaves()[:seq], *self.leaves()[seq + 1 :]])
        self.digests.write_bytes(b"".join([*self.hashes()[:seq], *self.hashes()[seq + 1 :]]))

    def add(self, seq, leaf):
        self._write([*self.leaves()[:seq], leaf, *self.leaves()[seq:]])
        self.digests.write_bytes(b"".join([*self.hashes()[:seq], leaf_hash(leaf), *self.hashes()[seq:]]))

    def cut(self, size):
        self._write(self.leaves()[:size])
        self.digests.write_bytes(b"".join(self.hashes()[:size]))

    def notes(self):
        return {int(path.stem): path.read_bytes() for path in sorted((self.folder / "checkpoints").iterdir())}

    def put_note(self, size, raw):
        (self.folder / "checkpoints" / f"{size:020d}.note").write_bytes(raw)

    def drop_note(self, size):
        (self.folder / "checkpoints" / f"{size:020d}.note").unlink()

    def agree(self):
        leaves = self.leaves()
        hashes = [leaf_hash(leaf) for leaf in leaves]
        self.digests.write_bytes(b"".join(hashes))
        if not leaves:
            self.lines.unlink()
            self.digests.unlink()
        self.write_json("manifest.json", self.read_json("manifest.json") | {"size": len(leaves)})
        keys = [json.loads(leaf)["event"]["body"]["vkey"] for leaf in leaves if b'"kind":"audit.key"' in leaf]
        (self.folder / "keys.txt").write_text("".join(f"{key}\n" for key in keys))
        sizes = list(self.notes())
        self.write_json("proofs.json", {"consistency": [
            {"new": new, "old": old, "proof": [node.hex() for node in merkle.consistency_proof(hashes[:new], old)]}
            for old, new in pairwise(sizes) if new <= len(hashes)]})

    def read_json(self, name):
        return json.loads((self.folder / name).read_bytes())

    def write_json(self, name, value):
        (self.folder / name).write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    def _write(self, leaves):
        self.lines.write_bytes(b"".join(leaf + b"\n" for leaf in leaves))


def note_by(signer, leaves, previous, time="2026-01-01T00:00:00.000000Z"):
    """A checkpoint over these leaves by some key, in the log's name, chained to the raw note `previous`."""
    lines = [signer.public.name, str(len(leaves)), b64encode(merkle.root_of(map(leaf_hash, leaves))).decode()]
    if previous is not None:
        lines.append(f"previous {b64encode(sha256(previous).digest()).decode()}")
    text = "".join(f"{line}\n" for line in [*lines, f"time {time}"]).encode()
    raw = text + b"\n" + signer.signature_line(text)
    assert Note.parse(raw).signed_by(signer.public)
    return raw


def sign_anew(place, signer):
    """Replace every checkpoint by one of another key."""
    previous = None
    for size in place.notes():
        previous = note_by(signer, place.leaves()[:size], previous)
        place.put_note(size, previous)


def renumbered(leaf, seq):
    """The leaf with another number in it."""
    at = leaf.rindex(b',"seq":')
    return leaf[:at] + b',"seq":%d' % seq + leaf[leaf.rindex(b',"stored_at":') :]
