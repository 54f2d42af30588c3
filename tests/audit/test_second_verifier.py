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


def time(month: int) -> str:
    """A time in the log's form; a month lies between what follows each other."""
    return f"{2020 + month // 12}-{month % 12 + 1:02}-03T00:00:00.000000Z"


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


def write_manifest(folder: pathlib.Path, manifest: dict[str, typing.Any]) -> None:
    """manifest.json in its one form."""
    (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n")


def write_export(export: pathlib.Path, lines: list[bytes], notes: list[tuple[int, list[bytes]]]) -> pathlib.Path:
    """An export of these leaves with checkpoints of these sizes by these keys."""
    write_leaves(export, lines)
    (export / "checkpoints").mkdir()
    previous = None
    for size, seeds in notes:
        previous = note(lines[:size], previous, seeds)
        (export / "checkpoints" / f"{size:020}.note").write_bytes(previous)
    manifest = {"format": "airgate-audit-export/1", "made_at": time(9), "origin": ORIGIN, "segment": 65536, "size": len(lines)}
    write_manifest(export, manifest)
    (export / "keys.txt").write_text("".join(key + "\n" for key in VKEYS))
    (export / "proofs.json").write_text('{"consistency":[]}')
    return export


def event_id(kind: str) -> str:
    """The id of section 2 for TASK."""
    name = ["training", "run 1", "träin", 1, -1, kind]
    return str(uuid.uuid5(uuid.UUID("715ca83a-4fbb-566e-a455-6552a119dd1e"), json.dumps(name, separators=(",", ":"))))


def story() -> list[bytes]:
    """Nine leaves: a promotion, a task, the second key."""
    return [
        leaf(0, "audit.key", {"replaces": None, "vkey": VKEYS[0]}),
        leaf(1, "promotion.approved", {"request_digest": "sha256:00"}),
        leaf(2, "task.succeeded", {"rows": 455}, task=TASK, event_id=event_id("task.succeeded")),
        leaf(3, "stage.moving", {"request_digest": "sha256:00"}),
        leaf(4, "stage.moved", {"request_digest": "sha256:00"}),
        leaf(5, "audit.key", {"replaces": VKEYS[0], "vkey": VKEYS[1]}),
        leaf(6, "audit.expired", {"months": 6, "ranges": [[2, 2]]}),
        leaf(7, "manual.change", {"state": "failed"}, task=TASK | {"try_number": 2}),
        leaf(8, "audit.alarm", {"alarm": "none"}),
    ]


# the second key signs alone once a checkpoint by both has covered leaf 5; leaf 8 is not signed yet
NOTES = [(3, SEEDS[:1]), (6, SEEDS), (8, SEEDS[1:])]


ITSELF = "note: no key was given but the first of keys.txt: this proves only that the export agrees with itself"


@pytest.fixture
def export(tmp_path: pathlib.Path) -> pathlib.Path:
    """An export that is all right."""
    return write_export(tmp_path / "export", story(), NOTES)


def dropped(line: bytes) -> bytes:
    """What stands for a leaf without its contents."""
    return b'{"expired":"%s"}' % second.leaf_hash(line).hex().encode()


def anchored(export: pathlib.Path, *notes: tuple[int, bytes]) -> pathlib.Path:
    """An anchor's folder with these notes."""
    anchor = export.with_name("anchor")
    anchor.mkdir()
    for size, raw in notes:
        (anchor / f"{size:020}.note").write_bytes(raw)
    return anchor


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


def inclusion(hashes: list[bytes], index: int) -> list[bytes]:
    """RFC 9162, 2.1.3.1: PATH(index, hashes)."""
    if len(hashes) == 1:
        return []
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    if index < k:
        return [*inclusion(hashes[:k], index), second.make_root_of(hashes[k:])(len(hashes) - k)]
    return [*inclusion(hashes[k:], index - k), second.make_root_of(hashes)(k)]


def test_inclusion_proof_of_the_vectors() -> None:
    given = VECTORS["inclusion"]
    proof = [bytes.fromhex(text) for text in given["proof"]]
    hashes = [second.leaf_hash(line) for line in LEAVES[: given["size"]]]
    assert proof == inclusion(hashes, given["index"])
    assert second.root_from_inclusion(hashes[1], given["index"], given["size"], proof).hex() == VECTORS["roots"][given["size"]]


def test_inclusion_proofs() -> None:
    hashes = [second.leaf_hash(bytes([number])) for number in range(9)]
    for size in range(1, 10):
        root = second.make_root_of(hashes)(size)
        for index in range(size):
            proof = inclusion(hashes[:size], index)
            assert second.root_from_inclusion(hashes[index], index, size, proof) == root
            assert second.root_from_inclusion(hashes[index], index, size, [*proof, root]) is None
            for place in {*range(size + 1)} - {index}:
                assert second.root_from_inclusion(hashes[index], place, size, proof) != root


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
    signers = [[second.is_signed_by(entry, key) for key in keys] for entry in (first, newer)]
    assert signers == [[True, False], [True, True]]


@pytest.mark.parametrize(
    "change",
    [("9348fd5b", "9348fd5c"), ("airgate", "airgata"), ("AQOh", "AgOh"), ("+AQ", ""), ("SVTG4", "SVTG5"), ("SVTG4", "SVTG4\n")],
)
def test_something_else_than_a_key(change: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        second.parse_key(VKEYS[0].replace(*change))


def test_event_ids_of_the_vectors() -> None:
    fields = ("dag_id", "run_id", "task_id", "try_number", "map_index", "kind")
    for entry in VECTORS["event_ids"]:
        *_, kind = entry["parts"]
        name = second.task_name(dict(zip(fields, entry["parts"], strict=True)), kind)
        assert str(uuid.uuid5(second.NAMESPACE, name)) == entry["event_id"]


def test_characters_in_event_ids() -> None:
    task = TASK | {"dag_id": '\\"\b\f\n\r\t\x01/', "run_id": "\x7f\x80\\u007f", "task_id": "é\U0001f600"}
    name = r'["\\\"\b\f\n\r\t\u0001/","\u007f\u0080\\u007f","\u00e9\ud83d\ude00",1,-1,"kind"]'
    assert second.task_name(task, "kind") == name


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
    assert second.verify(folder, VKEYS[:1]) == ("ok", "5 leaves and 2 checkpoints; not signed yet: the last 0 leaves")


# ---- exports that are all right


def test_ok(export: pathlib.Path) -> None:
    text = '9 leaves and 3 checkpoints; not signed yet: the last 1 leaves\nnote: leaf 8 is an alarm: "none"'
    assert second.verify(export, VKEYS[:1], [export / "checkpoints"]) == ("ok", text)
    assert second.verify(export) == ("ok", text + "\n" + ITSELF)


def test_empty_log(tmp_path: pathlib.Path) -> None:
    expect(second.verify(write_export(tmp_path / "a", [], [(0, SEEDS[:1])])), "ok", "0 leaves and 1 checkpoints")
    folder = write_export(tmp_path / "b", [], [])
    (folder / "keys.txt").write_text("")
    expect(second.verify(folder), "ok", "0 leaves and 0 checkpoints")
    (folder / "log" / f"{0:020}.jsonl").touch()
    expect(second.verify(folder), "tampered", "leaf 0 is missing")


def test_two_segments(tmp_path: pathlib.Path) -> None:
    """All contents but those of the last leaf were dropped, so that it is quick."""
    lines = [b"%d" % seq for seq in range(65537)]
    last = leaf(65537, "audit.expired", {"months": 1, "ranges": [[0, 65000], [65001, 65536]]})
    folder = write_export(tmp_path, [*lines, last], [(65538, SEEDS[:1])])
    hashes = [second.leaf_hash(line) for line in [*lines, last]]
    write_leaves(folder, [*(b'{"expired":"%s"}' % part.hex().encode() for part in hashes[:-1]), last], hashes)
    expect(second.verify(folder), "ok", "65538 leaves and 1 checkpoints")
    for path in (folder / "log").glob("00000000000000000000.*"):
        path.unlink()
    expect(second.verify(folder), "tampered", "leaf 0 is missing")


def test_oddities_are_pointed_out(tmp_path: pathlib.Path) -> None:
    lines = [
        leaf(0, "task.started", {}, occurred_at=time(6)),
        leaf(1, "task.started", {}, occurred_at=time(1).replace(":00.", ":05.")),
        leaf(2, "task.started", {}).replace(b'"stored_at":"2020', b'"stored_at":"2019'),
        leaf(3, "task.started", {}, event_id=str(uuid.UUID(int=1))),
    ]
    word, text = second.verify(write_export(tmp_path, lines, [(4, SEEDS[:1])]), VKEYS[:1])
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


def test_flipped_bytes_of_a_signed_leaf(export: pathlib.Path) -> None:
    path = export / "log" / f"{0:020}.jsonl"
    data = path.read_bytes()
    start = len(story()[0]) + 1
    for place in [*range(start, start + len(story()[1]), 5), start + len(story()[1])]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        expect(second.verify(export), "tampered", "leaf 1 ")


def test_an_unfinished_last_line(export: pathlib.Path) -> None:
    path = export / "log" / f"{0:020}.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    expect(second.verify(export), "tampered", "leaf 8 ")


def test_a_leaf_more_than_the_manifest_says(export: pathlib.Path) -> None:
    write_leaves(export, [*story(), leaf(9, "task.started", {})])
    expect(second.verify(export), "tampered", "leaf 9 is too much")


@pytest.mark.parametrize(
    "change",
    [
        (b'"kind":"task.succeeded",', b""),
        (b'"rows":455', b'"rows":NaN'),
        (b'"seq":2', b'"seq":02'),
        (b'"stored_at":"2020-03', b'"stored_at":"2020-13'),
        (b'"rows":455', b'"rows":"%s"' % (b"4" * 65536)),
    ],
)
def test_something_else_than_a_leaf(export: pathlib.Path, change: tuple[bytes, bytes]) -> None:
    lines = story()
    lines[2] = lines[2].replace(*change)
    write_leaves(export, lines)
    expect(second.verify(export), "tampered", "leaf 2 does not have the form")


def test_the_longest_event(tmp_path: pathlib.Path) -> None:
    line = leaf(0, "task.started", {"text": ""})
    room = 65536 - len(json.dumps(json.loads(line)["event"], separators=(",", ":")))
    for more, word in ((0, "ok"), (1, "tampered")):
        longer = leaf(0, "task.started", {"text": "x" * (room + more)})
        expect(second.verify(write_export(tmp_path / word, [longer], [(1, SEEDS[:1])])), word, "")


def test_a_log_without_a_checkpoint(tmp_path: pathlib.Path) -> None:
    expect(second.verify(write_export(tmp_path, story(), []), VKEYS), "tampered", "there is no checkpoint")


def test_truncated_to_a_checkpoint(export: pathlib.Path) -> None:
    """The manifest says that there was more; with another manifest, the anchor does."""
    anchor = export.with_name("anchor")
    (export / "checkpoints").rename(anchor)
    (anchor / "README").write_text("passed over")
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
    path.write_bytes(path.read_bytes().replace(b"time 2020", b"time 2019"))
    expect(second.verify(export), "tampered", "0008.note is not signed by a trusted key")


@pytest.mark.parametrize(
    "change",
    [
        (b"\n\n", b"\nmore\n\n"),
        (b"time 2020-04", b"time 2020-13"),
        (b"\n\n", b"\n\n" + "\u2014 passed.example AAAAAAAA\n".encode() * 100),
        (b"\n\n", b"\n\n" + "\u2014 passed.example AAAAAAAB=\n".encode()),
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


@pytest.mark.parametrize("number", [2, 5])
def test_stray_bits_in_base64(export: pathlib.Path, number: int) -> None:
    """The last character before the padding of a root, and of a signature: the same bytes, written otherwise."""
    path = note_path(export, 3)
    lines = path.read_bytes().decode().split("\n")
    bare = lines[number].rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    lines[number] = bare[:-1] + alphabet[alphabet.index(bare[-1]) + 1] + lines[number][len(bare) :]
    path.write_text("\n".join(lines), encoding="utf-8")
    expect(second.verify(export), "tampered", "0003.note does not have the form of a checkpoint: not Base64")


def test_a_hundred_signature_lines(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, story()[:1], [(1, SEEDS[:1])])
    path = note_path(folder, 1)
    path.write_bytes(path.read_bytes() + "\u2014 passed.example AAAAAAAA\n".encode() * 99)
    assert second.verify(folder)[0] == "ok"


def test_several_lines_by_one_key(tmp_path: pathlib.Path) -> None:
    """All must be right; but a wrong one beside a right one by another key is passed over."""
    for seeds, right in (([SEEDS[0]] * 2, "ok"), ([SEEDS[0], SEEDS[1]], "ok")):
        folder = write_export(tmp_path / str(len(list(tmp_path.iterdir()))), story()[:1], [(1, seeds)])
        path = note_path(folder, 1)
        assert second.verify(folder)[0] == right
        head, _, blob = path.read_bytes().decode().rstrip("\n").rpartition(" ")
        spoiled = base64.b64decode(blob)[:-1] + b"x"
        path.write_text(f"{head} {base64.b64encode(spoiled).decode()}\n", encoding="utf-8")
        assert second.verify(folder)[0] == ("tampered" if seeds[0] == seeds[1] else "ok")


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


KEY_LEAF = "note: leaf 5 names a key, but checkpoints/00000000000000000006.note does not bring it into force; nothing changes"


@pytest.mark.parametrize("seeds", [SEEDS[:1], [SEEDS[0], STRANGER]])
def test_a_key_leaf_without_both_signatures_changes_nothing(tmp_path: pathlib.Path, seeds: list[bytes]) -> None:
    folder = write_export(tmp_path / "a", story(), [(3, SEEDS[:1]), (6, seeds), (8, SEEDS[:1])])
    expect(second.verify(folder), "ok", KEY_LEAF)
    for later in (SEEDS[1:], [STRANGER]):
        folder = write_export(tmp_path / later[0].hex(), story(), [(3, SEEDS[:1]), (6, seeds), (8, later)])
        expect(second.verify(folder), "tampered", "0008.note is not signed by a trusted key")


def test_the_new_key_alone_does_not_bring_itself_into_force(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, story(), [(3, SEEDS[:1]), (6, SEEDS[1:])])
    expect(second.verify(folder), "tampered", "0006.note is not signed by a trusted key")


def test_a_later_checkpoint_by_both_keys_is_too_late(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, story(), [(3, SEEDS[:1]), (6, SEEDS[:1]), (8, SEEDS), (9, SEEDS[1:])])
    expect(second.verify(folder), "tampered", "0009.note is not signed by a trusted key")


def test_a_replaced_key_no_longer_counts(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, story(), [(3, SEEDS[:1]), (6, SEEDS), (8, SEEDS[:1])])
    expect(second.verify(folder), "tampered", "0008.note is not signed by a trusted key")


def test_a_log_needs_the_key_it_began_with(export: pathlib.Path) -> None:
    expect(second.verify(export, VKEYS[1:]), "tampered", "0003.note is not signed by a trusted key")
    assert second.verify(export, [*VKEYS, vkey_of(STRANGER)])[0] == "ok"


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ({"replaces": None, "vkey": vkey_of(STRANGER)}, []),
        ({"replaces": vkey_of(STRANGER), "vkey": VKEYS[1]}, [STRANGER]),
        ({"replaces": VKEYS[0], "vkey": "no key"}, []),
        ({}, []),
    ],
)
def test_other_key_leaves_change_nothing(tmp_path: pathlib.Path, body: dict[str, typing.Any], more: list[bytes]) -> None:
    lines = story()
    lines[5] = leaf(5, "audit.key", body)
    folder = write_export(tmp_path, lines, [(3, SEEDS[:1]), (6, [*SEEDS, *more]), (8, SEEDS[:1])])
    expect(second.verify(folder), "ok", KEY_LEAF)


def test_several_key_leaves_under_one_checkpoint(tmp_path: pathlib.Path) -> None:
    """Second for first, third for second: in their order. The third for the first comes too late."""
    third = vkey_of(STRANGER)
    lines = [
        leaf(0, "audit.key", {"replaces": None, "vkey": VKEYS[0]}),
        leaf(1, "audit.key", {"replaces": VKEYS[0], "vkey": VKEYS[1]}),
        leaf(2, "audit.key", {"replaces": VKEYS[1], "vkey": third}),
        leaf(3, "audit.key", {"replaces": VKEYS[0], "vkey": VKEYS[1]}),
        leaf(4, "task.started", {}),
    ]
    found = second.verify(write_export(tmp_path / "a", lines, [(4, [*SEEDS, STRANGER]), (5, [STRANGER])]))
    expect(found, "ok", "note: leaf 3 names a key")
    found = second.verify(write_export(tmp_path / "b", lines, [(4, [*SEEDS, STRANGER]), (5, SEEDS)]))
    expect(found, "tampered", "0005.note is not signed")


def test_signatures_by_strangers_are_passed_over(tmp_path: pathlib.Path) -> None:
    folder = write_export(tmp_path, story(), [(3, [STRANGER, SEEDS[0]]), (6, [SEEDS[0], STRANGER])])
    expect(second.verify(folder), "ok", "not signed yet: the last 3 leaves")


# ---- anchors


def test_an_anchored_note_beyond_the_log(export: pathlib.Path) -> None:
    longer = [*story(), leaf(9, "task.started", {})]
    anchor = anchored(export, (10, note(longer, note_path(export, 8).read_bytes(), SEEDS[1:])))
    expect(second.verify(export, [], [anchor]), "tampered", "leaf 9 is missing: anchor/00000000000000000010.note")


@pytest.mark.parametrize("case", ["a size without a checkpoint", "a line more", "another origin", "another size inside"])
def test_an_anchored_note_that_is_not_the_checkpoint(export: pathlib.Path, case: str) -> None:
    """Each has a right signature and the log's root."""
    if case == "a size without a checkpoint":
        given = (4, note(story()[:4], note_path(export, 3).read_bytes(), SEEDS[:1]))
    elif case == "a line more":
        given = (3, note(story()[:3], None, [SEEDS[0], STRANGER]))
    elif case == "another origin":
        given = (3, note(story()[:3], None, SEEDS[:1], "other.example.org"))
    else:
        given = (3, note_path(export, 6).read_bytes())
    found = second.verify(export, [], [anchored(export, given)])
    expect(found, "tampered", f"anchor/{given[0]:020}.note is not byte for byte the checkpoint")


def test_an_anchor_that_is_not_there(export: pathlib.Path) -> None:
    with pytest.raises(ValueError):
        second.verify(export, [], [export / "nothing"])


# ---- contents that were dropped


@pytest.mark.parametrize(("number", "word"), [(2, "ok"), (1, "tampered")])
def test_dropped_contents(export: pathlib.Path, number: int, word: str) -> None:
    """Leaf 6 says that the contents of leaf 2 were dropped."""
    lines = story()
    lines[number] = dropped(lines[number])
    write_leaves(export, lines)
    expect(second.verify(export), word, "9 leaves" if word == "ok" else "leaf 1 has no contents")


def test_dropped_contents_with_another_hash(export: pathlib.Path) -> None:
    lines = story()
    lines[1] = b'{"expired":"%s"}' % (b"00" * 32)
    write_leaves(export, lines)
    expect(second.verify(export), "tampered", "from 0 to 2 was changed")


@pytest.mark.parametrize(
    ("ranges", "signed", "word"),
    [
        ([[1, 1]], 4, "ok"),
        ([[1, 1]], 3, "tampered"),
        ([[0, 3]], 4, "tampered"),
        ([[1, 4]], 4, "tampered"),
        ([[1, 4], [1, 2]], 4, "ok"),
        ([[2, 2]], 4, "tampered"),
        ([[1, True]], 4, "tampered"),
        ([["1", "1"]], 4, "tampered"),
        ([[1]], 4, "tampered"),
        (1, 4, "tampered"),
    ],
)
def test_what_explains_dropped_contents(tmp_path: pathlib.Path, ranges: typing.Any, signed: int, word: str) -> None:
    """Leaf 3 speaks: it has to be signed, and about leaves before itself."""
    lines = [leaf(seq, "task.started", {}) for seq in range(3)] + [leaf(3, "audit.expired", {"months": 1, "ranges": ranges})]
    folder = write_export(tmp_path, lines, [(3, SEEDS[:1])] + [(4, SEEDS[:1])] * (signed == 4))
    assert second.verify(folder)[0] == "ok"
    lines[1] = dropped(lines[1])
    write_leaves(folder, lines)
    expect(second.verify(folder), word, "4 leaves" if word == "ok" else "leaf 1 has no contents")


def test_an_earlier_leaf_does_not_explain_dropped_contents(tmp_path: pathlib.Path) -> None:
    lines = [leaf(0, "audit.expired", {"months": 1, "ranges": [[1, 1]]}), leaf(1, "task.started", {})]
    folder = write_export(tmp_path, lines, [(2, SEEDS[:1])])
    write_leaves(folder, [lines[0], dropped(lines[1])])
    expect(second.verify(folder), "tampered", "leaf 1 has no contents")


@pytest.mark.parametrize(
    ("months", "word"),
    [(5, "ok"), (6, "tampered"), (0, "tampered"), (None, "tampered"), (True, "tampered"), ("4", "tampered"), (1201, "tampered")],
)
def test_how_old_dropped_contents_must_be(tmp_path: pathlib.Path, months: typing.Any, word: str) -> None:
    """Leaf 1 came after leaf 0, of January; leaf 4 says in May that it had to be kept so long, and that is signed in June."""
    lines = [leaf(seq, "task.started", {}) for seq in range(4)]
    lines.append(leaf(4, "audit.expired", {"months": months, "ranges": [[1, 1]]}))
    folder = write_export(tmp_path, lines, [(5, SEEDS[:1])])
    lines[1] = dropped(lines[1])
    write_leaves(folder, lines)
    expect(second.verify(folder), word, "5 leaves" if word == "ok" else "leaf 1 has no contents")


@pytest.mark.parametrize(("months", "word"), [(2, "ok"), (3, "tampered")])
def test_a_checkpoint_tells_the_age_of_dropped_contents(tmp_path: pathlib.Path, months: int, word: str) -> None:
    """The first was signed in April over three leaves, of which nothing is left; leaf 3 came after it."""
    lines = [leaf(seq, "task.started", {}) for seq in range(4)]
    lines.append(leaf(4, "audit.expired", {"months": months, "ranges": [[0, 3]]}))
    folder = write_export(tmp_path, lines, [(3, SEEDS[:1]), (5, SEEDS[:1])])
    write_leaves(folder, [*map(dropped, lines[:4]), lines[4]])
    expect(second.verify(folder), word, "5 leaves" if word == "ok" else "leaf 3 has no contents")


def test_a_clock_that_was_wrong_for_a_while_is_no_tampering(tmp_path: pathlib.Path) -> None:
    """Leaf 0 says 2030; what comes later corrects it."""
    lines = [leaf(seq, "task.started", {}) for seq in range(4)] + [leaf(4, "audit.expired", {"months": 2, "ranges": [[1, 3]]})]
    lines[0] = lines[0].replace(b'"stored_at":"2020', b'"stored_at":"2030')
    folder = write_export(tmp_path, lines, [(3, SEEDS[:1]), (5, SEEDS[:1])])
    write_leaves(folder, [lines[0], *map(dropped, lines[1:4]), lines[4]])
    assert second.verify(folder)[0] == "ok"


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
    assert "not signed yet: the last 1 leaves" in found[1]
    assert "the answer may have been among them" not in found[1]


def test_an_answer_that_may_have_been_dropped(export: pathlib.Path) -> None:
    lines = story()
    lines[2] = dropped(lines[2])
    write_leaves(export, lines)
    assert second.verify(export)[0] == "ok"
    expect(second.verify(account(export, TASK | {"state": "success"})), "incomplete", "the answer may have been among them")


def test_an_answer_that_is_not_signed_yet(export: pathlib.Path) -> None:
    """And of another kind: the id alone decides."""
    lines = [*story()[:8], leaf(8, "other", {}, event_id=event_id("task.upstream_failed"))]
    write_leaves(export, lines)
    assert second.verify(account(export, TASK | {"state": "upstream_failed"}))[0] == "ok"


RUN = {"dag_id": "d\u00e9", "end": "2026-01-08T06:00:01.000000Z", "run_id": "r", "state": "failed"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "ok"),
        ({"state": "running"}, "ok"),
        ({"state": "success"}, "incomplete"),
        ({"end": "2026-01-08T06:00:02.000000Z"}, "incomplete"),
        ({"end": ""}, "incomplete"),
        ({"run_id": "s"}, "incomplete"),
    ],
)
def test_an_account_of_a_run(export: pathlib.Path, change: dict[str, str], word: str) -> None:
    name = r'["d\u00e9","r","run.ended","failed","2026-01-08T06:00:01.000000Z"]'
    known = str(uuid.uuid5(uuid.UUID("715ca83a-4fbb-566e-a455-6552a119dd1e"), name))
    write_leaves(export, [*story()[:8], leaf(8, "run.ended", {}, event_id=known)])
    assert second.verify(account(export, RUN | change))[0] == word


