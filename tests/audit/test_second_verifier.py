"""Tests of the second verifier: the worked examples, and an export written here by the page's section 7 and then spoiled."""

import base64
import collections.abc
import hashlib
import importlib
import json
import pathlib
import sys
import typing
import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(pathlib.Path(__file__).parent))
second: typing.Any = importlib.import_module("second_verifier")
sys.path.pop(0)

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "audit_vectors.json").read_text(encoding="utf-8"))
LEAVES = [entry["leaf"].encode() for entry in VECTORS["leaves"]]
ORIGIN = "audit.example.org/airgate"
SEEDS = [bytes.fromhex(key["seed"]) for key in VECTORS["keys"]]
VKEYS = [key["vkey"] for key in VECTORS["keys"]]
STRANGER = bytes(range(100, 132))
TASK = {"dag_id": "training", "map_index": -1, "run_id": "run 1", "task_id": "träin", "try_number": 1}


# ---- writing an export


def vkey_of(seed: bytes, name: str = ORIGIN) -> str:
    """The verifier key for a seed."""
    data = b"\x01" + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return f"{name}+{hashlib.sha256(name.encode() + bytes([10]) + data).hexdigest()[:8]}+{base64.b64encode(data).decode()}"


def time(second_of_day: int) -> str:
    """A time in the log's form."""
    return f"2026-02-03T{second_of_day // 3600:02}:{second_of_day // 60 % 60:02}:{second_of_day % 60:02}.000000Z"


def leaf(seq: int, kind: str, body: dict[str, typing.Any], **more: typing.Any) -> bytes:
    """A leaf. For names and values as simple as these, this is their RFC 8785 form."""
    event = {
        "actor": {"kind": "system", "name": "test"},
        "body": body,
        "code": {"airgate": "0.2.0", "commit": "24896b5", "image": "local"},
        "event_id": str(uuid.UUID(int=seq)),
        "kind": kind,
        "model": None,
        "occurred_at": time(seq),
        "recovered": False,
        "schema_version": 2,
        "source": "operator",
        "task": None,
        "version": None,
    }
    value = {"event": event | more, "seq": seq, "stored_at": time(seq)}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def note(leaves: list[bytes], previous: bytes | None, seeds: list[bytes], origin: str = ORIGIN) -> bytes:
    """A checkpoint over all of these leaves."""
    root = second.make_root_of([second.leaf_hash(line) for line in leaves])(len(leaves))
    text = f"{origin}\n{len(leaves)}\n{base64.b64encode(root).decode()}\n"
    if previous is not None:
        text += f"previous {base64.b64encode(hashlib.sha256(previous).digest()).decode()}\n"
    text += f"time {time(len(leaves))}\n"
    lines = ""
    for seed in seeds:
        blob = bytes.fromhex(vkey_of(seed).split("+")[1]) + Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
        lines += f"\u2014 {ORIGIN} {base64.b64encode(blob).decode()}\n"
    return f"{text}\n{lines}".encode()


def write_leaves(export: pathlib.Path, lines: list[bytes], hashes: list[bytes] | None = None) -> None:
    """The log and its hashes; without `hashes`, those that belong to the lines."""
    (export / "log").mkdir(parents=True, exist_ok=True)
    hashes = hashes or [bytes.fromhex(json.loads(x)["expired"]) if x[2:9] == b"expired" else second.leaf_hash(x) for x in lines]
    for first in range(0, len(lines), 65536):
        path = export / "log" / f"{first:020}.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines[first : first + 65536]))
        path.with_suffix(".hashes").write_bytes(b"".join(hashes[first : first + 65536]))


