"""A second verifier for exported audit logs, written from docs/audit-format.md alone and without Airgate's code.

It shows whether the page is precise enough, and it disagrees with Airgate's own verifier where one of the two is wrong. Read it
next to the page: section and rule numbers are the page's. Where the page leaves something open, GUESS says what is done here.
"""

import base64
import collections.abc
import contextlib
import dataclasses
import datetime
import functools
import hashlib
import hmac
import json
import pathlib
import re
import typing
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEGMENT = 65536
NAMESPACE = uuid.UUID("715ca83a-4fbb-566e-a455-6552a119dd1e")
NUMBER = rb"(0|[1-9][0-9]*)"
TIME = rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"
HASH = rb"([A-Za-z0-9+/]{43}=)"
LEAF = re.compile(rb'\{"event":(\{.*\}),"seq":' + NUMBER + rb',"stored_at":"' + TIME + rb'"\}')
EXPIRED = re.compile(rb'\{"expired":"([0-9a-f]{64})"\}')
NOTE_TEXT = re.compile(rb"([^\n]+)\n" + NUMBER + rb"\n" + HASH + rb"\n(?:previous " + HASH + rb"\n)?time " + TIME + rb"\n")
SIGNATURE_LINE = re.compile("\u2014 ([^ ]+) ([A-Za-z0-9+/]+={0,2})".encode())
ANSWERS = {
    "success": ["task.succeeded"],
    "failed": ["task.failed", "task.retrying"],
    "skipped": ["task.skipped"],
    "removed": ["task.skipped"],
    "upstream_failed": ["task.upstream_failed"],
}
BAD_INPUT = (ValueError, KeyError, TypeError, RecursionError)  # what reading something in a wrong form raises
RootOf = collections.abc.Callable[[int], bytes]  # from a size to the root of that many leaves


class Tampered(Exception):
    """One of the four rules of section 8 fails; the message says what and where."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A verifier key, taken apart."""

    name: str
    hash: bytes
    public: bytes


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One line of the log. If the leaf's contents were dropped, `stored_at` is None and `event` is empty."""

    seq: int
    hash: bytes
    event: dict[str, typing.Any]
    stored_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Note:
    """One checkpoint: `raw` is all of it, `text` the signed part, `where` its folder and name."""

    where: str
    raw: bytes
    text: bytes
    origin: str
    size: int
    root: bytes
    previous: bytes | None
    signatures: list[tuple[str, bytes]]


# ---- sections 2 to 5: ids, sealed texts, the tree, keys and notes


def task_name(task: dict[str, typing.Any], *kind: str) -> str:
    """The name that is hashed into an event's id; without a kind it just tells task tries apart."""
    parts = [task[key] for key in ("dag_id", "run_id", "task_id", "try_number", "map_index")]
    return json.dumps([*parts, *kind], separators=(",", ":"))


def open_sealed(subject_key: bytes, box: str, event_id: str, path: str) -> str:
    """The text in a sealed box (section 3). A verdict does not need it."""
    seal_key = hmac.digest(subject_key, b"airgate seal\n", "sha256")
    data = base64.b64decode(box, validate=True)
    return AESGCM(seal_key).decrypt(data[:12], data[12:], f"{event_id}\n{path}".encode()).decode()


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf (section 4)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node (section 4)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def make_root_of(hashes: list[bytes]) -> RootOf:
    """Roots of the first so many of these leaf hashes (section 4). Parts that several roots share are remembered."""

    @functools.cache
    def subtree(first: int, end: int) -> bytes:
        if end - first == 1:
            return hashes[first]
        k = 1
        while 2 * k < end - first:
            k *= 2
        return node_hash(subtree(first, first + k), subtree(first + k, end))

    return lambda size: subtree(0, size) if size else hashlib.sha256(b"").digest()