NO_END = '{"dag_id":"d","end":null,"run_id":"r","state":"success"}\n'


@pytest.mark.parametrize("line", [NO_END, "{}\n", "\n", "[]\n", json.dumps(TASK | {"state": "success"})])
def test_an_account_line_in_another_form(export: pathlib.Path, line: str) -> None:
    (export / "account.jsonl").write_text(line)
    expect(second.verify(export), "tampered", "account.jsonl")


@pytest.mark.parametrize(
    ("kinds", "digests", "word"),
    [
        (["stage.moving", "promotion.approved"], ["7", "7", "7"], "ok"),
        (["promotion.approved", "stage.moving"], ["7", "7", "7"], "ok"),
        (["stage.moving", "task.started"], ["7", "7", "7"], "incomplete"),
        (["task.started", "promotion.approved"], ["7", "7", "7"], "incomplete"),
        (["stage.moving", "promotion.approved"], ["6", "7", "7"], "incomplete"),
        (["stage.moving", "promotion.approved"], ["7", "6", "7"], "incomplete"),
        (["stage.moving", "promotion.approved"], [None, None, None], "incomplete"),
    ],
)
def test_a_moved_stage(tmp_path: pathlib.Path, kinds: list[str], digests: list[str | None], word: str) -> None:
    both = zip([*kinds, "stage.moved"], digests, strict=True)
    lines = [leaf(seq, kind, {"request_digest": digest}) for seq, (kind, digest) in enumerate(both)]
    found = second.verify(write_export(tmp_path, lines, [(3, SEEDS[:1])]))
    expect(found, word, "3 leaves" if word == "ok" else "leaf 2 moved a stage without a ")


