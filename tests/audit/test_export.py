"""What an export holds, byte for byte; that it appears whole or not at all; and extracts, which the verifier reads too."""

import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit.accounts import Airflow, attempt, ended
from tests.audit.under_attack import InDatabase

from airgate.audit import checkpoints, erasure, signing, verifier
from airgate.audit.event import Actor
from airgate.audit.export import export
from airgate.audit.extract import extract
from airgate.audit.schema import RECEIPTS
from airgate.errors import AuditError

NAME = "audit.example.org/airgate"
KEY = signing.signer_of(Ed25519PrivateKey.generate(), NAME)


@pytest.fixture
def log(store, make):
    """Checkpoints at 5 and 9; ten events in all."""
    for start in (0, 4):
        store.append_many([make(number, model="m" if number % 2 else None) for number in range(start, start + 4)])
        checkpoints.checkpoint(store, KEY)
    store.append(make(9, model="m"))
    return store


def lines(path):
    return path.read_bytes().split(b"\n")[:-1]


# ---------------------------------------------------------------------------------------------- exports


def test_the_files_of_an_export(log, tmp_path):
    made = export(log, tmp_path / "new" / "export", origin=NAME)
    folder = made.folder
    assert (made.size, made.checkpoints, made.runs, made.tries) == (10, 2, None, None)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        f"checkpoints/{5:020d}.note", f"checkpoints/{9:020d}.note", "keys.txt", f"log/{0:020d}.hashes", f"log/{0:020d}.jsonl",
        "manifest.json", "proofs.json"]
    assert lines(folder / "log" / f"{0:020d}.jsonl") == [stored.entry for stored in log.events()]
    assert (folder / "log" / f"{0:020d}.hashes").read_bytes() == b"".join(stored.leaf_hash for stored in log.events())
    assert [(folder / "checkpoints" / f"{note.size:020d}.note").read_bytes() for note in checkpoints.notes(log)] == [
        note.raw for note in checkpoints.notes(log)]
    assert (folder / "keys.txt").read_text() == KEY.public.text() + "\n"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest == {"format": "airgate-audit-export/1", "made_at": manifest["made_at"], "origin": NAME, "segment": 65536,
                        "size": 10}
    assert json.loads((folder / "proofs.json").read_bytes()) == {"consistency": [
        {"new": 9, "old": 5, "proof": [node.hex() for node in log.consistency_proof(5, 9)]}]}
    assert verifier.verify(folder, [KEY.public]).word == "ok"


def test_readable_events_have_names_opened_until_they_are_erased(log, tmp_path):
    first = lines(export(log, tmp_path / "first", origin=NAME, readable=True).folder / "readable.jsonl")
    assert [json.loads(line)["event"]["actor"]["name"] for line in first[:4]] == ["ana"] * 4
    assert b"ana" not in (tmp_path / "first" / "log" / f"{0:020d}.jsonl").read_bytes()
    erasure.erase(log, "ana", by=Actor(kind="system", name="test"), reason="asked for")
    second = lines(export(log, tmp_path / "second", origin=NAME, readable=True).folder / "readable.jsonl")
    assert json.loads(second[0])["event"]["actor"]["name"].startswith("erased:")
    assert verifier.verify(tmp_path / "second", [KEY.public]).word == "ok"


def test_readable_says_what_cannot_be_opened(log, url, tmp_path):
    place = InDatabase(url)
    place.put(2, b'{"$sealed":')
    place.put(3, None)
    place.close()
    found = lines(export(log, tmp_path / "export", origin=NAME, readable=True).folder / "readable.jsonl")
    assert [json.loads(line).keys() for line in found[1:5]] == [
        {"event", "seq", "stored_at"}, {"unreadable"}, {"expired"}, {"event", "seq", "stored_at"}]


def test_the_account_is_written_as_told(log, tmp_path):
    account = Airflow(attempt("t\u00e9"), attempt("t\u00e9", None, end=None), ended("r\u00e9"), ended(state="failed", end=None))
    made = export(log, tmp_path / "export", origin=NAME, account=account)
    assert (made.runs, made.tries) == (2, 2)
    assert (made.folder / "account.jsonl").read_text("utf-8") == (
        '{"dag_id":"d","end":"2025-01-01T12:00:00.000000Z","run_id":"r\u00e9","state":"success"}\n'
        '{"dag_id":"d","end":"","run_id":"r","state":"failed"}\n'
        '{"dag_id":"d","map_index":-1,"run_id":"r","state":"success","task_id":"t\u00e9","try_number":1}\n'
        '{"dag_id":"d","map_index":-1,"run_id":"r","state":null,"task_id":"t\u00e9","try_number":1}\n')


