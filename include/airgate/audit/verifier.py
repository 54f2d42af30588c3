"""Verify an exported audit log: one file that needs Python 3.11 and `cryptography`, and nothing of Airgate's.

    python verifier.py EXPORT [--key VKEY|FILE]... [--anchor FOLDER]... [--jobs N]

Exit code 0: ok. 1: tampered. 3: incomplete. 2: it cannot be read, or the command is wrong.

It implements docs/audit-format.md, whose sections are meant by numbers here, and imports nothing of Airgate's; those
who sign take the form of notes and keys from here. An export comes from somebody who may have an interest in the verdict: nothing
in it is believed, no name in it is followed, and memory does not grow with the log (an account of completeness needs about 100
bytes a task).
"""

import argparse
import base64
import binascii
import json
import os
import re
import stat
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from hashlib import sha1, sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import IO, Any, TextIO
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EXIT = {"ok": 0, "tampered": 1, "incomplete": 3}
EXIT_UNREADABLE = 2
FORMATS = ("airgate-audit-export/1", "airgate-audit-extract/1")
SEGMENT = 65536  # leaves in a file, a full subtree
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
HASH_BYTES = 32
NOTE_LIMIT = 64 * 1024  # bytes; a note has a few hundred
LINE_LIMIT = 64 * 1024 + 128  # bytes of a leaf: an event has 64 KiB at most, then come number and time


# ------------------------------------------------------------------------------------------------ notes
# A checkpoint is a signed note: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint. Its text has the lines origin,
# size, root, and two of ours: `previous` (not in a log's first) and `time`. See section 5 of the format.

_ED25519 = b"\x01"
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_SIGNATURES = 100
_SIGNATURE_MARK = "\u2014 "


@dataclass(frozen=True)
class VerifierKey:
    """A public key with a name, in C2SP's form. `hash` are 4 bytes that name it, `public` the 32 bytes of Ed25519 (RFC 8032)."""

    name: str
    hash: bytes
    public: bytes

    @classmethod
    def of(cls, name: str, public: bytes) -> "VerifierKey":
        """Give the key of this name. Raises ValueError for a name that cannot stand in a note, or other than 32 bytes."""
        if not _KEY_NAME.fullmatch(name):
            raise ValueError(f"a key's name is {name[:80]!r}; allowed: text without spaces and '+'")
        if len(public) != 32:
            raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(public)}")
        return cls(name, sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4], public)

    @classmethod
    def parse(cls, vkey: str) -> "VerifierKey":
        """Read `NAME+HASH+BASE64(0x01 || public key)`. Raises ValueError, saying what is wrong with it."""
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3:
            raise ValueError(f"{vkey[:120]!r} is no verifier key; one reads NAME+HASH+BASE64")
        data = _base64(parts[2], "the verifier key")
        if data[:1] != _ED25519:
            raise ValueError(f"the verifier key {parts[0][:80]!r} is not of kind 1, which is Ed25519")
        key = cls.of(parts[0], data[1:])
        if key.hash.hex() != parts[1]:
            raise ValueError(f"the verifier key {key.name!r} says that its hash is {parts[1][:80]!r}; it is {key.hash.hex()}")
        return key

    def text(self) -> str:
        """Write the key as `parse` reads it."""
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


@dataclass(frozen=True)
class Note:
    """A checkpoint. `root` is that of the first `size` leaves, `previous` the SHA-256 of the note before, None in the first.

    `text` are the bytes that are signed, `raw` the whole note; `signatures` are (key name, key hash of 4 bytes, signature).
    """

    origin: str
    size: int
    root: bytes
    previous: bytes | None
    time: str
    text: bytes
    signatures: list[tuple[str, bytes, bytes]]
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Note":
        """Read a note; no signature is verified. Raises ValueError, saying which line is wrong."""
        if len(raw) > NOTE_LIMIT:
            raise ValueError(f"it has {len(raw)} bytes; a checkpoint has {NOTE_LIMIT} at most")
        try:
            whole = raw.decode()
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None
        if any((char < " " and char != "\n") or char == "\x7f" for char in whole):
            raise ValueError("it holds control characters")
        text, empty_line, rest = whole.partition("\n\n")
        if not empty_line or not rest.endswith("\n"):
            raise ValueError("it has no signature lines after an empty line, or ends within a line")
        origin, size, root, previous, time = _fields(text.split("\n"))
        signatures = [_signature(line) for line in rest[:-1].split("\n")[: _MAX_SIGNATURES + 1]]
        if len(signatures) > _MAX_SIGNATURES:
            raise ValueError(f"it has more than {_MAX_SIGNATURES} signatures")
        return cls(origin, size, root, previous, time, (text + "\n").encode(), signatures, raw)

    def signed_by(self, key: VerifierKey) -> bool:
        """Say whether this key signed the note. Of several lines by one key all must be right."""
        found = [value for name, key_hash, value in self.signatures if (name, key_hash) == (key.name, key.hash)]
        return bool(found) and all(_verifies(key.public, value, self.text) for value in found)

    def digest(self) -> bytes:
        """Give what the next note's `previous` must be: SHA-256 over all bytes."""
        return sha256(self.raw).digest()


def _fields(lines: list[str]) -> tuple[str, int, bytes, bytes | None, str]:
    previous = None
    if len(lines) == 5:
        word, _, value = lines.pop(3).partition(" ")
        if word != "previous":
            raise ValueError("its fourth line does not begin with 'previous '")
        previous = _hash(value, "its line 'previous'")
    if len(lines) != 4:
        raise ValueError("its text has not the lines origin, size, root, previous (not in the first) and time")
    origin, size, root, time = lines
    if not origin or origin != origin.strip():
        raise ValueError("its first line, the origin, is empty or has spaces around it")
    if not _SIZE.fullmatch(size):
        raise ValueError(f"its second line, the size, is {size[:40]!r}; allowed: a whole number below 10^19")
    if not time.startswith("time ") or not TIME.fullmatch(time[5:]):
        raise ValueError("its last line of text is not 'time YYYY-MM-DDTHH:MM:SS.ffffffZ'")
    return origin, int(size), _hash(root, "its third line, the root,"), previous, time[5:]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, value = line.removeprefix(_SIGNATURE_MARK).partition(" ")
    if not line.startswith(_SIGNATURE_MARK) or not _KEY_NAME.fullmatch(name):
        raise ValueError("a signature line does not read '\u2014 KEY_NAME BASE64'")
    data = _base64(value, "a signature")
    if len(data) < 5:
        raise ValueError("a signature is too short")
    return name, data[:4], data[4:]


def _hash(text: str, what: str) -> bytes:
    data = _base64(text, what)
    if len(data) != HASH_BYTES:
        raise ValueError(f"{what} has {len(data)} bytes; a SHA-256 has {HASH_BYTES}")
    return data