@pytest.mark.parametrize(("body", "word"), [
    ({"to_version": None, "claim": str(uuid.UUID(int=0))}, "ok"),
    ({"to_version": "3", "stage": "archived", "claim": str(uuid.UUID(int=0))}, "ok"),
    ({"to_version": "3", "stage": "production", "claim": str(uuid.UUID(int=0))}, "incomplete"),
    ({"to_version": None, "claim": "another"}, "incomplete"),
    ({"to_version": None}, "incomplete"),
])
def test_what_puts_nothing_to_use_needs_its_claim_only(tmp_path: pathlib.Path, body: dict[str, str | None], word: str) -> None:
    lines = [leaf(0, "stage.moving", {}), leaf(1, "stage.moved", body)]
    expect(second.verify(write_export(tmp_path, lines, [(2, SEEDS[:1])])), word, "2 leaves" if word == "ok" else "leaf 1 ")


def test_an_approval_afterwards(tmp_path: pathlib.Path) -> None:
    lines = [leaf(0, "stage.moved", {"request_digest": "7"}), leaf(1, "promotion.approved", {"request_digest": "7"})]
    expect(second.verify(write_export(tmp_path, lines, [(2, SEEDS[:1])])), "incomplete", "leaf 0 moved a stage")


# ---- extracts


