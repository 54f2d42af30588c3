"""A second verifier for exported audit logs, written from docs/audit-format.md alone and without Airgate's code.

It shows whether the page is precise enough, and it disagrees with Airgate's own verifier where one of the two is wrong. Read it
next to the page: section and rule numbers are the page's. Where the page leaves something open, GUESS says what is done here.
"""

import base64
import bisect
import collections.abc
import contextlib
import dataclasses
import datetime
import functools
import hashlib
import hmac
import itertools
import json
import pathlib
import re
import typing
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

EXPORT, EXTRACT = "airgate-audit-export/1", "airgate-audit-extract/1"
SEGMENT = 65536
LIMIT = 65536  # bytes, of an event and of a checkpoint
NAMESPACE = uuid.UUID("715ca83a-4fbb-566e-a455-6552a119dd1e")
NUMBER = "(0|[1-9][0-9]{0,19})"
TIME = r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"
LEAF = re.compile(r'\{"event":(\{.*\}),"seq":' + NUMBER + ',"stored_at":"' + TIME + r'"\}')
EXPIRED = re.compile(r'\{"expired":"([0-9a-f]{64})"\}')
PROOF = re.compile(r'\{"proof":\[((?:"[0-9a-f]{64}"(?:,(?=")|(?=\])))*)\],"seq":' + NUMBER + ',"size":' + NUMBER + r"\}")
NOTE_TEXT = re.compile(r"([^\n]+)\n" + NUMBER + r"\n([^\n ]+)\n(?:previous ([^\n ]+)\n)?time " + TIME + r"\n")
NOTE_NAME = re.compile(r"[0-9]{20}\.note")
SIGNATURE_LINE = re.compile(r"\u2014 ([^\s+]+) ([^\s]+)")
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
    """A rule of section 8 or 9 fails; the message says what and where."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A verifier key, taken apart."""

    name: str
    hash: bytes
    public: bytes


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One line of the log. If the leaf's contents were dropped, the times are None and `event` is empty."""

    seq: int
    hash: bytes
    event: dict[str, typing.Any]
    occurred_at: datetime.datetime | None
    stored_at: datetime.datetime | None

    @property
    def kind(self) -> str:
        """What happened; an empty text if the contents were dropped."""
        return self.event.get("kind", "")


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
    time: datetime.datetime
    signatures: list[tuple[str, bytes]]


# ---- the small forms of the conventions and of section 1


def parse_base64(text: str, length: int | None = None) -> bytes:
    """Base64 in its one right form (unused bits are zero); ValueError for any other, or another number of bytes."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text or length not in (None, len(data)):
        raise ValueError(f"not Base64, or too short or long: {text}")
    return data


def parse_time(text: str) -> datetime.datetime:
    """A time of section 1. GUESS: it is one that the calendar has, without leap seconds."""
    if not re.fullmatch(TIME, text):
        raise ValueError(f"not a time: {text}")
    return datetime.datetime.fromisoformat(text)


def refuse(name: str) -> None:
    """For NaN and the infinities, which Python's reader would take."""
    raise ValueError(f"JSON has no {name}")


parse_json = json.JSONDecoder(parse_constant=refuse).decode


# ---- sections 2 to 5: ids, sealed texts, the tree, keys and notes


def task_name(task: dict[str, typing.Any], *kind: str) -> str:
    """The name that is hashed into an event's id; without a kind it just tells task tries apart."""
    parts = [task[key] for key in ("dag_id", "run_id", "task_id", "try_number", "map_index")]
    return json.dumps([*parts, *kind], separators=(",", ":"), ensure_ascii=True)


def open_sealed(subject_key: bytes, box: str, event_id: str, path: str) -> str:
    """The text in a sealed box (section 3). A verdict does not need it."""
    seal_key = hmac.digest(subject_key, b"airgate seal\n", "sha256")
    data = parse_base64(box)
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
        k = 1 << ((end - first - 1).bit_length() - 1)
        return node_hash(subtree(first, first + k), subtree(first + k, end))

    return lambda size: subtree(0, size) if size else hashlib.sha256(b"").digest()