def _base64(text: str, what: str) -> bytes:
    """Decode; there is one spelling for each value (RFC 4648, 3.5), so that no bit of a note is free to change."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError(f"{what} is base64 with stray bits")
    return data


def _verifies(public: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


# ------------------------------------------------------------------------------------------------ the tree
# Section 4, and the proofs of RFC 9162.


def leaf_hash(leaf: bytes) -> bytes:
    """Hash one leaf's bytes (RFC 9162, 2.1.1)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one (RFC 9162, 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def root_of(peaks: Sequence[bytes]) -> bytes:
    """Give the root of a tree from the roots of its full subtrees, largest first."""
    return reduce(lambda right, left: node_hash(left, right), reversed(peaks)) if peaks else sha256(b"").digest()


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether the proof shows this leaf hash at `index` of the tree of `size` leaves with this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, running = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            running = node_hash(sibling, running)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            running = node_hash(running, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and running == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether the proof shows that the tree of `old` leaves is the beginning of that of `new` (RFC 9162, 2.1.4.2).

    The empty tree is the beginning of every tree, and its proof is empty.
    """
    if old in (0, new):
        return not proof and (old == 0 or old_root == new_root)
    if not 0 < old < new:
        return False
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


class _Subtree:
    """A segment's leaves and all that stands above them."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.rows = [leaves]
        while len(self.rows[-1]) > 1:
            below = self.rows[-1]
            pairs = zip(below[::2], below[1::2], strict=False)  # the odd one waits for its sibling
            self.rows.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])

    def peaks(self, count: int) -> list[bytes]:
        """Give the roots of the full subtrees of the first `count` leaves, largest first: one for each 1 in `count`."""
        levels = range(count.bit_length() - 1, -1, -1)
        return [self.rows[level][(count >> level) - 1] for level in levels if count >> level & 1]


class _Tree:
    """The tree over whole segments; what a segment has beyond is given from outside."""

    def __init__(self) -> None:
        self.count, self.peaks = 0, list[bytes]()

    def append(self, root: bytes) -> None:
        rest = self.count
        while rest & 1:
            root, rest = node_hash(self.peaks.pop(), root), rest >> 1
        self.peaks.append(root)
        self.count += 1


# ------------------------------------------------------------------------------------------------ verdicts


class Unreadable(Exception):
    """There is no verdict: what was given is no export, or a file of it cannot be read."""