def write_extract(
    folder: pathlib.Path, lines: list[bytes], notes: list[tuple[int, list[bytes]]], proven: list[tuple[int, int]]
) -> pathlib.Path:
    """An extract with these leaves, each proven under the checkpoint of that size; other checkpoints are missing."""
    write_export(folder, lines, notes)
    newest, hashes = max(size for size, _ in notes), [second.leaf_hash(line) for line in lines]
    for size in {size for size, _ in notes} - {size for _, size in proven} - {newest}:
        note_path(folder, size).unlink()
    (folder / "leaves.jsonl").write_bytes(b"".join(lines[seq] + b"\n" for seq, _ in proven))
    proofs = [{"proof": [part.hex() for part in inclusion(hashes[:size], seq)], "seq": seq, "size": size} for seq, size in proven]
    (folder / "proofs.jsonl").write_text("".join(json.dumps(proof, separators=(",", ":")) + "\n" for proof in proofs))
    write_manifest(folder, {"format": "airgate-audit-extract/1", "made_at": time(9), "origin": ORIGIN, "size": newest})
    return folder


PROVEN = [(0, 3), (2, 8), (5, 6), (7, 8)]


@pytest.fixture
def extract(tmp_path: pathlib.Path) -> pathlib.Path:
    """An extract with two leaves of a task, and those that name keys."""
    return write_extract(tmp_path / "extract", story(), NOTES, PROVEN)