def write_export(export: pathlib.Path, lines: list[bytes], notes: list[tuple[int, list[bytes]]]) -> pathlib.Path:
    """An export of these leaves with checkpoints of these sizes by these keys."""
    write_leaves(export, lines)
    (export / "checkpoints").mkdir()
    previous = None
    for size, seeds in notes:
        previous = note(lines[:size], previous, seeds)
        (export / "checkpoints" / f"{size:020}.note").write_bytes(previous)
    manifest = {"format": "airgate-audit-export/1", "made_at": time(9), "origin": ORIGIN, "segment": 65536, "size": len(lines)}
    (export / "manifest.json").write_text(json.dumps(manifest))
    (export / "keys.txt").write_text("".join(key + "\n" for key in VKEYS))
    (export / "proofs.json").write_text('{"consistency":[]}')
    return export


def event_id(kind: str) -> str:
    """The id of section 2 for TASK."""
    name = ["training", "run 1", "träin", 1, -1, kind]
    return str(uuid.uuid5(uuid.UUID("715ca83a-4fbb-566e-a455-6552a119dd1e"), json.dumps(name, separators=(",", ":"))))


def story() -> list[bytes]:
    """Nine leaves: a task, a promotion, the second key."""
    return [
        leaf(0, "audit.key", {"replaces": None, "vkey": VKEYS[0]}),
        leaf(1, "task.started", {}, task=TASK, event_id=event_id("task.started")),
        leaf(2, "task.succeeded", {"rows": 455}, task=TASK, event_id=event_id("task.succeeded")),
        leaf(3, "promotion.approved", {"request_digest": "sha256:00"}),
        leaf(4, "stage.moved", {"request_digest": "sha256:00"}),
        leaf(5, "audit.key", {"replaces": VKEYS[0], "vkey": VKEYS[1]}),
        leaf(6, "audit.expired", {"ranges": [[1, 1]]}),
        leaf(7, "manual.change", {"state": "failed"}, task=TASK | {"try_number": 2}),
        leaf(8, "audit.alarm", {"alarm": "none"}),
    ]


# the second key signs alone once leaf 5 is covered; leaf 8 is not signed yet
NOTES = [(3, SEEDS[:1]), (6, SEEDS), (8, SEEDS[1:])]


@pytest.fixture
def export(tmp_path: pathlib.Path) -> pathlib.Path:
    """An export that is all right."""
    return write_export(tmp_path / "export", story(), NOTES)


def note_path(export: pathlib.Path, size: int) -> pathlib.Path:
    """Where the checkpoint of that size is."""
    return export / "checkpoints" / f"{size:020}.note"


def expect(found: tuple[str, str], word: str, part: str) -> None:
    """That the verdict is this one, and says this."""
    assert found[0] == word, found
    assert part in found[1]


# ---- the worked examples


def test_leaves_and_roots_of_the_vectors() -> None:
    assert [second.leaf_hash(line).hex() for line in LEAVES] == [entry["hash"] for entry in VECTORS["leaves"]]
    root_of = second.make_root_of([second.leaf_hash(line) for line in LEAVES])
    assert [root_of(size).hex() for size in range(6)] == VECTORS["roots"]
    assert [second.parse_leaf(line, number).seq for number, line in enumerate(LEAVES)] == [0, 1, 2, 3, 4]