class Tampered(Exception):
    """Something was changed. `seq` is the first bad number, None where no single one can be named."""

    def __init__(self, reason: str, seq: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.seq = reason, seq


@dataclass
class Verdict:
    """What is to be said of an export: `word` is 'ok', 'tampered' or 'incomplete'; `text` says what differs.

    `first_bad` is the first bad number of a log that was tampered with, None where no single one can be named; `missing` says
    what has no record, `notices` what somebody should know though it changes no verdict.
    """

    word: str
    text: str
    first_bad: int | None = None
    missing: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Give the verdict for people: its line, what is missing, the notices; safe for a terminal."""
        place = "" if self.first_bad is None else f"at number {self.first_bad}: "
        shown = [f"  {line}" for line in self.missing[:_SHOWN]]
        if len(self.missing) > _SHOWN:
            shown.append(f"  and {len(self.missing) - _SHOWN} more")
        return [_plain(line) for line in
                [f"{self.word}: {place}{self.text}", *shown, *(f"notice: {notice}" for notice in self.notices)]]


_SHOWN = 100


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


# ------------------------------------------------------------------------------------------------ files
# Only plain files are opened, by names that were made here or that match a pattern.

_LISTED = 1_000_000
_MOST_NOTES = 1 << 28  # bytes: an hourly checkpoint for 70 years
_SIZE_NAME = re.compile(r"([0-9]{20})\.note")
_CHUNK = 1 << 20


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a plain file. Raises FileNotFoundError if there is none, Unreadable for a link, a device or a folder."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Unreadable(f"{path} is a link or no file; an export holds plain files only")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        yield file


def _read(path: Path, limit: int) -> bytes:
    """Read a small file. Raises as `_opened` does, and Tampered for one that is larger than it can rightly be."""
    with _opened(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Tampered(f"{path.name} has more than {limit} bytes")
    return data


def _names(folder: Path) -> list[str]:
    """List a folder without hidden files, sorted; none if it is not there. Raises Unreadable for a link or too many."""
    if not os.path.lexists(folder):
        return []
    if folder.is_symlink() or not folder.is_dir():
        raise Unreadable(f"{folder} is a link or no folder; an export holds plain folders and files only")
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                found.append(entry.name)
            if len(found) > _LISTED:
                raise Unreadable(f"{folder} holds more than {_LISTED} files")
    return sorted(found)


def _json(data: bytes) -> Any:
    """Decode JSON. Raises ValueError whatever is wrong with it."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _canonical(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class _Manifest:
    format: str
    origin: str
    size: int


def _manifest(folder: Path) -> _Manifest:
    """Read manifest.json. Raises Unreadable if there is none or its format is unknown, Tampered if it is not in form."""
    if not folder.is_dir():
        raise Unreadable(f"there is no folder {folder}; give the folder that `airgate audit export` wrote")
    try:
        data = _read(folder / "manifest.json", NOTE_LIMIT)
    except FileNotFoundError:
        raise Unreadable(f"{folder} is no export: it has no manifest.json") from None
    try:
        found = _json(data)
        if found["format"] not in FORMATS:
            raise Unreadable(f"manifest.json says that the format is {str(found['format'])[:60]!r}; this verifier knows "
                             f"{' and '.join(FORMATS)}: take the verifier of the Airgate that wrote it")
        rest = {"segment": SEGMENT} if found["format"] == FORMATS[0] else {}
        said = {name: found[name] for name in ("format", "made_at", "origin", "size")}
        right = (found == said | rest and data == _canonical(found) + b"\n" and TIME.fullmatch(found["made_at"])
                 and type(found["origin"]) is str and type(found["size"]) is int and found["size"] >= 0)
    except (KeyError, TypeError, ValueError):
        right = None
    if not right:
        raise Tampered("manifest.json is not as section 7 of the format has it")
    return _Manifest(found["format"], found["origin"], found["size"])


def _notes(folder: Path) -> Iterator[Note]:
    """Read the files SIZE.note of a folder in the order of size. Raises Tampered for one that is no checkpoint of its name."""
    total = 0
    for name in _names(folder):
        match = _SIZE_NAME.fullmatch(name)
        if match:
            where = f"{folder.name}/{name}"
            try:
                note = Note.parse(_read(folder / name, NOTE_LIMIT))
                total += len(note.raw)
                if total > _MOST_NOTES:
                    raise Unreadable(f"the notes in {folder} have more than {_MOST_NOTES} bytes together")
            except ValueError as error:
                raise Tampered(f"the checkpoint {where} cannot be read: {error}") from None
            if note.size != int(match[1]):
                raise Tampered(f"the checkpoint {where} is one of {note.size} leaves")
            yield note


# ------------------------------------------------------------------------------------------------ promotions
# Section 8: what must stand before a stage.moved. Those who keep the log hold it against the same rule.


@dataclass(frozen=True)
class Step:
    """A leaf of a promotion, a rollback, a demotion or an archiving, as far as the rule looks at it.

    `request` is the digest of its request, `claim` the event id of its stage.moving leaf; None where it has no such text.
    `to_use` is False for what empties a stage or archives. `about` names model and version, for people.
    """

    seq: int
    kind: str
    request: str | None = None
    claim: str | None = None
    to_use: bool = True
    about: str = ""

    @classmethod
    def of(cls, seq: int, kind: str, event: Any) -> "Step":
        """Read the decoded EVENT of a leaf. Raises AttributeError, KeyError or TypeError for one in another form."""
        body = event["body"]
        claim = event["event_id"] if kind == "stage.moving" else body.get("claim")
        to_use = body.get("to_version", "") is not None and body.get("stage") != "archived"
        names = [value[:100] for value in (event.get("model"), event.get("version")) if isinstance(value, str)]
        return cls(seq, kind, _text_or_none(body.get("request_digest")), _text_or_none(claim), to_use, " version ".join(names))


class Moves:
    """Takes the steps of a log in the order of their numbers, and finds a stage.moved that lacks what must stand before it."""

    def __init__(self) -> None:
        self._approved, self._moving, self._claims = set[str | None](), set[str | None](), set[str | None]()

    def __len__(self) -> int:
        """How many things it keeps in memory."""
        return len(self._approved) + len(self._moving) + len(self._claims)

    def take(self, step: Step) -> str | None:
        """Take the next step; say what is missing before it, None if nothing is."""
        if step.kind == "promotion.approved":
            self._approved.add(step.request)
        elif step.kind == "stage.moving":
            self._moving.add(step.request)
            self._claims.add(step.claim)
        elif missing := list(self._missing(step)):
            of = f" of {step.about}" if step.about else ""
            return f"number {step.seq}: stage.moved{of} without {' and '.join(missing)} before it"
        return None

    def _missing(self, step: Step) -> Iterator[str]:
        known = self._moving if step.to_use else self._claims
        said = step.request if step.to_use else step.claim
        if said is None or said not in known:
            yield "stage.moving"
        if step.to_use and (said is None or said not in self._approved):
            yield "promotion.approved"


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# ------------------------------------------------------------------------------------------------ what expired
# Section 8, rule 6: which leaves may lack their contents. Those who keep the log hold it against the same rule.

Span = tuple[int, int]  # first and last number
Gone = tuple[int, int, str]  # the same, and when the leaf before them was stored: "" for none
_LONGEST = 1200  # months


@dataclass(frozen=True)
class Announcement:
    """What an audit.expired leaf says: contents of these leaves are kept for `months`, and that time is over."""

    seq: int
    months: int
    spans: list[Span]

    @classmethod
    def of(cls, seq: int, body: Any) -> "Announcement":
        """Read the body of leaf `seq`. A range in another form, or not wholly below that number, is left out.

        Raises KeyError, TypeError or ValueError for a body without ranges, or without a whole number of months, 1 to 1200.
        """
        months = body["months"]
        if type(months) is not int or not 1 <= months <= _LONGEST:
            raise ValueError(f"months is a whole number, 1 to {_LONGEST}")
        return cls(seq, months, _merged(span for pair in body["ranges"] if (span := _span(pair)) and span[1] < seq))

    def limit(self, signed_at: str) -> str:
        """Give the latest time of storage whose months were over when the announcement was signed; a day is for clocks.

        Raises ValueError when that is no time.
        """
        moment = datetime.fromisoformat(signed_at)
        count = moment.year * 12 + moment.month - 1 - self.months
        first = moment.replace(year=count // 12, month=count % 12 + 1, day=1)
        return (first + timedelta(days=moment.day)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def unexplained(gone: Sequence[Gone], announced: Iterable[Announcement],
                checkpoints: Sequence[tuple[int, str]] | None) -> int | None:
    """Give the first number without contents for which no announcement counts, None if there is none.

    `checkpoints` are (size, time), the smallest first: an announcement counts from the first that covers it, for leaves that were
    old enough then. With None neither is asked.
    """
    spans: list[Span] = []
    numbers, times = _timeline(gone, checkpoints or ())
    for one in announced:
        end = sys.maxsize
        if checkpoints is not None:
            at = bisect_right(checkpoints, one.seq, key=lambda pair: pair[0])
            newer = bisect_right(times, _limit(one, checkpoints[at][1])) if at < len(checkpoints) else None
            end = 0 if newer is None else numbers[newer] if newer < len(numbers) else end
        spans += [(first, min(last, end - 1)) for first, last in one.spans if first < end]
    return _uncovered([(first, last) for first, last, _ in gone], spans)


def add_gone(gone: list[Gone], seq: int, before: str) -> None:
    """Note that leaf `seq` has no contents, in the order of numbers; `before` is when the last that has some was stored."""
    if gone and gone[-1][1] == seq - 1:
        gone[-1] = (gone[-1][0], seq, gone[-1][2])
    else:
        gone.append((seq, seq, before))


def _limit(one: Announcement, signed_at: str) -> str:
    try:
        return one.limit(signed_at)
    except ValueError:
        return ""  # nothing is so old


def _timeline(gone: Iterable[Gone], checkpoints: Iterable[tuple[int, str]]) -> tuple[list[int], list[str]]:
    """Give numbers, ascending, and times: from each number on no leaf was stored before its time.

    So say the checkpoints, and the leaf before each span. A clock may have been wrong for a while: what comes later corrects it.
    """
    told = sorted([*((first, before) for first, _, before in gone if before), *checkpoints])
    earliest = list(accumulate((time for _, time in reversed(told)), min))
    return [number for number, _ in told], earliest[::-1]


def _span(pair: Any) -> Span | None:
    match pair:
        case [int(first), int(last)] if type(first) is type(last) is int and 0 <= first <= last:
            return first, last
    return None


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Join spans that overlap or touch; in order."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _uncovered(gone: list[Span], explained: Iterable[Span]) -> int | None:
    """Give the first number of `gone`, which is in order, that no span explains."""
    spans = _merged(explained)
    at = 0
    for first, last in gone:
        while at < len(spans) and spans[at][1] < first:
            at += 1
        if at == len(spans) or first < spans[at][0]:
            return first
        if last > spans[at][1]:
            return spans[at][1] + 1
    return None


# ------------------------------------------------------------------------------------------------ one segment
# What runs in a worker process: leaves are hashed, held against their numbers and recorded hashes, and forgotten; those that say
# something about the log are read.

_LEAF, _GONE = b'{"event":{', re.compile(rb'\{"expired":"([0-9a-f]{64})"\}')
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_SHAPE = b"0000-00-00T00:00:00.000000Z"
_KIND, _OCCURRED, _ID = b'"kind":"', b'"occurred_at":"', b'"event_id":"'
_ANSWERING = {b"task.", b"run.e"}  # task.*, run.ended
_READ = {b"audit.key", b"audit.expired", b"stage.moving", b"stage.moved", b"promotion.approved", b"manual.change"}
_READ_BEGIN = {kind[:5] for kind in _READ}
_TOLERANCE = 5.0  # seconds by which clocks may differ
_MOST_FACTS, _MOST_KEYS = 1_000_000, 1_000


@dataclass(frozen=True)
class _Job:
    """Which leaves to hash: `count` from `first` on.

    `sizes` are those of the checkpoints within; `ids` says whether there is an account to be answered.
    """

    folder: Path
    first: int
    count: int
    sizes: tuple[int, ...]
    ids: bool


@dataclass
class _Scan:
    """What was found. `peaks` are those of the leaves from `first` to each size; `bad` is the first bad number and why."""

    first: int
    end: int
    peaks: dict[int, list[bytes]] = field(default_factory=dict)
    bad: tuple[int, str] | None = None
    keys: list[tuple[int, Any, str]] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    announced: list[Announcement] = field(default_factory=list)
    moves: list[Step] = field(default_factory=list)
    by_hand: list[tuple[Any, ...]] = field(default_factory=list)
    odd: list[tuple[int, str]] = field(default_factory=list)
    ids: bytes = b""
    early: list[tuple[int, float]] = field(default_factory=list)
    backwards: list[tuple[int, float]] = field(default_factory=list)
    last: bytes = b""  # when the last leaf with contents was stored
    newest: bytes = b""
    oldest: tuple[bytes, int] = (b"~", -1)


class _Bad(Exception):
    """A leaf that is not what it should be; the text says why."""


def _scan(job: _Job) -> _Scan:
    """Hash a segment. Raises Unreadable or OSError where its files cannot be read."""
    return _Scanner(job).run()


class _Scanner:
    def __init__(self, job: _Job) -> None:
        self.job = job
        self.hashes: list[bytes] = []
        self.ids = bytearray()
        self.found = _Scan(job.first, job.first)

    def run(self) -> _Scan:
        found, job = self.found, self.job
        try:
            recorded = self._recorded()
            for lines in self._lines():
                self._leaves(lines, recorded[: HASH_BYTES * job.count])
            if len(self.hashes) < job.count:
                raise _Bad(f"the log ends here, the manifest counts {job.count - len(self.hashes)} more in this file")
            if len(recorded) != HASH_BYTES * job.count:
                raise _Bad(f"log/{job.first:020d}.hashes has {len(recorded)} bytes; those of its leaves are "
                           f"{HASH_BYTES * job.count}")
        except _Bad as bad:
            found.bad = (job.first + len(self.hashes), str(bad))
        found.end = job.first + len(self.hashes)
        subtree = _Subtree(self.hashes)
        found.peaks = {size: subtree.peaks(size - job.first) for size in {*job.sizes, found.end} if size <= found.end}
        found.ids = bytes(self.ids)
        return found

    def _recorded(self) -> bytes:
        name = f"{self.job.first:020d}.hashes"
        try:
            data = _read(self.job.folder / name, HASH_BYTES * SEGMENT)
        except FileNotFoundError:
            raise _Bad(f"log/{name} is missing") from None
        except Tampered as error:
            raise _Bad(f"log/{error.reason}") from None
        return data

    def _lines(self) -> Iterator[list[bytes]]:
        name = f"{self.job.first:020d}.jsonl"
        try:
            with _opened(self.job.folder / name) as file:
                rest = b""
                while chunk := file.read(_CHUNK):
                    *lines, rest = (rest + chunk).split(b"\n")
                    if lines:
                        yield lines
                    if len(rest) > LINE_LIMIT:
                        raise _Bad(f"this leaf has more than {LINE_LIMIT} bytes")
        except FileNotFoundError:
            raise _Bad(f"log/{name} is missing") from None
        if rest:
            raise _Bad("the file ends in the middle of this leaf")

    def _leaves(self, lines: list[bytes], recorded: bytes) -> None:
        """Take some lines. Up to a bad one, all is done; the lists grow with every good one."""
        hashes, first, ids = self.hashes, self.job.first, self.job.ids
        found = self.found
        newest, stored_at = found.newest, found.last
        for line in lines:
            seq = first + len(hashes)
            place = b',"seq":%d,"stored_at":"' % seq
            if line[-29 - len(place) : -29] != place or line[:10] != _LEAF or line[-2:] != b'"}':
                self._other(line, seq, recorded, stored_at)
                continue
            digest = sha256(b"\x00" + line).digest()
            at = HASH_BYTES * len(hashes)
            if digest != recorded[at : at + HASH_BYTES] or len(line) > LINE_LIMIT:
                raise _Bad(self._differs(seq, line))
            kind = line.rfind(_KIND) + 8
            start = line.find(_OCCURRED, kind) + 15
            stored_at = line[-29:-2]
            if stored_at.translate(_DIGITS) != _SHAPE:
                raise _Bad("its time is not written as section 1 of the format has it")
            if line[start : start + 27] > stored_at:
                self._disagree(found.early, seq, line[start : start + 27], stored_at)
            if stored_at >= newest:
                newest = stored_at
            else:
                self._disagree(found.backwards, seq, newest, stored_at)
            if stored_at < found.oldest[0]:
                found.oldest = (stored_at, seq)
            begin = line[kind : kind + 5]
            if begin in _READ_BEGIN:
                self._read(line, seq, line[kind : line.find(b'"', kind)])
            elif ids and begin in _ANSWERING:
                self.ids += _id_in(line)
            hashes.append(digest)
        found.newest, found.last = newest, stored_at

    def _other(self, line: bytes, seq: int, recorded: bytes, before: bytes) -> None:
        """Take a line that is no leaf of this number: one whose contents are gone, or a bad one."""
        gone = _GONE.fullmatch(line)
        if not gone or len(self.hashes) >= self.job.count:
            raise _Bad(self._differs(seq, line))
        digest = bytes.fromhex(gone[1].decode())
        at = HASH_BYTES * len(self.hashes)
        if digest != recorded[at : at + HASH_BYTES]:
            raise _Bad(f"the hash that stands for its contents differs from the one in log/{self.job.first:020d}.hashes")
        add_gone(self.found.gone, seq, before.decode())
        self.hashes.append(digest)

    def _disagree(self, found: list[tuple[int, float]], seq: int, later: bytes, earlier: bytes) -> None:
        with suppress(TypeError, ValueError):  # no time, so nothing to compare: a notice at most
            seconds = _seconds(later, earlier)
            if seconds > _TOLERANCE:
                found.append((seq, seconds))

    def _differs(self, seq: int, line: bytes) -> str:
        if len(self.hashes) >= self.job.count:
            return "there are more leaves than the manifest says" if self.job.count < SEGMENT else "its file has too many leaves"
        if len(line) > LINE_LIMIT:
            return f"this leaf has more than {LINE_LIMIT} bytes"
        says = re.search(rb',"seq":([0-9]{1,20}),"stored_at":".{27}"\}\Z', line, re.DOTALL)
        if not line.startswith(_LEAF) or not says:
            return "the line is no leaf: it does not begin and end as section 1 of the format has it"
        if int(says[1]) != seq:
            return f"the leaf that stands here says that it is number {int(says[1])}: some are missing, added or in another order"
        return f"its bytes do not have the hash that log/{self.job.first:020d}.hashes has for it"

    def _read(self, line: bytes, seq: int, kind: bytes) -> None:
        """Read a leaf that says something about the log, a promotion, or a change by hand; unreadable, it says nothing."""
        if kind not in _READ or (kind == b"manual.change" and not self.job.ids):
            return
        try:
            event = _json(line)["event"]
            body = event["body"]
            if kind == b"audit.key":
                self.found.keys.append((seq, body["replaces"], _text(body["vkey"])))
            elif kind == b"audit.expired":
                self.found.announced.append(Announcement.of(seq, body))
            elif kind != b"manual.change":
                self.found.moves.append(Step.of(seq, kind.decode(), event))
            elif event["task"] is not None:
                self.found.by_hand.append((*_task(event["task"]), _text(body["state"])))
        except (AttributeError, KeyError, TypeError, ValueError):
            if kind == b"stage.moved":
                self.found.moves.append(Step(seq, "stage.moved"))
            elif kind.startswith(b"audit."):
                self.found.odd.append((seq, f"number {seq}, of kind {kind.decode()}, cannot be read and changes nothing"))


def _id_in(line: bytes) -> bytes:
    at = line.rfind(_ID) + len(_ID)
    try:
        return bytes.fromhex(line[at : at + 36].replace(b"-", b"").decode()).ljust(16, b"\0")[:16]
    except ValueError:
        raise _Bad("its event id is no UUID") from None


def _task(task: Any) -> tuple[Any, ...]:
    return task["dag_id"], task["run_id"], task["task_id"], task["try_number"], task["map_index"]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("this is no text")
    return value


def _seconds(later: bytes, earlier: bytes) -> float:
    """Give the time between two times as leaves have them. Raises TypeError or ValueError when one is no time."""
    return (datetime.fromisoformat(later.decode()) - datetime.fromisoformat(earlier.decode())).total_seconds()


# ------------------------------------------------------------------------------------------------ trust


class _Trust:
    """Which keys count (section 5): those given, until the log replaces one under a checkpoint that both of them signed."""

    def __init__(self, keys: Sequence[VerifierKey]) -> None:
        self.keys = list(keys)
        self.first = list(keys)
        self.named: list[tuple[int, Any, str]] = []
        self.ignored: list[int] = []

    def check(self, note: Note, origin: str, what: str) -> VerifierKey:
        """Give the trusted key that signed the note. Raises Tampered if none did, or it is another log's."""
        if note.origin != origin:
            raise Tampered(f"{what} at {note.size} is of the log {note.origin[:80]!r}, the manifest says {origin[:80]!r}")
        for key in self.keys:
            if note.signed_by(key):
                return key
        keys = ", ".join(f"{key.name}+{key.hash.hex()}" for key in self.keys) or "none"
        raise Tampered(f"{what} at {note.size} is not signed by a key that is trusted ({keys}): it is forged or changed, or the "
                       "key is not the log's")

    def covered(self, note: Note) -> None:
        """Take what the leaves under this checkpoint, which holds, say about keys. It counts from the next one on."""
        for seq, replaces, vkey in self.named:
            if seq < note.size and not self._replaced(note, replaces, vkey):
                self.ignored.append(seq)
        self.named = [one for one in self.named if one[0] >= note.size]

    def _replaced(self, note: Note, replaces: Any, vkey: str) -> bool:
        try:
            new = VerifierKey.parse(vkey)
            old = VerifierKey.parse(replaces) if replaces is not None else None
        except (AttributeError, ValueError):
            return False
        if old is None:
            return new in self.first
        if old not in self.keys or not note.signed_by(old) or not note.signed_by(new):
            return False
        self.keys = [key for key in self.keys if key not in (old, new)] + [new]
        return True

    def notices(self) -> Iterator[str]:
        """Say what an auditor should look at."""
        if self.keys != self.first:
            names = ", ".join(f"{key.name}+{key.hash.hex()}" for key in self.keys)
            yield f"the log replaced its key, under a checkpoint that both signed; the key that counts at its end: {names}"
        ignored = [*self.ignored, *(seq for seq, _, _ in self.named)]
        if ignored:
            more = f" and {len(ignored) - 5} more" if len(ignored) > 5 else ""
            yield (f"audit.key at number {', '.join(map(str, ignored[:5]))}{more} changes nothing: the key that it replaces and "
                   "the new one did not both sign the checkpoint after it")


def _keys_in(data: bytes) -> list[VerifierKey]:
    """Read verifier keys, one a line. Raises ValueError."""
    return [VerifierKey.parse(line) for line in data.decode().split("\n") if line.strip() and not line.startswith("#")]


def _first_keys(folder: Path, given: Sequence[VerifierKey], notices: list[str]) -> list[VerifierKey]:
    """Give the keys to begin with: those given, else the export's own first."""
    if given:
        return list(given)
    try:
        own = _keys_in(_read(folder / "keys.txt", 1 << 20))[:1]
    except FileNotFoundError:
        own = []
    except ValueError as error:
        raise Tampered(f"keys.txt cannot be read: {error}") from None
    said = own[0].text() if own else "there is none"
    notices.append(f"no --key was given, so the key was taken from the export itself ({said}). This proves only that the "
                   "export agrees with itself: compare the key with one that reached you by another way")
    return own


# ------------------------------------------------------------------------------------------------ the log


@dataclass(frozen=True)
class _Signed:
    """What the walk over the log holds notes against: the checkpoints of the export, then the anchored ones, by size."""

    size: int
    note: Note
    anchor: str | None


class _Places:
    """Where clocks disagree: the first few and how many."""

    def __init__(self) -> None:
        self.first, self.count = list[tuple[int, float]](), 0

    def note(self, found: list[tuple[int, float]]) -> None:
        self.first = [*self.first, *found][:5]
        self.count += len(found)


class _Log:
    """One walk over an export: section 8."""

    def __init__(self, folder: Path, manifest: _Manifest, keys: Sequence[VerifierKey], anchors: Sequence[Path]) -> None:
        self.folder, self.manifest, self.size = folder, manifest, manifest.size
        self.notices: list[str] = []
        self.trust = _Trust(_first_keys(folder, keys, self.notices))
        self.checkpoints = list(_notes(folder / "checkpoints"))
        self.own = {note.size: note for note in self.checkpoints}
        self.anchored = list(_anchored(anchors, self.notices))
        self.signed_size = self.checkpoints[-1].size if self.checkpoints else 0
        self.signer: VerifierKey | None = None
        self.account = os.path.lexists(folder / "account.jsonl")
        own = [_Signed(note.size, note, None) for note in self.checkpoints]
        self.pending = deque(sorted([*own, *self.anchored], key=lambda one: (one.size, one.anchor or "")))
        self.roots: dict[int, bytes] = {}
        self.good = 0  # the largest size whose root fits
        self.tree = _Tree()
        self.vkeys: list[str] = []
        self.gone: list[Gone] = []
        self.last = ""  # when the last leaf with contents was stored
        self.announced: list[Announcement] = []
        self.moves, self.unannounced = Moves(), list[str]()
        self.odd = list[tuple[int, str]]()
        self.by_hand: set[tuple[Any, ...]] = set()
        self.ids: set[bytes] = set()
        self.early, self.backwards, self.newest = _Places(), _Places(), b""
        self.root = root_of([])
        if self.size and not self.checkpoints:
            raise Tampered("there is no checkpoint, so nothing vouches for the log: they were removed, or it was never signed")

    def jobs(self) -> Iterator[_Job]:
        sizes = deque(sorted({one.size for one in self.pending if one.size}))
        for first in range(0, self.size, SEGMENT):
            count = min(SEGMENT, self.size - first)
            within = []
            while sizes and sizes[0] <= first + count:
                within.append(sizes.popleft())
            yield _Job(self.folder / "log", first, count, tuple(within), self.account)

    def take(self, scan: _Scan) -> None:
        """Take what was found in the next segment. Raises Tampered for the first thing that is wrong."""
        self.trust.named += scan.keys
        self.vkeys += [vkey for _, _, vkey in scan.keys]
        self.odd += scan.odd
        self._roots(scan)
        if scan.bad:
            raise Tampered(scan.bad[1], scan.bad[0])
        _join(self.gone, scan.gone, self.last)
        self.last = scan.last.decode() or self.last
        self.announced += scan.announced
        self.unannounced += [gap for step in scan.moves if (gap := self.moves.take(step))]
        self.by_hand.update(scan.by_hand)
        self.ids.update(scan.ids[at : at + 16] for at in range(0, len(scan.ids), 16))
        self._clocks(scan)
        facts: list[Sequence[Any]] = [self.gone, self.unannounced, self.vkeys, self.odd, self.announced]
        facts += [one.spans for one in self.announced]
        if sum(map(len, facts)) + len(self.moves) > _MOST_FACTS or len(self.vkeys) > _MOST_KEYS:
            raise Unreadable(f"the log names more than {_MOST_KEYS} keys, or says more than {_MOST_FACTS} things about itself: "
                             "no honest one does")

    def _roots(self, scan: _Scan) -> None:
        """Hold the roots within this segment against those that were signed, the smallest first."""
        before = list(self.tree.peaks)
        full = scan.end - scan.first == SEGMENT
        if full:
            self.tree.append(scan.peaks[scan.end][0])
        while self.pending and self.pending[0].size <= scan.end:
            size = self.pending[0].size
            if size not in self.roots:
                whole = full and size == scan.end
                self.roots = {size: root_of(self.tree.peaks if whole else [*before, *scan.peaks.get(size, [])])}
            self._hold(self.pending.popleft())
        self.root = root_of(self.tree.peaks if full else [*before, *scan.peaks[scan.end]])

    def _hold(self, signed: _Signed) -> None:
        note, own = signed.note, self.own.get(signed.size)
        if signed.anchor is not None and own is not None and own.raw == note.raw:
            return  # it was held against the log a moment ago
        what = f"the note of the anchor {signed.anchor}" if signed.anchor else "the checkpoint"
        key = self.trust.check(note, self.manifest.origin, what)
        if note.root != self.roots[note.size]:
            raise self._unlike(note, what)
        if signed.anchor is not None:
            raise Tampered(f"{what} at {note.size} is not among the checkpoints of the export: it was removed or replaced, or "
                           "the log was restored from an older state")
        self.signer, self.good = key, note.size
        self.trust.covered(note)

    def _unlike(self, note: Note, what: str) -> Tampered:
        said = f"{what} at {note.size} signed the root {note.root.hex()}, the leaves give {self.roots[note.size].hex()}"
        if note.size - self.good == 1:
            return Tampered(f"{said}: this leaf was changed, and its recorded hash with it", self.good)
        if note.size <= self.good:
            return Tampered(f"{said}, and a signed checkpoint of the export agrees with these: there are two logs under one key")
        where = f"between number {self.good} and number {note.size - 1}"
        return Tampered(f"{where}: {said}: leaves there were changed, added or removed, and the recorded hashes with them")

    def _clocks(self, scan: _Scan) -> None:
        oldest, seq = scan.oldest
        if oldest < self.newest and all(seq != found for found, _ in scan.backwards):
            with suppress(TypeError, ValueError):  # a notice at most
                seconds = _seconds(self.newest, oldest)
                self.backwards.note([(seq, seconds)] if seconds > _TOLERANCE else [])
        self.early.note(scan.early)
        self.backwards.note(scan.backwards)
        self.newest = max(self.newest, scan.newest)

    def end(self) -> Verdict:
        """Check what belongs to the whole log, and give the verdict. Raises Tampered or Unreadable."""
        if not self.size:
            self._roots(_Scan(0, 0, {0: []}))
        if self.pending:
            left = self.pending[0]
            whose = f"the anchor {left.anchor} holds a note" if left.anchor else "there is a checkpoint"
            hint = ", or restored from an older state; or the anchor is newer than the export" if left.anchor else ""
            raise Tampered(f"the log ends here, {whose} of {left.size} leaves: it was cut{hint}", self.size)
        self._chain()
        self._files()
        bad = unexplained(self.gone, self.announced, [(note.size, note.time) for note in self.checkpoints])
        if bad is not None:
            raise Tampered(self._why_not_gone(bad), bad)
        self._remarks()
        missing = self.unannounced
        if self.account:
            missing += _unanswered(self.folder, self.ids, self.by_hand)
        events = f"{self.size} events, root {self.root.hex()}, log {self.manifest.origin}"
        if missing:
            expired = " (leaves without contents may have held them)" if self.gone else ""
            text = f"{len(missing)} records are missing{expired}; nothing was changed: {events}"
            return Verdict("incomplete", text, None, missing, self.notices)
        signer = f", signed by {self.signer.name}+{self.signer.hash.hex()}" if self.signer else ""
        complete = ", complete by Airflow's account" if self.account else ""
        return Verdict("ok", f"{events}{signer}{complete}", notices=self.notices)

    def _why_not_gone(self, seq: int) -> str:
        named = [one for one in self.announced if any(first <= seq <= last for first, last in one.spans)]
        for one in named:
            if one.seq < self.signed_size:
                return (f"its contents are gone too soon: the audit.expired leaf at number {one.seq} says that such are kept for "
                        f"{one.months} months, and they were newer when that was signed")
        return "its contents are gone and no audit.expired leaf that is signed says so" + (
            "; one that is not signed yet does: ask for an export with a newer checkpoint" if named else "")

    def _chain(self) -> None:
        before: Note | None = None
        for note in self.checkpoints:
            if before is None and note.previous is not None:
                raise Tampered(f"the checkpoint at {note.size} follows another, which is missing")
            if before is not None and note.previous != before.digest():
                raise Tampered(f"the checkpoint at {note.size} does not follow the one at {before.size}: one between them is "
                               "missing, or one was replaced")
            before = note

    def _files(self) -> None:
        """See that no file is there that should not be, and that the keys are those of the log."""
        for name in _names(self.folder / "log"):
            match = re.fullmatch(r"([0-9]{20})\.(jsonl|hashes)", name)
            if not match or int(match[1]) % SEGMENT or int(match[1]) >= self.size:
                raise Tampered(f"log/{name[:80]} does not belong to a log of {self.size} leaves: it was cut, or this was added")
        for name in _names(self.folder / "checkpoints"):
            if not _SIZE_NAME.fullmatch(name):
                raise Tampered(f"checkpoints/{name[:80]} is no checkpoint")
        sizes = {f"{note.size:020d}.tsr" for note in self.checkpoints}
        stamps, orphans = 0, []
        for anchor in _names(self.folder / "receipts"):
            for name in _names(self.folder / "receipts" / anchor):
                if name not in sizes:
                    orphans.append(f"receipts/{anchor[:80]}/{name[:80]}")
                stamps += name in sizes
        if orphans:
            more = f" and {len(orphans) - 5} more" if len(orphans) > 5 else ""
            self.notices.append(f"of checkpoints that are not there: {', '.join(orphans[:5])}{more}")
        if stamps:
            self.notices.append(f"{stamps} time stamps are there and were not checked here: openssl ts -verify -data "
                                "checkpoints/SIZE.note -in receipts/ANCHOR/SIZE.tsr -CAfile CERTIFICATES")
        named = "".join(f"{vkey}\n" for vkey in self.vkeys if _is_key(vkey)).encode()
        try:
            same = _read(self.folder / "keys.txt", 1 << 20) == named
        except (FileNotFoundError, Tampered):
            same = False
        if not same:
            self.notices.append("keys.txt does not list the keys that the log's audit.key leaves name; it is a convenience, and "
                                "what counts are the keys you gave")
        known = {"manifest.json", "log", "checkpoints", "keys.txt", "receipts", "proofs.json", "account.jsonl", "readable.jsonl"}
        unknown = [name for name in _names(self.folder) if name not in known]
        if unknown:
            self.notices.append(f"files that are no part of an export were passed over: {', '.join(unknown)[:200]}")

    def _remarks(self) -> None:
        unsigned = self.size - self.signed_size
        if unsigned:
            which = f"the {unsigned} events from number {self.signed_size} on are"
            self.notices.append(f"{which} not signed yet: they came after the newest checkpoint")
        if self.gone:
            count = sum(last - first + 1 for first, last, _ in self.gone)
            months = min(one.months for one in self.announced if one.seq < self.signed_size)
            self.notices.append(f"the contents of {count} events have expired; their hashes are there. They had to be kept for "
                                f"{months} months or longer: so say the log's audit.expired leaves")
        for found, text in ((self.early, "say that they happened after they were stored"),
                            (self.backwards, "were stored earlier than an event before them")):
            if found.count:
                places = ", ".join(f"{seq} (by {seconds:.0f} s)" for seq, seconds in found.first)
                more = f" and {found.count - len(found.first)} more" if found.count > len(found.first) else ""
                self.notices.append(f"clocks: events {places}{more} {text}")
        self.notices += self.trust.notices()
        self.notices += [text for _, text in self.odd[:5]]
        self.notices += _proof_notices(self.folder, self.checkpoints)
        if not self.anchored:
            self.notices.append("no anchored checkpoint was compared: a log restored from an older state, checkpoints and all, "
                                "would look like this one. Give --anchor with a folder of notes that was kept elsewhere")


def _is_key(vkey: str) -> bool:
    try:
        VerifierKey.parse(vkey)
    except ValueError:
        return False
    return vkey.isprintable() and vkey == vkey.strip()


def _join(spans: list[Gone], more: list[Gone], before: str) -> None:
    """Put spans of the next segment behind those before; two that touch become one. `before` is the last leaf's time."""
    for first, last, stored_at in more:
        if spans and spans[-1][1] == first - 1:
            spans[-1] = (spans[-1][0], last, spans[-1][2])
        else:
            spans.append((first, last, stored_at or before))


def _anchored(folders: Sequence[Path], notices: list[str]) -> Iterator[_Signed]:
    for folder in folders:
        if not folder.is_dir():
            raise Unreadable(f"there is no folder {folder}; --anchor takes the folder of notes of an anchor")
        notes = list(_notes(folder.resolve()))
        if not notes:
            notices.append(f"the anchor {folder} holds no notes, so it says nothing")
        yield from (_Signed(note.size, note, str(folder)) for note in notes)


def _proof_notices(folder: Path, checkpoints: Sequence[Note]) -> Iterator[str]:
    """Say whether proofs.json is any good; it is for readers without the leaves and changes no verdict."""
    pairs = list(pairwise(checkpoints))
    try:
        found = _json(_read(folder / "proofs.json", 8192 * (len(checkpoints) + 1)))["consistency"]
        proofs = [[_from_hex(one) for one in item["proof"]] for item in found]
        right = [(item["old"], item["new"]) for item in found] == [(old.size, new.size) for old, new in pairs]
    except FileNotFoundError:
        yield "proofs.json is missing"
        return
    except (AttributeError, KeyError, TypeError, ValueError, Tampered):
        right = False
    if not right or not all(verify_consistency(old.size, new.size, old.root, new.root, proof)
                            for (old, new), proof in zip(pairs, proofs, strict=True)):
        yield "proofs.json does not prove each checkpoint to be the beginning of the next: do not hand it on"


def _from_hex(text: Any) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("a hash is 64 hex digits")
    return bytes.fromhex(text)


# ------------------------------------------------------------------------------------------------ completeness

_NAMESPACE = UUID("715ca83a-4fbb-566e-a455-6552a119dd1e").bytes
_ANSWERS = {
    "success": ("task.succeeded",), "failed": ("task.failed", "task.retrying"), "skipped": ("task.skipped",),
    "removed": ("task.skipped",), "upstream_failed": ("task.upstream_failed",),
}
_ENDED = ("success", "failed")


def event_id(*parts: str | int) -> bytes:
    """Give the 16 bytes of the event id that section 2 makes of these parts."""
    name = json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode()
    return UUID(bytes=sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16], version=5).bytes


def _unanswered(folder: Path, ids: set[bytes], by_hand: set[tuple[Any, ...]]) -> list[str]:
    """Name the tries and runs in account.jsonl that no event answers. Raises Unreadable for lines that are no account."""
    missing = []
    with _opened(folder / "account.jsonl") as file:
        number = 0
        while line := file.readline(LINE_LIMIT):
            number += 1
            try:
                said = _json(line)
                gap = _try_lacks(said, ids, by_hand) if "task_id" in said else _run_lacks(said, ids)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise Unreadable(f"line {number} of account.jsonl is no task try and no run") from None
            if gap is not None:
                missing.append(gap[:600])
                if len(missing) > _MOST_FACTS:
                    raise Unreadable(f"more than {_MOST_FACTS} lines of account.jsonl have no answer")
    return missing


def _try_lacks(said: Any, ids: set[bytes], by_hand: set[tuple[Any, ...]]) -> str | None:
    """Say which event a task try lacks, None if it lacks none."""
    task, state = _task(said), said["state"]
    kinds = _ANSWERS.get(state or "", ())
    if (*task, state) in by_hand or any(event_id(*task, kind) in ids for kind in kinds) or not kinds:
        return None
    dag, run, name, attempt, index = task
    mapped = f"[{index}]" if index != -1 else ""
    return f"{dag} {run} {name}{mapped} try {attempt}: Airflow says {state}, no {kinds[0]}"


def _run_lacks(said: Any, ids: set[bytes]) -> str | None:
    """Say that a run lacks the event of its present end, None if it does not."""
    dag, run, state, end = (_text(said[name]) for name in ("dag_id", "run_id", "state", "end"))
    if state not in _ENDED or event_id(dag, run, "run.ended", state, end) in ids:
        return None
    return f"{dag} {run}: Airflow says the run ended as {state}, no run.ended"


# ------------------------------------------------------------------------------------------------ an extract


def _extract(folder: Path, manifest: _Manifest, keys: Sequence[VerifierKey], anchors: Sequence[Path]) -> Verdict:
    """Verify an extract (section 9): some leaves, each with its proof. Raises Tampered or Unreadable."""
    notices: list[str] = []
    trust = _Trust(_first_keys(folder, keys, notices))
    notes = {note.size: note for note in _notes(folder / "checkpoints")}
    if max(notes, default=None) != manifest.size:
        raise Tampered(f"the manifest speaks of a checkpoint at {manifest.size}, the newest here is at {max(notes, default=0)}")
    for signed in _anchored(anchors, notices):
        if signed.size in notes and notes[signed.size].raw != signed.note.raw:
            raise Tampered(f"the anchor {signed.anchor} holds another checkpoint at {signed.size}")
    count, named = 0, {size: list[tuple[int, Any, str]]() for size in notes}
    before = -1
    for seq, line, size, proof in _proofs(folder):
        if seq <= before or size not in notes:
            raise Tampered("an extract's leaves stand in the order of their numbers, each under a checkpoint that is there", seq)
        before, count = seq, count + 1
        if not verify_inclusion(leaf_hash(line), seq, size, proof, notes[size].root):
            raise Tampered(f"its proof does not lead to the root that the checkpoint at {size} signed: leaf, number or proof was "
                           "changed", seq)
        if line[line.rfind(_KIND) + 8 :].startswith(b'audit.key"'):
            with suppress(KeyError, TypeError, ValueError):  # unreadable, it changes nothing
                body = _json(line)["event"]["body"]
                named[size].append((seq, body["replaces"], _text(body["vkey"])))
    for size, note in sorted(notes.items()):
        trust.check(note, manifest.origin, "the checkpoint")
        trust.named += named[size]
        trust.covered(note)
    notices += trust.notices()
    notices.append("an extract shows that these events are in the log; it cannot show that there are no others")
    text = f"{count} events of the log {manifest.origin}, each proven to be in its first {manifest.size}"
    return Verdict("ok", text, notices=notices)


def _proofs(folder: Path) -> Iterator[tuple[int, bytes, int, list[bytes]]]:
    """Read leaves.jsonl and proofs.jsonl side by side: number, leaf, size, proof. Raises Tampered."""
    with _part(folder / "leaves.jsonl") as leaves, _part(folder / "proofs.jsonl") as proofs:
        number = 0
        while True:
            line, said = leaves.readline(LINE_LIMIT + 1), proofs.readline(LINE_LIMIT + 1)
            if not line and not said:
                return
            number += 1
            if not line.endswith(b"\n") or not said.endswith(b"\n"):
                raise Tampered(f"leaves.jsonl or proofs.jsonl ends before or within line {number}, or the line is too long")
            try:
                found = _json(said)
                seq, size, proof = found["seq"], found["size"], [_from_hex(one) for one in found["proof"]]
                if type(seq) is not int or type(size) is not int or said[:-1] != _canonical(found):
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                raise Tampered(f"line {number} of proofs.jsonl is no proof") from None
            place = b',"seq":%d,"stored_at":"' % seq
            if line[-30 - len(place) : -30] != place:
                raise Tampered(f"the leaf in line {number} of leaves.jsonl is not of the number that its proof has", seq)
            yield seq, line[:-1], size, proof


@contextmanager
def _part(path: Path) -> Iterator[IO[bytes]]:
    try:
        with _opened(path) as file:
            yield file
    except FileNotFoundError:
        raise Tampered(f"{path.name} is missing") from None


# ------------------------------------------------------------------------------------------------ the command


def verify(folder: Path, keys: Sequence[VerifierKey] = (), anchors: Sequence[Path] = (), jobs: int = 1,
           progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Verify an export or an extract. `keys` are trusted to begin with; `anchors` are folders of notes kept elsewhere.

    `jobs` processes hash; `progress` is called with the number of leaves done and of all. Raises Unreadable where there can be no
    verdict, OSError where files cannot be read.
    """
    log = None
    try:
        manifest = _manifest(folder)
        if manifest.format == FORMATS[1]:
            return _extract(folder, manifest, keys, anchors)
        log = _Log(folder, manifest, keys, anchors)
        for scan in _scans(log.jobs(), jobs):
            log.take(scan)
            if progress:
                progress(scan.end, log.size)
        return log.end()
    except Tampered as found:
        return Verdict("tampered", found.reason, found.seq, notices=log.notices if log else [])


def _scans(work: Iterator[_Job], jobs: int) -> Iterator[_Scan]:
    """Hash segments, in order; with several processes a few ahead."""
    if jobs <= 1:
        yield from map(_scan, work)
        return
    with ProcessPoolExecutor(jobs) as pool:
        ahead: deque[Future[_Scan]] = deque()
        try:
            for job in work:
                ahead.append(pool.submit(_scan, job))
                if len(ahead) > 2 * jobs:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool:
            raise Unreadable("a worker process ended unexpectedly: too little memory? Try --jobs 1") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    parser = argparse.ArgumentParser(prog="airgate-verify", description="Verify an exported audit log. Exit code 0: ok, "
                                     "1: tampered, 3: incomplete, 2: it cannot be read.")
    parser.add_argument("export", type=Path, metavar="EXPORT", help="the folder that `airgate audit export` wrote")
    parser.add_argument("--key", action="append", default=[], metavar="VKEY|FILE",
                        help="the log's first verifier key (NAME+HASH+BASE64), or a file of keys; may be given again")
    parser.add_argument("--anchor", action="append", default=[], type=Path, metavar="FOLDER",
                        help="notes that were kept outside of the database's reach; may be given again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="processes that hash (default: one a core)")
    args = parser.parse_args(argv)
    try:
        keys = [key for text in args.key for key in _given(text)]
        progress = _progress if sys.stderr.isatty() else None
        verdict = verify(args.export, keys, args.anchor, min(max(args.jobs, 1), 64), progress)
    except (Unreadable, OSError, MemoryError) as error:
        _say(sys.stderr, f"airgate-verify: {error or type(error).__name__}")
        return EXIT_UNREADABLE
    except KeyboardInterrupt:
        return 130
    for line in verdict.lines():
        _say(sys.stdout, line)
    return EXIT[verdict.word]


def _say(stream: TextIO, line: str) -> None:
    """Write a line, whatever the terminal's encoding."""
    encoding = stream.encoding or "utf-8"
    stream.write(_plain(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _given(text: str) -> list[VerifierKey]:
    """Read --key: a verifier key, or a file of them. Raises Unreadable."""
    try:
        if "+" in text and not Path(text).exists():
            return [VerifierKey.parse(text)]
        with Path(text).open("rb") as file:
            keys = _keys_in(file.read(1 << 20))
    except OSError as error:
        raise Unreadable(f"--key {text[:120]} is no verifier key (NAME+HASH+BASE64) and no file: {error.strerror}") from None
    except ValueError as error:
        raise Unreadable(f"--key {text[:120]}: {error}") from None
    if not keys:
        raise Unreadable(f"--key {text[:120]}: the file holds no key")
    return keys


def _progress(done: int, size: int) -> None:
    sys.stderr.write(f"\r{done} of {size} events" + ("\r\033[K" if done == size else ""))
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