def change_line(path: pathlib.Path, number: int, old: bytes, new: bytes) -> None:
    """Replaces something in one line of a file."""
    lines = path.read_bytes().split(b"\n")
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new)
    path.write_bytes(b"\n".join(lines))


def test_an_extract(extract: pathlib.Path) -> None:
    text = "4 leaves are in the log, by 3 checkpoints; this says nothing about other leaves"
    assert second.verify(extract, VKEYS[:1], [extract / "checkpoints"]) == ("ok", text)
    assert second.verify(extract) == ("ok", text + "\n" + ITSELF)
    expect(second.verify(extract, [vkey_of(STRANGER)]), "tampered", "0003.note is not signed by a trusted key")


def test_an_extract_is_never_incomplete(tmp_path: pathlib.Path) -> None:
    assert second.verify(write_extract(tmp_path, story(), NOTES, [(0, 3), (4, 8), (5, 6)]))[0] == "ok"


def test_an_extract_of_nothing_else(tmp_path: pathlib.Path) -> None:
    """Without checkpoints in between, where none is needed."""
    lines = [leaf(0, "audit.key", {"replaces": None, "vkey": VKEYS[0]}), *(leaf(seq, "other", {}) for seq in range(1, 5))]
    notes = [(1, SEEDS[:1]), (2, SEEDS[:1]), (5, SEEDS[:1])]
    expect(second.verify(write_extract(tmp_path, lines, notes, [(0, 1)])), "ok", "1 leaves are in the log, by 2 checkpoints")