def test_the_account_leaves_out_what_expired_contents_may_have_answered(log, url, tmp_path):
    place = InDatabase(url)
    place.put(2, None)
    [[stored_at]] = place.do("SELECT stored_at FROM airgate_events WHERE seq = 2")
    place.close()
    at, before = datetime.fromisoformat(stored_at), datetime(2020, 1, 1, tzinfo=UTC)
    account = Airflow(*(what(end=end) for what in (attempt, ended) for end in (at, before, None)))
    made = export(log, tmp_path / "export", origin=NAME, account=account)
    assert (made.runs, made.tries) == (2, 2)


def test_time_stamps_are_written_and_places_are_not(log, tmp_path):
    anchors = {"tsa+https://tsa.example.org/a": b"stamp", "tsa+https://tsa.example.org:a": b"other", "file:///kept": b""}
    rows = [{"size": 5, "anchor": anchor, "receipt": receipt, "taken_at": ""} for anchor, receipt in anchors.items()]
    log.database.transact(lambda connection: connection.execute(RECEIPTS.insert(), rows), write=True)
    folder = export(log, tmp_path / "export", origin=NAME).folder
    assert {str(path.relative_to(folder / "receipts")): path.read_bytes() for path in (folder / "receipts").rglob("*.tsr")} == {
        f"tsa_https_tsa_example_org_a/{5:020d}.tsr": b"stamp", f"tsa_https_tsa_example_org_a-2/{5:020d}.tsr": b"other"}
    assert verifier.verify(folder, [KEY.public]).word == "ok"


def test_keys_are_found_in_the_leaves_and_not_by_columns(log, url, tmp_path):
    place = InDatabase(url)
    place.do("UPDATE airgate_events SET kind = 'task.failed' WHERE seq = 4")
    place.close()
    assert (export(log, tmp_path / "export", origin=NAME).folder / "keys.txt").read_text() == KEY.public.text() + "\n"


def test_nothing_is_overwritten(log, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("full", "file", "link"):
        with pytest.raises(AuditError, match=f"{name} is there already and not an empty folder; nothing is overwritten"):
            export(log, tmp_path / name, origin=NAME)
    (tmp_path / "empty").mkdir()
    assert export(log, tmp_path / "empty", origin=NAME).size == 10


def test_a_failed_export_leaves_nothing(log, tmp_path):
    class Gone(Airflow):
        def tries(self, since=None):
            yield attempt()
            raise AuditError("Airflow went away")

    with pytest.raises(AuditError, match="Airflow went away"):
        export(log, tmp_path / "out" / "export", origin=NAME, account=Gone(ended()))
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(AuditError, match="the export to .*/file/export failed: "):
        export(log, tmp_path / "file" / "export", origin=NAME)


# ---------------------------------------------------------------------------------------------- extracts


def test_an_extract_shows_some_events_and_proves_them(log, tmp_path):
    made = extract(log, tmp_path / "extract", origin=NAME, model="m")
    assert (made.events, made.size, made.later) == (5, 9, 1)
    folder = made.folder
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "keys.txt", "leaves.jsonl", "manifest.json",
                                                              "proofs.jsonl"]
    seqs = [json.loads(line)["seq"] for line in lines(folder / "leaves.jsonl")]
    assert seqs == [1, 3, 4, 6, 8]  # 4 is the key on record
    sizes = [json.loads(line)["size"] for line in lines(folder / "proofs.jsonl")]
    assert sizes == [9, 9, 5, 9, 9]
    found = verifier.verify(folder, [KEY.public])
    assert (found.word, found.text) == ("ok", f"5 events of the log {NAME}, each proven to be in its first 9")
    assert found.notices == ["an extract shows that these events are in the log; it cannot show that there are no others"]
    assert verifier.verify(folder).notices[0].startswith("no --key was given")


def test_an_extract_of_a_run(log, tmp_path):
    made = extract(log, tmp_path / "extract", origin=NAME, run_id="r0")
    runs = [json.loads(line)["event"]["task"] for line in lines(made.folder / "leaves.jsonl")]
    assert {task["run_id"] for task in runs if task} == {"r0"}
    assert verifier.verify(made.folder, [KEY.public]).word == "ok"


def test_an_extract_after_a_rotation_leads_from_the_first_key(log, make, tmp_path):
    new = signing.signer_of(Ed25519PrivateKey.generate(), NAME)
    checkpoints.rotate(log, KEY, new)
    log.append(make(20, model="other"))
    checkpoints.checkpoint(log, new)
    folder = extract(log, tmp_path / "extract", origin=NAME, model="other").folder
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [f"{size:020d}.note" for size in (5, 11, 12)]
    assert (folder / "keys.txt").read_text() == f"{KEY.public.text()}\n{new.public.text()}\n"
    assert verifier.verify(folder, [KEY.public]).word == "ok"
    assert verifier.verify(folder, [new.public]).word == "tampered"