def root_from_inclusion(hashed: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    """RFC 9162, 2.1.3.2: the root that an inclusion proof leads to; None if it cannot be one for this place in this tree."""
    if index >= size:
        return None
    fn, sn = index, size - 1
    for other in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            hashed = node_hash(other, hashed)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            hashed = node_hash(hashed, other)
        fn, sn = fn >> 1, sn >> 1
    return hashed if sn == 0 else None


def parse_key(vkey: str) -> Key:
    """Takes a verifier key apart; one of BAD_INPUT if it is none. GUESS: as in C2SP, the name has no white space."""
    match = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([^\s]+)", vkey)
    data = parse_base64(match[3], 33) if match else b""
    digest = hashlib.sha256(match[1].encode() + b"\n" + data).digest()[:4] if match else b""
    if not match or data[0] != 1 or match[2] != digest.hex():
        raise ValueError(f"not a verifier key: {vkey}")
    return Key(match[1], digest, data[1:])


def parse_note(raw: bytes, where: str) -> Note:
    """Takes a checkpoint apart (section 5). GUESS: a signature line by a key that is not known may have any length."""
    try:
        if len(raw) > LIMIT:
            raise ValueError("too long")
        text, _, signed = raw.decode().partition("\n\n")
        match = NOTE_TEXT.fullmatch(text + "\n")
        *lines, rest = signed.split("\n")
        signatures = [(line[1], parse_base64(line[2])) for line in map(SIGNATURE_LINE.fullmatch, lines) if line]
        if not match or rest or not 1 <= len(lines) <= 100 or len(signatures) != len(lines):
            raise ValueError("wrong lines")
        time = parse_time(match[5])
        root, previous = parse_base64(match[3], 32), parse_base64(match[4], 32) if match[4] else None
        return Note(where, raw, f"{text}\n".encode(), match[1], int(match[2]), root, previous, time, signatures)
    except BAD_INPUT as error:
        raise Tampered(f"{where} does not have the form of a checkpoint: {error}") from error


def is_signed_by(note: Note, key: Key) -> bool:
    """Whether the note has lines by this key and all of them are right."""
    blobs = [blob for name, blob in note.signatures if (name, blob[:4]) == (key.name, key.hash)]
    try:
        for blob in blobs:
            Ed25519PublicKey.from_public_bytes(key.public).verify(blob[4:], note.text)
    except (InvalidSignature, ValueError):
        return False
    return bool(blobs)


def follow_keys(note: Note, leaves: list[Leaf], first: Leaf | None, trusted: set[Key]) -> list[str]:
    """Section 5, which keys count: `leaves` are those that this checkpoint, which holds, is the first to cover.

    Changes `trusted` and returns what to point out. GUESS: the log's `first` leaf of this kind needs no mention if it replaces
    nothing, and a body in another form changes nothing like the rest.
    """
    odd = []
    for leaf in leaves:
        if leaf.kind != "audit.key" or (leaf is first and leaf.event["body"].get("replaces", "") is None):
            continue
        with contextlib.suppress(*BAD_INPUT):
            old, new = parse_key(leaf.event["body"]["replaces"]), parse_key(leaf.event["body"]["vkey"])
            if old in trusted and is_signed_by(note, old) and is_signed_by(note, new):
                trusted.remove(old)
                trusted.add(new)
                continue
        odd.append(f"note: leaf {leaf.seq} names a key, but {note.where} does not bring it into force; nothing changes")
    return odd


# ---- section 7: reading a folder


def read(path: pathlib.Path) -> bytes:
    """A file's bytes; none if there is no such file (what should have been in it is then found missing)."""
    return path.read_bytes() if path.exists() else b""


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a file that has to be there."""
    try:
        *lines, rest = path.read_bytes().decode().split("\n")
        if rest:
            raise ValueError("the last line is broken off")
        return lines
    except (OSError, ValueError) as error:
        raise Tampered(f"{path.name} cannot be read: {error}") from error


def read_manifest(folder: pathlib.Path) -> dict[str, typing.Any]:
    """The manifest. ValueError if there is none or its format is not known; if anything else in it is wrong, Tampered.

    GUESS: what is not a JSON object has no known format; the form of an extract's manifest is as strict as that of an export's.
    """
    data = read(folder / "manifest.json")
    try:
        manifest = parse_json(data.decode())
        if manifest["format"] not in (EXPORT, EXTRACT):
            raise ValueError("the format is not known")
    except BAD_INPUT as error:
        raise ValueError(f"no manifest of an export or an extract: {error!r}") from error
    try:
        made_at, origin, size = manifest["made_at"], manifest["origin"], manifest["size"]
        expected = {"format": manifest["format"], "made_at": made_at, "origin": origin, "size": size}
        expected |= {"segment": SEGMENT} if manifest["format"] == EXPORT else {}
        jcs = json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=False)  # that of so simple an object
        if not parse_time(made_at) or not isinstance(origin, str) or type(size) is not int or size < 0:
            raise ValueError("a value of another type")
        if f"{jcs}\n".encode() != data:
            raise ValueError("not in its one form")
        return manifest
    except BAD_INPUT as error:
        raise Tampered(f"manifest.json does not have its form: {error!r}") from error


def parse_leaf(line: bytes, number: int) -> Leaf:
    """Reads the line that should be leaf `number`. GUESS: of an event, only what this verifier uses has to have its form."""
    try:
        text = line.decode()
        if expired := EXPIRED.fullmatch(text):
            return Leaf(number, bytes.fromhex(expired[1]), {}, None, None)
        match = LEAF.fullmatch(text)
        if not match or len(match[1].encode()) > LIMIT:
            raise ValueError("another frame, or too long")
        event = parse_json(match[1])
        texts = [event["event_id"], event["kind"], event["occurred_at"]]
        if not all(isinstance(value, str) for value in texts) or not isinstance(event["body"], dict):
            raise ValueError("a field of another type")
        occurred_at, stored_at = parse_time(event["occurred_at"]), parse_time(match[3])
    except BAD_INPUT as error:
        raise Tampered(f"the line of leaf {number} does not have the form of a leaf ({error!r})") from error
    if int(match[2]) != number:
        raise Tampered(f"leaf {number} is not at its place: leaf {int(match[2])} stands there")
    return Leaf(number, leaf_hash(line), event, occurred_at, stored_at)


def read_leaves(export: pathlib.Path) -> list[Leaf]:
    """All leaves (rule 1). GUESS: names in log/ that do not end in .jsonl or .hashes are passed over."""
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
        if rest or len(hashes) != 32 * len(lines) or not 1 <= len(lines) <= SEGMENT:
            counts = f"{len(lines)} lines for {len(hashes) / 32:g} hashes"
            raise Tampered(f"leaf {len(leaves)} is missing, broken off or too much: {name} has {counts}")
    return leaves


def read_notes(folder: pathlib.Path, origin: str) -> list[Note]:
    """The checkpoints of an export or an extract, smallest first (rule 2 for them)."""
    notes = []
    for path in sorted(folder.glob("checkpoints/*.note")):
        note = parse_note(path.read_bytes(), f"checkpoints/{path.name}")
        if (path.name, note.origin) != (f"{note.size:020}.note", origin):
            raise Tampered(f"{note.where} is a checkpoint of {note.size} leaves of {note.origin}, and does not belong there")
        notes.append(note)
    return notes


# ---- section 8: the verdict over an export


def check_signed(note: Note, trusted: set[Key]) -> None:
    """That a trusted key signed a checkpoint."""
    if not any(is_signed_by(note, key) for key in trusted):
        raise Tampered(f"{note.where} is not signed by a trusted key")


def find_first_key(leaves: list[Leaf]) -> Leaf | None:
    """The first of these leaves that names a key."""
    return next((leaf for leaf in leaves if leaf.kind == "audit.key"), None)


def check_notes(notes: list[Note], leaves: list[Leaf], trusted: set[Key]) -> list[str]:
    """Rules 3 and 4. `trusted` follows the log's keys; returns what to point out about them."""
    if leaves and not notes:
        raise Tampered("there is no checkpoint: nothing vouches for leaf 0 and what follows")
    root_of, first = make_root_of([leaf.hash for leaf in leaves]), find_first_key(leaves)
    good, previous, odd = 0, None, []
    for note in notes:
        if note.previous != previous:
            raise Tampered(f"{note.where} does not follow the one before: one was changed, or one between is missing")
        if note.size > len(leaves):
            raise Tampered(f"leaf {len(leaves)} is missing: {note.where} is about {note.size} leaves")
        check_signed(note, trusted)
        if root_of(note.size) != note.root:
            raise Tampered(f"a leaf from {good} to {note.size - 1} was changed: they do not have the root in {note.where}")
        odd += follow_keys(note, leaves[good : note.size], first, trusted)
        good, previous = note.size, hashlib.sha256(note.raw).digest()
    return odd


def check_anchors(notes: list[Note], anchors: collections.abc.Sequence[pathlib.Path], leaves: list[Leaf] | None) -> None:
    """Rule 5, or what is left of it for an extract, which has no `leaves`: other sizes are then passed over.

    GUESS: an anchored note's size is that in its name; if it has another inside, it is not byte for byte the checkpoint.
    """
    own = {pathlib.Path(note.where).name: note.raw for note in notes}
    for path in (path for anchor in anchors for path in sorted(anchor.iterdir()) if NOTE_NAME.fullmatch(path.name)):
        where = f"{path.parent.name}/{path.name}"
        if leaves is not None and int(path.stem) > len(leaves):
            raise Tampered(f"leaf {len(leaves)} is missing: {where} is about {int(path.stem)} leaves, the log has {len(leaves)}")
        if (leaves is not None or path.name in own) and path.read_bytes() != own.get(path.name):
            raise Tampered(f"{where} is not byte for byte the checkpoint of that size")


def earliest_times(leaves: list[Leaf], notes: list[Note]) -> dict[int, datetime.datetime]:
    """When each leaf without contents was stored at the earliest (section 8); those of which nothing is known are left out."""
    pairs = [(note.size, note.time) for note in notes]
    for before, leaf in itertools.pairwise(leaves):
        if before.stored_at is not None and leaf.stored_at is None:
            pairs.append((leaf.seq, before.stored_at))
    pairs.sort()
    corrected = list(itertools.accumulate((time for _, time in reversed(pairs)), min))[::-1]
    known = [bisect.bisect_right(pairs, leaf.seq, key=lambda pair: pair[0]) for leaf in leaves]
    return {leaf.seq: corrected[count - 1] for leaf, count in zip(leaves, known, strict=True) if leaf.stored_at is None and count}


def find_limit(months: typing.Any, notes: list[Note], seq: int) -> datetime.datetime:
    """The limit of the audit.expired leaf `seq` (section 8). One of BAD_INPUT if its months are none, or go back too far."""
    if type(months) is not int or not 1 <= months <= 1200:
        raise ValueError("not a number of months")
    signed = next(note.time for note in notes if note.size > seq)
    years, month = divmod(signed.year * 12 + signed.month - 1 - months, 12)
    return signed.replace(year=years, month=month + 1, day=1) + datetime.timedelta(days=signed.day - 1 + 1)


def check_expired(leaves: list[Leaf], notes: list[Note]) -> None:
    """Rule 6. GUESS: a range in another form, or that is not all below its leaf, explains nothing; its neighbours still do."""
    dropped = [leaf.seq for leaf in leaves if leaf.stored_at is None]
    earliest = earliest_times(leaves, notes)
    for leaf in leaves[: notes[-1].size] if dropped else []:
        body = leaf.event["body"] if leaf.kind == "audit.expired" else {}
        ranges = body.get("ranges")
        try:
            limit = find_limit(body.get("months"), notes, leaf.seq)
        except BAD_INPUT:
            continue
        old = {seq for seq in dropped if seq not in earliest or earliest[seq] <= limit}
        for pair in ranges if isinstance(ranges, list) else []:
            if isinstance(pair, list) and [type(end) for end in pair] == [int, int] and pair[1] < leaf.seq:
                dropped = [seq for seq in dropped if seq not in old or not pair[0] <= seq <= pair[1]]
    if dropped:
        raise Tampered(f"leaf {dropped[0]} has no contents, and no audit.expired leaf that counts says why")


def task_answers(task: dict[str, typing.Any]) -> list[str]:
    """The names of the ids that answer a task try of an account."""
    if [type(task[key]) for key in ("dag_id", "run_id", "task_id", "try_number", "map_index")] != [str] * 3 + [int] * 2:
        raise ValueError("a field of another type")
    return [task_name(task, kind) for kind in ANSWERS.get(task["state"], [])]


def run_answers(run: dict[str, typing.Any]) -> list[str]:
    """The name of the id that answers a run of an account. GUESS: whatever stands for `end` is hashed as it is."""
    parts = [run["dag_id"], run["run_id"], "run.ended", run["state"], run["end"]]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a field of another type")
    return [json.dumps(parts, separators=(",", ":"), ensure_ascii=True)] if run["state"] in ("success", "failed") else []


def find_gaps(account: list[str], leaves: list[Leaf]) -> list[str]:
    """What makes a log incomplete, in words. GUESS: a line of the account in another form is tampering, by rule 7."""
    gaps: list[str] = []
    ids, changes = {leaf.event.get("event_id") for leaf in leaves}, set()
    requests: dict[str, set[str]] = {"stage.moving": set(), "promotion.approved": set()}
    claims: set[str] = set()
    for leaf in leaves:
        body = leaf.event.get("body", {})
        digest = body.get("request_digest")
        if leaf.kind == "manual.change":
            with contextlib.suppress(*BAD_INPUT):
                changes.add((task_name(leaf.event["task"]), json.dumps(leaf.event["body"]["state"])))
        if leaf.kind in requests and isinstance(digest, str):  # GUESS: a digest is a text, and null is none
            requests[leaf.kind].add(digest)
        if leaf.kind == "stage.moving":
            claims.add(leaf.event["event_id"])
        unused = body.get("to_version", "") is None or body.get("stage") == "archived"
        if leaf.kind == "stage.moved" and unused:
            if body.get("claim") not in claims:
                gaps.append(f"leaf {leaf.seq} emptied a stage or archived without its stage.moving leaf before it")
        elif leaf.kind == "stage.moved":
            missing = [kind for kind, known in requests.items() if not isinstance(digest, str) or digest not in known]
            gaps += [f"leaf {leaf.seq} moved a stage without a {kind} leaf before it for the same request" for kind in missing]
    for number, line in enumerate(account, start=1):
        try:
            said = parse_json(line)
            answers = task_answers(said) if "task_id" in said else run_answers(said)
        except BAD_INPUT as error:
            raise Tampered(f"line {number} of account.jsonl does not have its form: {error!r}") from error
        by_hand = "task_id" in said and (task_name(said), json.dumps(said["state"])) in changes
        if answers and not by_hand and ids.isdisjoint(str(uuid.uuid5(NAMESPACE, name)) for name in answers):
            gaps.append(f"line {number} of account.jsonl has no answer: {line}")
    if gaps and any(leaf.stored_at is None for leaf in leaves):
        gaps.append("some leaves have no contents any more: the answer may have been among them")
    return gaps


def find_oddities(leaves: list[Leaf]) -> list[str]:
    """What to point out although it breaks no rule: clocks (section 1), ids that come twice (section 2), alarms (section 6)."""
    odd, ids, newest = [], set(), None
    tolerance = datetime.timedelta(seconds=5)
    for leaf in leaves:
        if leaf.occurred_at is None or leaf.stored_at is None:
            continue
        if leaf.occurred_at - leaf.stored_at > tolerance:
            odd.append(f"note: leaf {leaf.seq} occurred after it was stored")
        if newest and newest - leaf.stored_at > tolerance:
            odd.append(f"note: leaf {leaf.seq} was stored before an earlier leaf")
        if leaf.event["event_id"] in ids:
            odd.append(f"note: leaf {leaf.seq} has the event id of an earlier leaf")
        if leaf.kind == "audit.alarm":
            odd.append(f"note: leaf {leaf.seq} is an alarm: {json.dumps(leaf.event['body'].get('alarm'))}")
        ids.add(leaf.event["event_id"])
        newest = max(newest or leaf.stored_at, leaf.stored_at)
    return odd


def verify_export(
    export: pathlib.Path, manifest: dict[str, typing.Any], trusted: set[Key], anchors: collections.abc.Sequence[pathlib.Path]
) -> tuple[str, list[str]]:
    """Section 8."""
    leaves = read_leaves(export)
    if len(leaves) != manifest["size"]:
        is_short = "missing" if len(leaves) < manifest["size"] else "too much"
        number = min(len(leaves), manifest["size"])
        raise Tampered(f"leaf {number} is {is_short}: the manifest says {manifest['size']} leaves, the log has {len(leaves)}")
    notes = read_notes(export, manifest["origin"])
    odd = check_notes(notes, leaves, trusted)
    check_anchors(notes, anchors, leaves)
    signed = notes[-1].size if notes else 0
    check_expired(leaves, notes)
    account = export / "account.jsonl"
    gaps = find_gaps(read_lines(account) if account.exists() else [], leaves)
    summary = f"{len(leaves)} leaves and {len(notes)} checkpoints; not signed yet: the last {len(leaves) - signed} leaves"
    return "incomplete" if gaps else "ok", [*gaps, summary, *odd, *find_oddities(leaves)]


# ---- section 9: the verdict over an extract


def read_proven(extract: pathlib.Path, notes: list[Note]) -> list[tuple[Leaf, int]]:
    """The leaves of an extract, each with the size under which it is proven (rule 2).

    GUESS: a key's leaf that is proven under another checkpoint than the first that covers it is tampering; for other leaves any
    checkpoint will do.
    """
    lines, proofs = read_lines(extract / "leaves.jsonl"), read_lines(extract / "proofs.jsonl")
    if len(lines) != len(proofs):
        raise Tampered(f"there are {len(lines)} leaves and {len(proofs)} proofs")
    roots = {note.size: note.root for note in notes}
    proven: list[tuple[Leaf, int]] = []
    for line, text in zip(lines, proofs, strict=True):
        match = PROOF.fullmatch(text)
        if not match:
            raise Tampered(f"line {len(proven) + 1} of proofs.jsonl does not have its form")
        seq, size, proof = int(match[2]), int(match[3]), [bytes.fromhex(part) for part in re.findall("[0-9a-f]{64}", match[1])]
        leaf = parse_leaf(line.encode(), seq)
        if leaf.stored_at is None or (proven and seq <= proven[-1][0].seq):
            raise Tampered(f"leaf {seq} has no contents, or does not stand in order")
        if size not in roots or root_from_inclusion(leaf.hash, seq, size, proof) != roots[size]:
            raise Tampered(f"leaf {seq} is not proven: its proof does not lead to a checkpoint of {size} leaves that is there")
        if leaf.kind == "audit.key" and size != min(size for size in roots if size > seq):
            raise Tampered(f"leaf {seq} names a key, and is not proven under the first checkpoint that covers it")
        proven.append((leaf, size))
    return proven


def verify_extract(
    extract: pathlib.Path, manifest: dict[str, typing.Any], trusted: set[Key], anchors: collections.abc.Sequence[pathlib.Path]
) -> tuple[str, list[str]]:
    """Section 9. GUESS: there is a checkpoint, and only the first one there may have no `previous`."""
    notes = read_notes(extract, manifest["origin"])
    if not notes or notes[-1].size != manifest["size"]:
        raise Tampered(f"the newest checkpoint is not that of {manifest['size']} leaves, which the manifest names")
    proven = read_proven(extract, notes)
    leaves, odd = [leaf for leaf, _ in proven], []
    for note in notes:
        if note.previous is None and note is not notes[0]:
            raise Tampered(f"{note.where} says that it is the log's first checkpoint, which it is not")
        check_signed(note, trusted)
        odd += follow_keys(note, [leaf for leaf, size in proven if size == note.size], find_first_key(leaves), trusted)
    check_anchors(notes, anchors, None)
    summary = f"{len(leaves)} leaves are in the log, by {len(notes)} checkpoints; this says nothing about other leaves"
    return "ok", [summary, *odd, *find_oddities(leaves)]


def verify(
    export: pathlib.Path, keys: collections.abc.Sequence[str] = (), anchors: collections.abc.Sequence[pathlib.Path] = ()
) -> tuple[str, str]:
    """The verdict over an export or an extract: ("ok", "tampered" or "incomplete", and what and where in plain words).

    `keys` are verifier keys that the reader trusts to begin with; without any, the first of keys.txt is. ValueError if the folder
    gets no verdict, or if one of `keys` is no key or one of `anchors` no folder: those say nothing about the log.
    """
    trusted = {parse_key(key) for key in keys}
    if missing := [anchor for anchor in anchors if not anchor.is_dir()]:
        raise ValueError(f"not a folder: {missing[0]}")
    try:
        manifest = read_manifest(export)
        if not keys:  # GUESS: keys.txt has to be there then, and is not looked at otherwise; it may be empty
            try:
                trusted |= {parse_key(key) for key in read_lines(export / "keys.txt")[:1]}
            except BAD_INPUT as error:
                raise Tampered(f"keys.txt does not begin with a key: {error}") from error
        word, lines = (verify_export if manifest["format"] == EXPORT else verify_extract)(export, manifest, trusted, anchors)
    except Tampered as problem:
        return "tampered", str(problem)
    if not keys:
        lines.append("note: no key was given but the first of keys.txt: this proves only that the export agrees with itself")
    return word, "\n".join(lines)