def test_an_extract_without_the_leaf_that_names_the_key(tmp_path: pathlib.Path) -> None:
    folder = write_extract(tmp_path, story(), NOTES, [(0, 3), (2, 8), (7, 8)])
    expect(second.verify(folder), "tampered", "0008.note is not signed by a trusted key")


def test_an_extract_with_a_key_leaf_under_a_later_checkpoint(tmp_path: pathlib.Path) -> None:
    folder = write_extract(tmp_path, story(), NOTES, [(0, 3), (2, 6), (5, 8)])
    expect(second.verify(folder), "tampered", "leaf 5 names a key, and is not proven under the first checkpoint")


def test_an_extract_with_a_key_leaf_without_both_signatures(tmp_path: pathlib.Path) -> None:
    notes = [(3, SEEDS[:1]), (6, SEEDS[:1]), (8, SEEDS[:1])]
    expect(second.verify(write_extract(tmp_path / "a", story(), notes, PROVEN)), "ok", KEY_LEAF)
    notes = [(3, SEEDS[:1]), (6, SEEDS[:1]), (8, SEEDS[1:])]
    expect(second.verify(write_extract(tmp_path / "b", story(), notes, PROVEN)), "tampered", "0008.note is not signed")
    notes = [(3, SEEDS[:1]), (6, SEEDS), (8, SEEDS[:1])]
    expect(second.verify(write_extract(tmp_path / "c", story(), notes, PROVEN)), "tampered", "0008.note is not signed")