@pytest.fixture
def extracted(log, tmp_path):
    return extract(log, tmp_path / "extract", origin=NAME, model="m").folder


def swap(path, one, other):
    found = path.read_bytes().splitlines(keepends=True)
    found[one], found[other] = found[other], found[one]
    path.write_bytes(b"".join(found))


def change(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize(("act", "words"), [
    (lambda at: change(at / "leaves.jsonl", b'"number":1', b'"number":2'),
     "tampered: at number 1: its proof does not lead to the root that the checkpoint at 9 signed: leaf, number or proof was"),
    (lambda at: change(at / "proofs.jsonl", b'"proof":["', b'"proof":["0'), "tampered: line 1 of proofs.jsonl is no proof"),
    (lambda at: change(at / "proofs.jsonl", b'"seq":1', b'"seq":2'),
     "tampered: at number 2: the leaf in line 1 of leaves.jsonl is not of the number that its proof has"),
    (lambda at: change(at / "proofs.jsonl", b'"size":9', b'"size":8'),
     "tampered: at number 1: an extract's leaves stand in the order of their numbers, each under a checkpoint that is"),
    (lambda at: (swap(at / "leaves.jsonl", 0, 1), swap(at / "proofs.jsonl", 0, 1)),
     "tampered: at number 1: an extract's leaves stand in the order"),
    (lambda at: swap(at / "leaves.jsonl", 0, 1), "tampered: at number 1: the leaf in line 1 of leaves.jsonl is not of the"),
    (lambda at: (at / "leaves.jsonl").write_bytes((at / "leaves.jsonl").read_bytes()[:-1]),
     "tampered: leaves.jsonl or proofs.jsonl ends before or within line 5, or the line is too long"),
    (lambda at: (at / "proofs.jsonl").unlink(), "tampered: proofs.jsonl is missing"),
    (lambda at: (at / "checkpoints" / f"{9:020d}.note").unlink(),
     "tampered: the manifest speaks of a checkpoint at 9, the newest here is at 5"),
    (lambda at: change(at / "checkpoints" / f"{9:020d}.note", b"time 2", b"time 3"),
     "tampered: the checkpoint at 9 is not signed by a key that is trusted"),
    (lambda at: change(at / "manifest.json", NAME.encode(), b"other"), "tampered: the checkpoint at 5 is of the log "),
])
def test_a_changed_extract(extracted, act, words):
    act(extracted)
    assert verifier.verify(extracted, [KEY.public]).lines()[0][: len(words)] == words


def test_every_byte_of_leaves_and_proofs_counts(extracted):
    for name in ("leaves.jsonl", "proofs.jsonl"):
        before = (extracted / name).read_bytes()
        for at in range(0, len(before), 7):
            (extracted / name).write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
            assert verifier.verify(extracted, [KEY.public]).word == "tampered"
        (extracted / name).write_bytes(before)


def test_an_anchor_that_holds_another_checkpoint(extracted, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    note = (extracted / "checkpoints" / f"{9:020d}.note").read_bytes()
    (kept / f"{9:020d}.note").write_bytes(note)
    assert verifier.verify(extracted, [KEY.public], [kept]).word == "ok"
    (kept / f"{9:020d}.note").write_bytes(note.replace(b"time 2", b"time 3"))
    assert verifier.verify(extracted, [KEY.public], [kept]).text == f"the anchor {kept} holds another checkpoint at 9"


def test_without_a_checkpoint_nothing_is_proven(store, make, tmp_path):
    store.append(make())
    with pytest.raises(AuditError, match="there is no checkpoint, so nothing can be proven to an outsider yet"):
        extract(store, tmp_path / "extract", origin=NAME, model="m")


def test_a_checkpoint_by_a_stranger_proves_nothing(log, url, tmp_path):
    place = InDatabase(url)
    stranger = signing.signer_of(Ed25519PrivateKey.generate(), NAME)
    text = checkpoints.newest(log).text
    place.put_note(9, text + b"\n" + stranger.signature_line(text))
    place.close()
    with pytest.raises(AuditError, match=r"these events cannot be proven: the checkpoint at 9 is not signed by .*audit verify`"):
        extract(log, tmp_path / "extract", origin=NAME, model="m")
    assert not (tmp_path / "extract").exists()