def parse_key(vkey: str) -> Key:
    """Takes a verifier key apart; ValueError if it is not one."""
    name, digest, data = vkey.split("+", 2)
    public = base64.b64decode(data, validate=True)
    expected = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    if not name or len(public) != 33 or public[0] != 1 or digest != expected.hex():
        raise ValueError(f"not a verifier key: {vkey}")
    return Key(name, expected, public[1:])


def parse_note(raw: bytes, where: str) -> Note:
    """Takes a checkpoint apart (section 5). GUESS: the text has these lines and no others."""
    text, _, signed = raw.partition(b"\n\n")
    text += b"\n"
    match = NOTE_TEXT.fullmatch(text)
    lines = [SIGNATURE_LINE.fullmatch(line) for line in signed.removesuffix(b"\n").split(b"\n")]
    try:
        if not match or not all(lines) or not signed.endswith(b"\n"):
            raise ValueError("wrong lines")
        signatures = [(line[1].decode(), base64.b64decode(line[2], validate=True)) for line in lines if line]
        previous = base64.b64decode(match[4]) if match[4] else None
        return Note(where, raw, text, match[1].decode(), int(match[2]), base64.b64decode(match[3]), previous, signatures)
    except BAD_INPUT as error:
        raise Tampered(f"{where} does not have the form of a checkpoint: {error}") from error


def is_signed(note: Note, trusted: collections.abc.Iterable[Key]) -> bool:
    """Whether at least one of the keys signed the note. GUESS: a bad signature beside a good one does no harm."""
    for key in trusted:
        for name, blob in note.signatures:
            if name == key.name and blob[:4] == key.hash and len(blob) == 68:
                with contextlib.suppress(InvalidSignature):
                    Ed25519PublicKey.from_public_bytes(key.public).verify(blob[4:], note.text)
                    return True
    return False


# ---- section 7: reading an export


def read(path: pathlib.Path) -> bytes:
    """A file's bytes; none if there is no such file (what should have been in it is then found missing)."""
    return path.read_bytes() if path.exists() else b""


def parse_leaf(line: bytes, number: int) -> Leaf:
    """Reads the line of the log that should be leaf `number`. GUESS: a line in another form is tampering."""
    if expired := EXPIRED.fullmatch(line):
        return Leaf(number, bytes.fromhex(expired[1].decode()), {}, None)
    try:
        match = LEAF.fullmatch(line)
        event = json.loads(match[1].decode()) if match else {}
        texts = [event["event_id"], event["kind"], event["occurred_at"]]
        if not match or not all(isinstance(text, str) for text in texts) or not isinstance(event["body"], dict):
            raise ValueError("a field of another type")
        stored_at = datetime.datetime.fromisoformat(match[3].decode())
        if not re.fullmatch(TIME, event["occurred_at"].encode()) or not datetime.datetime.fromisoformat(event["occurred_at"]):
            raise ValueError("a time in another form")
    except BAD_INPUT as error:
        raise Tampered(f"the line of leaf {number} does not have the form of a leaf ({error!r})") from error
    if int(match[2]) != number:
        raise Tampered(f"leaf {number} is not at its place: leaf {int(match[2])} stands there")
    return Leaf(number, leaf_hash(line), event, stored_at)


def read_leaves(export: pathlib.Path) -> list[Leaf]:
    """All leaves, each at its number and with its hash (rule 1 but for the roots). GUESS: every .hashes file has to be there."""
    leaves: list[Leaf] = []
    for name in sorted({path.stem for path in (export / "log").glob("*") if path.suffix in (".jsonl", ".hashes")}):
        if name != f"{len(leaves):020}" or len(leaves) % SEGMENT:
            raise Tampered(f"leaf {len(leaves)} is missing: the log goes on with the file {name}")
        *lines, rest = read(export / "log" / f"{name}.jsonl").split(b"\n")
        hashes = read(export / "log" / f"{name}.hashes")
        for i, line in enumerate(lines):
            leaf = parse_leaf(line, len(leaves))
            if leaf.hash != hashes[32 * i : 32 * i + 32]:
                raise Tampered(f"leaf {leaf.seq} does not have the hash that the database had for it")
            leaves.append(leaf)
        if rest or len(hashes) != 32 * len(lines) or len(lines) > SEGMENT:
            counts = f"{len(lines)} lines for {len(hashes) / 32:g} hashes"
            raise Tampered(f"leaf {len(leaves)} is missing, broken off or too much: {name} has {counts}")
    return leaves