@pytest.mark.parametrize(
    ("name", "number", "change", "part"),
    [
        ("leaves.jsonl", 1, (b"455", b"454"), "leaf 2 is not proven"),
        ("leaves.jsonl", 1, (b'"seq":2', b'"seq":3'), "leaf 2 is not at its place"),
        ("proofs.jsonl", 1, (b'"seq":2', b'"seq":3'), "leaf 3 is not at its place"),
        ("proofs.jsonl", 1, (b'"size":8', b'"size":7'), "leaf 2 is not proven"),
        ("proofs.jsonl", 1, (b'"size":8', b'"size":6'), "leaf 2 is not proven"),
        ("proofs.jsonl", 1, (b'"size":8', b'"size": 8'), "line 2 of proofs.jsonl does not have its form"),
        ("proofs.jsonl", 1, (b'"],', b'",],'), "line 2 of proofs.jsonl does not have its form"),
        ("proofs.jsonl", 1, (b'"],', b'","' + b"00" * 32 + b'"],'), "leaf 2 is not proven"),
        ("manifest.json", 0, (b'"size":8', b'"size":9'), "the newest checkpoint is not that of 9"),
        ("manifest.json", 0, (ORIGIN.encode(), b"other"), "does not belong there"),
    ],
)
def test_a_changed_extract(extract: pathlib.Path, name: str, number: int, change: tuple[bytes, bytes], part: str) -> None:
    change_line(extract / name, number, *change)
    expect(second.verify(extract), "tampered", part)