def root_from_inclusion(hashed: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """RFC 9162, 2.1.3.2: the root that an inclusion proof leads to."""
    fn, sn = index, size - 1
    for other in proof:
        assert sn != 0
        if fn & 1 or fn == sn:
            hashed = second.node_hash(other, hashed)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            hashed = second.node_hash(hashed, other)
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return hashed


def test_inclusion_proof_of_the_vectors() -> None:
    given = VECTORS["inclusion"]
    proof = [bytes.fromhex(text) for text in given["proof"]]
    hashed = second.leaf_hash(LEAVES[given["index"]])
    assert root_from_inclusion(hashed, given["index"], given["size"], proof).hex() == VECTORS["roots"][given["size"]]


def consistency(hashes: list[bytes], old: int, whole: bool = True) -> list[bytes]:
    """RFC 9162, 2.1.4.1: SUBPROOF(old, hashes, whole)."""
    root_of, size = second.make_root_of(hashes), len(hashes)
    if old == size:
        return [] if whole else [root_of(size)]
    k = 1
    while 2 * k < size:
        k *= 2
    if old <= k:
        return [*consistency(hashes[:k], old, whole), second.make_root_of(hashes[k:])(size - k)]
    return [*consistency(hashes[k:], old - k, False), root_of(k)]


def test_consistency_proof_of_the_vectors() -> None:
    given = VECTORS["consistency"]
    proof = consistency([second.leaf_hash(line) for line in LEAVES[: given["new"]]], given["old"])
    assert [part.hex() for part in proof] == given["proof"]


def test_keys_and_notes_of_the_vectors() -> None:
    assert [vkey_of(seed) for seed in SEEDS] == VKEYS
    keys = [second.parse_key(vkey) for vkey in VKEYS]
    first, newer = (second.parse_note(entry["note"].encode(), "note") for entry in VECTORS["notes"])
    assert (first.size, first.root.hex(), first.previous) == (2, VECTORS["roots"][2], None)
    assert (newer.size, newer.root.hex(), newer.previous) == (5, VECTORS["roots"][5], hashlib.sha256(first.raw).digest())
    signers = [[second.is_signed(entry, [key]) for key in keys] for entry in (first, newer)]
    assert signers == [[True, False], [True, True]]


@pytest.mark.parametrize("change", [("9348fd5b", "9348fd5c"), ("airgate", "airgata"), ("AQOh", "AgOh"), ("+AQ", "")])
def test_something_else_than_a_key(change: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        second.parse_key(VKEYS[0].replace(*change))


def test_event_ids_of_the_vectors() -> None:
    fields = ("dag_id", "run_id", "task_id", "try_number", "map_index", "kind")
    for entry in VECTORS["event_ids"]:
        *_, kind = entry["parts"]
        name = second.task_name(dict(zip(fields, entry["parts"], strict=True)), kind)
        assert str(uuid.uuid5(second.NAMESPACE, name)) == entry["event_id"]


def test_sealed_texts_of_the_vectors() -> None:
    sealed = VECTORS["sealed"]
    key = bytes.fromhex(sealed["key"])
    assert second.open_sealed(key, sealed["box"], sealed["event_id"], sealed["path"]) == sealed["text"]
    event = json.loads(LEAVES[3])["event"]
    for path, value in (("actor.name", event["actor"]["name"]), ("body.user", event["body"]["user"])):
        assert value["$sealed"]["by"] == sealed["subject"]
        assert second.open_sealed(key, value["$sealed"]["box"], event["event_id"], path)


def test_an_export_of_the_vectors(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, LEAVES, [])
    for entry in VECTORS["notes"]:
        note_path(folder, entry["size"]).write_bytes(entry["note"].encode())
    assert second.verify(folder) == ("ok", "5 leaves and 2 checkpoints; not signed yet: the last 0 leaves")


# ---- exports that are all right


def test_ok(export: pathlib.Path) -> None:
    word = "9 leaves and 3 checkpoints; not signed yet: the last 1 leaves"
    assert second.verify(export) == second.verify(export, VKEYS[:1], [export / "checkpoints"]) == ("ok", word)


def test_empty_log(tmp_path: pathlib.Path) -> None:
    expect(second.verify(write_export(tmp_path, [], [(0, SEEDS[:1])])), "ok", "0 leaves and 1 checkpoints")


def test_two_segments(tmp_path: pathlib.Path) -> None:
    lines = [leaf(seq, "task.started", {}) for seq in range(65538)]
    folder = write_export(tmp_path, lines, [(65536, SEEDS[:1]), (65538, SEEDS[:1])])
    expect(second.verify(folder), "ok", "65538 leaves and 2 checkpoints")
    for path in (folder / "log").glob("00000000000000000000.*"):
        path.unlink()
    expect(second.verify(folder), "tampered", "leaf 0 is missing")


def test_oddities_are_pointed_out(tmp_path: pathlib.Path) -> None:
    lines = [
        leaf(0, "task.started", {}, occurred_at=time(6)),
        leaf(1, "task.started", {}, occurred_at=time(6)),
        leaf(2, "task.started", {}).replace(b'"stored_at":"2026', b'"stored_at":"2025'),
        leaf(3, "task.started", {}, event_id=str(uuid.UUID(int=1))),
    ]
    word, text = second.verify(write_export(tmp_path, lines, [(4, SEEDS[:1])]))
    assert (word, text.split("\n")[1:]) == (
        "ok",
        [
            "note: leaf 0 occurred after it was stored",
            "note: leaf 2 occurred after it was stored",
            "note: leaf 2 was stored before an earlier leaf",
            "note: leaf 3 has the event id of an earlier leaf",
        ],
    )


# ---- exports that were tampered with


def flip(lines: list[bytes]) -> None:
    lines[2] = lines[2].replace(b"455", b"454")


def remove(lines: list[bytes]) -> None:
    del lines[2]


def swap(lines: list[bytes]) -> None:
    lines[2], lines[3] = lines[3], lines[2]


def cut(lines: list[bytes]) -> None:
    del lines[2:]


def empty(lines: list[bytes]) -> None:
    lines[2] = b""


@pytest.mark.parametrize("change", [flip, remove, swap, cut, empty])
def test_changed_lines(export: pathlib.Path, change: collections.abc.Callable[[list[bytes]], None]) -> None:
    """With the hashes as they were, the first bad leaf is always found: 2."""
    lines = story()
    hashes = [second.leaf_hash(line) for line in lines]
    change(lines)
    write_leaves(export, lines, hashes)
    expect(second.verify(export), "tampered", "leaf 2 ")


@pytest.mark.parametrize(("change", "part"), [(flip, "from 0 to 2"), (remove, "leaf 2 "), (swap, "leaf 2 "), (cut, "leaf 2 ")])
def test_changed_lines_with_hashes_that_fit(
    export: pathlib.Path, change: collections.abc.Callable[[list[bytes]], None], part: str
) -> None:
    lines = story()
    change(lines)
    write_leaves(export, lines)
    expect(second.verify(export), "tampered", part)


def test_a_leaf_between_two_checkpoints_with_a_hash_that_fits(export: pathlib.Path) -> None:
    lines = story()
    lines[4] = lines[4].replace(b"sha256:00", b"sha256:01")
    write_leaves(export, lines)
    expect(second.verify(export), "tampered", "from 3 to 5")


def test_every_flipped_byte_of_a_signed_leaf(export: pathlib.Path) -> None:
    path = export / "log" / f"{0:020}.jsonl"
    data = path.read_bytes()
    start = len(story()[0]) + 1
    for place in range(start, start + len(story()[1]) + 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        expect(second.verify(export), "tampered", "leaf 1 ")


def test_an_unfinished_last_line(export: pathlib.Path) -> None:
    path = export / "log" / f"{0:020}.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    expect(second.verify(export), "tampered", "leaf 8 ")


def test_truncated_to_a_checkpoint(export: pathlib.Path) -> None:
    """The manifest says that there was more; with another manifest, the anchor does."""
    anchor = export.with_name("anchor")
    (export / "checkpoints").rename(anchor)
    write_export(export.with_name("shorter"), story()[:3], NOTES[:1])
    for path in (export / "log").iterdir():
        path.write_bytes((export.with_name("shorter") / "log" / path.name).read_bytes())
    expect(second.verify(export), "tampered", "leaf 3 is missing")
    assert second.verify(export.with_name("shorter"))[0] == "ok"
    anchored = second.verify(export.with_name("shorter"), VKEYS, [anchor])
    expect(anchored, "tampered", "leaf 3 is missing: anchor/00000000000000000006.note is about 6 leaves")


@pytest.mark.parametrize("size", [3, 6])
def test_a_missing_checkpoint(export: pathlib.Path, size: int) -> None:
    note_path(export, size).unlink()
    following = note_path(export, 6 if size == 3 else 8).name
    expect(second.verify(export), "tampered", f"{following} does not follow")


def test_a_forged_signature(export: pathlib.Path) -> None:
    path = note_path(export, 3)
    text, _, line = path.read_bytes().decode().rstrip("\n").rpartition(" ")
    blob = bytearray(base64.b64decode(line))
    blob[20] ^= 1
    path.write_text(f"{text} {base64.b64encode(blob).decode()}\n", encoding="utf-8")
    expect(second.verify(export), "tampered", "0003.note is not signed by a trusted key")


def test_a_changed_time_in_a_checkpoint(export: pathlib.Path) -> None:
    path = note_path(export, 8)
    path.write_bytes(path.read_bytes().replace(b"time 2026", b"time 2025"))
    expect(second.verify(export), "tampered", "0008.note is not signed by a trusted key")


@pytest.mark.parametrize(
    "change",
    [
        (b"\n\n", b"\nmore\n\n"),
        (b"\n\n", b"\n"),
        (b"\n3\n", b"\n03\n"),
        (b"\n3\n", b"\n4\n"),
        (b"org/airgate\n", b"org/other\n"),
        ("\u2014 ".encode(), b"- "),
    ],
)
def test_something_else_than_a_checkpoint(export: pathlib.Path, change: tuple[bytes, bytes]) -> None:
    path = note_path(export, 3)
    path.write_bytes(path.read_bytes().replace(*change))
    expect(second.verify(export), "tampered", "checkpoints/00000000000000000003.note")


def test_a_log_by_somebody_else(tmp_path: pathlib.Path) -> None:
    lines = [leaf(0, "audit.key", {"replaces": None, "vkey": vkey_of(STRANGER)})]
    folder = write_export(tmp_path, lines, [(1, [STRANGER])])
    (folder / "keys.txt").write_text(vkey_of(STRANGER) + "\n")
    assert second.verify(folder)[0] == "ok"
    expect(second.verify(folder, VKEYS[:1]), "tampered", "0001.note is not signed by a trusted key")


def test_wrong_key(export: pathlib.Path) -> None:
    expect(second.verify(export, [vkey_of(STRANGER)]), "tampered", "0003.note is not signed by a trusted key")
    expect(second.verify(export, [vkey_of(SEEDS[0], "other")]), "tampered", "0003.note is not signed by a trusted key")
    with pytest.raises(ValueError):
        second.verify(export, ["no key"])


def test_a_key_counts_only_once_its_leaf_is_signed_by_another(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, story(), [(3, SEEDS[:1]), (6, SEEDS[1:])])
    expect(second.verify(folder), "tampered", "0006.note is not signed by a trusted key")


def test_signatures_by_strangers_are_passed_over(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, story(), [(3, [STRANGER, SEEDS[0]]), (6, [SEEDS[0], STRANGER])])
    expect(second.verify(folder), "ok", "not signed yet: the last 3 leaves")


# ---- anchors


def test_an_anchored_note_beyond_the_log(export: pathlib.Path) -> None:
    anchor = export.with_name("anchor")
    anchor.mkdir()
    longer = [*story(), leaf(9, "task.started", {})]
    (anchor / f"{10:020}.note").write_bytes(note(longer, note_path(export, 8).read_bytes(), SEEDS[1:]))
    expect(second.verify(export, [], [anchor]), "tampered", "leaf 9 is missing: anchor/00000000000000000010.note")


def test_an_anchored_note_with_another_root(export: pathlib.Path) -> None:
    anchor = export.with_name("anchor")
    anchor.mkdir()
    (anchor / f"{4:020}.note").write_bytes(note([*story()[:3], leaf(3, "other", {})], None, SEEDS[:1]))
    expect(second.verify(export, [], [anchor]), "tampered", "from 0 to 3 was changed")


def test_an_anchored_note_by_a_stranger(export: pathlib.Path) -> None:
    anchor = export.with_name("anchor")
    anchor.mkdir()
    (anchor / f"{4:020}.note").write_bytes(note(story()[:4], None, [STRANGER]))
    expect(second.verify(export, [], [anchor]), "tampered", "anchor/00000000000000000004.note is not signed")


def test_an_anchor_that_is_not_there(export: pathlib.Path) -> None:
    with pytest.raises(ValueError):
        second.verify(export, [], [export / "nothing"])


# ---- contents that were dropped


@pytest.mark.parametrize(("number", "word"), [(1, "ok"), (2, "tampered")])
def test_dropped_contents(export: pathlib.Path, number: int, word: str) -> None:
    """Leaf 6 says that the contents of leaf 1 were dropped."""
    lines = story()
    lines[number] = b'{"expired":"%s"}' % second.leaf_hash(lines[number]).hex().encode()
    write_leaves(export, lines)
    expect(second.verify(export), word, "9 leaves" if word == "ok" else "leaf 2 has no contents")


def test_dropped_contents_with_another_hash(export: pathlib.Path) -> None:
    lines = story()
    lines[1] = b'{"expired":"%s"}' % (b"00" * 32)
    write_leaves(export, lines)
    expect(second.verify(export), "tampered", "from 0 to 2 was changed")


# ---- what is incomplete


def account(export: pathlib.Path, *entries: dict[str, typing.Any]) -> pathlib.Path:
    """Writes account.jsonl."""
    (export / "account.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return export


def test_an_account_with_answers(export: pathlib.Path) -> None:
    answered = [TASK | {"state": "success"}, TASK | {"state": "failed", "try_number": 2}, TASK | {"state": "running"}]
    assert second.verify(account(export, *answered))[0] == "ok"


@pytest.mark.parametrize(
    "change",
    [
        {"state": "failed"},
        {"state": "success", "map_index": 0},
        {"state": "success", "try_number": 2},
        {"state": "removed", "try_number": 2},
    ],
)
def test_an_account_line_without_an_answer(export: pathlib.Path, change: dict[str, typing.Any]) -> None:
    found = second.verify(account(export, TASK | {"state": "success"}, TASK | change))
    expect(found, "incomplete", "line 2 of account.jsonl has no answer")
    assert found[1].endswith("not signed yet: the last 1 leaves")


def test_an_account_line_that_cannot_be_read(export: pathlib.Path) -> None:
    (export / "account.jsonl").write_text("{}\n")
    expect(second.verify(export), "incomplete", "line 1 of account.jsonl cannot be read")


@pytest.mark.parametrize(
    ("kind", "before", "word"), [("stage.moving", "7", "ok"), ("task.started", "7", "incomplete"), ("", "", "")]
)
def test_a_moved_stage(tmp_path: pathlib.Path, kind: str, before: str, word: str) -> None:
    lines = [leaf(0, kind or "stage.moving", {"request_digest": before or "6"}), leaf(1, "stage.moved", {"request_digest": "7"})]
    found = second.verify(write_export(tmp_path, lines, [(2, SEEDS[:1])]))
    expect(found, word or "incomplete", "2 leaves" if word == "ok" else "leaf 1 moved a stage")


def test_an_approval_afterwards(tmp_path: pathlib.Path) -> None:
    lines = [leaf(0, "stage.moved", {"request_digest": "7"}), leaf(1, "promotion.approved", {"request_digest": "7"})]
    expect(second.verify(write_export(tmp_path, lines, [(2, SEEDS[:1])])), "incomplete", "leaf 0 moved a stage")


# ---- exports that are none


@pytest.mark.parametrize(
    "name", ["manifest.json", "keys.txt", "log/00000000000000000000.jsonl", "log/00000000000000000000.hashes"]
)
def test_a_missing_file(export: pathlib.Path, name: str) -> None:
    (export / name).unlink()
    assert second.verify(export)[0] == "tampered"