def read_notes(folder: pathlib.Path, origin: str) -> list[Note]:
    """The checkpoints in a folder, smallest first. GUESS: each has the size in its name, and the manifest's origin."""
    notes = []
    for path in sorted(folder.glob("*.note")):
        note = parse_note(path.read_bytes(), f"{folder.name}/{path.name}")
        if (path.name, note.origin) != (f"{note.size:020}.note", origin):
            raise Tampered(f"{note.where} is a checkpoint of {note.size} leaves of {note.origin}, and does not belong there")
        notes.append(note)
    return notes


# ---- section 8: the verdict


def check_note(note: Note, leaves: list[Leaf], root: RootOf, trusted: set[Key], good: int) -> None:
    """What rules 1 to 3 ask of checkpoints and anchored notes alike. The first `good` leaves are known to be right."""
    if note.size > len(leaves):
        raise Tampered(f"leaf {len(leaves)} is missing: {note.where} is about {note.size} leaves, the log has {len(leaves)}")
    if not is_signed(note, trusted):
        raise Tampered(f"{note.where} is not signed by a trusted key")
    if root(note.size) != note.root:
        raise Tampered(f"one of the leaves from {good} to {note.size - 1} was changed: they do not have the root in {note.where}")


def check_notes(notes: list[Note], anchored: list[Note], leaves: list[Leaf], trusted: set[Key]) -> None:
    """Rules 1 to 3. Adds to `trusted` the keys that come to count (section 5).

    GUESS: checkpoints are taken in the order of their sizes. A key that was replaced goes on being trusted. For an anchored note
    any key will do that is trusted in the end, and keys in the log come to count by the export's checkpoints only.
    """
    root = make_root_of([leaf.hash for leaf in leaves])
    good, previous, before = 0, None, "nothing"
    for note in notes:
        if note.previous != previous:
            raise Tampered(f"{note.where} does not follow {before}: one was changed, or one between them is missing")
        check_note(note, leaves, root, trusted, good)
        for leaf in leaves[good : note.size]:
            if leaf.event.get("kind") == "audit.key":
                with contextlib.suppress(*BAD_INPUT, AttributeError):  # GUESS: something else than a key is passed over
                    trusted.add(parse_key(leaf.event["body"]["vkey"]))
        good, previous, before = note.size, hashlib.sha256(note.raw).digest(), note.where
    for note in anchored:
        check_note(note, leaves, root, trusted, 0)


def check_expired(leaves: list[Leaf]) -> None:
    """Rule 4. GUESS: the audit.expired leaf may stand anywhere, also where nothing is signed yet."""
    dropped = [leaf.seq for leaf in leaves if not leaf.event]
    for leaf in leaves:
        if leaf.event.get("kind") == "audit.expired":
            with contextlib.suppress(*BAD_INPUT):
                for first, last in leaf.event["body"]["ranges"]:
                    dropped = [seq for seq in dropped if not first <= seq <= last]
    if dropped:
        raise Tampered(f"leaf {dropped[0]} has no contents, and no audit.expired leaf says why")