@pytest.mark.parametrize("name", ["leaves.jsonl", "proofs.jsonl"])
def test_an_extract_with_a_line_less(extract: pathlib.Path, name: str) -> None:
    path = extract / name
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    expect(second.verify(extract), "tampered", "leaves and ")
    path.unlink()
    expect(second.verify(extract), "tampered", f"{name} cannot be read")


def test_an_extract_in_another_order(tmp_path: pathlib.Path) -> None:
    for number, proven in enumerate(([(0, 3), (5, 6), (2, 8)], [(0, 3), (2, 8), (2, 8), (5, 6)])):
        folder = write_extract(tmp_path / str(number), story(), NOTES, proven)
        expect(second.verify(folder), "tampered", "leaf 2 has no contents, or does not stand in order")


def test_an_extract_with_a_leaf_without_contents(extract: pathlib.Path) -> None:
    line = story()[2]
    change_line(extract / "leaves.jsonl", 1, line, dropped(line))
    expect(second.verify(extract), "tampered", "leaf 2 has no contents")


def test_an_extract_with_two_first_checkpoints(extract: pathlib.Path) -> None:
    note_path(extract, 6).write_bytes(note(story()[:6], None, SEEDS))
    expect(second.verify(extract), "tampered", "0006.note says that it is the log's first checkpoint")


def test_anchored_notes_beside_an_extract(extract: pathlib.Path) -> None:
    """Those of other sizes are passed over, those of the same are the same."""
    other = note(story()[:4], None, [STRANGER])
    anchor = anchored(extract, (4, other), (9, other), (8, note_path(extract, 8).read_bytes()))
    assert second.verify(extract, VKEYS[:1], [anchor])[0] == "ok"
    (anchor / f"{6:020}.note").write_bytes(other)
    expect(second.verify(extract, VKEYS[:1], [anchor]), "tampered", "0006.note is not byte for byte the checkpoint")


# ---- exports that are none


@pytest.mark.parametrize("name", ["keys.txt", f"log/{0:020}.jsonl", f"log/{0:020}.hashes", f"checkpoints/{8:020}.note"])
def test_a_missing_file(export: pathlib.Path, name: str) -> None:
    """The newest checkpoint alone is not missed: without an anchor, its leaves are just not signed yet."""
    (export / name).unlink()
    assert second.verify(export)[0] == ("ok" if name.endswith(".note") else "tampered")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"format":"airgate-audit-export/2"}', '{"format":[]}', '{"format":'])
def test_no_verdict_without_a_known_format(export: pathlib.Path, content: str | None) -> None:
    (export / "manifest.json").unlink()
    if content is not None:
        (export / "manifest.json").write_text(content)
    with pytest.raises(ValueError):
        second.verify(export)


@pytest.mark.parametrize(
    "change",
    [(b",", b", "), (b"\n", b""), (b'"size":9', b'"size":9.0'), (b"65536", b"65537"), (b"00Z", b"00"), (b":9", b":-9")],
)
def test_a_manifest_in_another_form(export: pathlib.Path, change: tuple[bytes, bytes]) -> None:
    path = export / "manifest.json"
    path.write_bytes(path.read_bytes().replace(*change))
    expect(second.verify(export), "tampered", "manifest.json does not have its form")


def test_keys_that_begin_with_something_else(export: pathlib.Path) -> None:
    """If a key was given, keys.txt is not looked at."""
    (export / "keys.txt").write_text("no key\n")
    expect(second.verify(export), "tampered", "keys.txt does not begin with a key")
    assert second.verify(export, VKEYS[:1])[0] == "ok"