def find_gaps(account: bytes, leaves: list[Leaf]) -> list[str]:
    """What makes a log incomplete, in words. GUESS: leaves without contents answer nothing."""
    gaps, ids, changes, requests = [], set(), set(), set()
    for leaf in leaves:
        kind, body = leaf.event.get("kind"), leaf.event.get("body", {})
        digest = json.dumps(body.get("request_digest"))
        ids.add(leaf.event.get("event_id"))
        if kind == "manual.change":
            with contextlib.suppress(*BAD_INPUT):
                changes.add((task_name(leaf.event["task"]), json.dumps(body["state"])))
        if kind in ("stage.moving", "promotion.approved"):
            requests.add(digest)
        if kind == "stage.moved" and (digest == "null" or digest not in requests):  # GUESS: no digest fits no digest
            gaps.append(f"leaf {leaf.seq} moved a stage, and no stage.moving or promotion.approved leaf before it fits")
    for number, line in enumerate(account.removesuffix(b"\n").split(b"\n") if account else [], start=1):
        try:
            task = json.loads(line.decode())
            kinds = ANSWERS.get(task["state"], [])
            answered = any(str(uuid.uuid5(NAMESPACE, task_name(task, kind))) in ids for kind in kinds)
            if kinds and not answered and (task_name(task), json.dumps(task["state"])) not in changes:
                gaps.append(f"line {number} of account.jsonl has no answer: {line.decode()}")
        except BAD_INPUT as error:
            gaps.append(f"line {number} of account.jsonl cannot be read ({error!r})")  # GUESS: so it has no answer
    return gaps


def find_oddities(leaves: list[Leaf]) -> list[str]:
    """What to point out although it breaks no rule: clocks (section 1), and ids that come twice (section 2; GUESS)."""
    odd, ids, newest = [], set(), None
    tolerance = datetime.timedelta(seconds=5)
    for leaf in leaves:
        if leaf.stored_at is None:
            continue
        if datetime.datetime.fromisoformat(leaf.event["occurred_at"]) - leaf.stored_at > tolerance:
            odd.append(f"note: leaf {leaf.seq} occurred after it was stored")
        if newest and newest - leaf.stored_at > tolerance:
            odd.append(f"note: leaf {leaf.seq} was stored before an earlier leaf")
        if leaf.event["event_id"] in ids:
            odd.append(f"note: leaf {leaf.seq} has the event id of an earlier leaf")
        ids.add(leaf.event["event_id"])
        newest = max(newest or leaf.stored_at, leaf.stored_at)
    return odd


def verify(
    export: pathlib.Path, keys: collections.abc.Sequence[str] = (), anchors: collections.abc.Sequence[pathlib.Path] = ()
) -> tuple[str, str]:
    """The verdict over an export: ("ok", "tampered" or "incomplete", and what and where in plain words).

    `keys` are verifier keys that the reader trusts to begin with; without any, the first of keys.txt is. ValueError if one of
    them is no key, or one of the anchors no folder: that is the reader's mistake and says nothing about the log.
    """
    trusted = {parse_key(key) for key in keys}
    if missing := [anchor for anchor in anchors if not anchor.is_dir()]:
        raise ValueError(f"not a folder: {missing[0]}")
    try:
        try:
            manifest = json.loads(read(export / "manifest.json").decode())
            form, segment, origin, size = (manifest[key] for key in ("format", "segment", "origin", "size"))
            if (form, segment) != ("airgate-audit-export/1", SEGMENT) or not isinstance(size, int):
                raise ValueError("a format that this verifier does not know")
            if not keys:
                trusted.add(parse_key(read(export / "keys.txt").decode().split("\n")[0]))
        except BAD_INPUT as error:
            raise Tampered(f"manifest.json or keys.txt cannot be read ({error!r})") from error
        leaves = read_leaves(export)
        if len(leaves) < size:
            raise Tampered(f"leaf {len(leaves)} is missing: the manifest is about {size} leaves, the log has {len(leaves)}")
        notes = read_notes(export / "checkpoints", origin)
        check_notes(notes, [note for anchor in anchors for note in read_notes(anchor, origin)], leaves, trusted)
        check_expired(leaves)
    except Tampered as problem:
        return "tampered", str(problem)
    gaps = find_gaps(read(export / "account.jsonl"), leaves)
    unsigned = len(leaves) - (notes[-1].size if notes else 0)
    summary = f"{len(leaves)} leaves and {len(notes)} checkpoints; not signed yet: the last {unsigned} leaves"
    return "incomplete" if gaps else "ok", "\n".join([*gaps, summary, *find_oddities(leaves)])
