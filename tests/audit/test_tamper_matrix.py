"""Every attack on every place where the log can be: what finds it, and where. Prints the table. The second verifier is asked too.

In a database, somebody with the owner's rights and the triggers off; then `airgate audit verify` looks, with the configured key
and the anchor, and so does the standalone verifier at an export made afterwards. In an exported folder, the verifier alone.
"""

import re
import shutil
from contextlib import closing
from datetime import UTC, datetime
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit import second_verifier
from tests.audit.conftest import make_event, superuser
from tests.audit.under_attack import TABLES, InDatabase, InFolder, note_by, renumbered, sign_anew

from airgate.audit import checkpoints, signing, trust, verifier
from airgate.audit.anchors import open_anchors
from airgate.audit.event import time_text
from airgate.audit.export import export
from airgate.audit.store import AuditStore
from airgate.errors import AuditError

NAME = "audit.example.org/airgate"
KEY = signing.signer_of(Ed25519PrivateKey.generate(), NAME)
STRANGER = signing.signer_of(Ed25519PrivateKey.generate(), NAME)
# Four events, the key on record, eight more events: signed at 5, 9 and 13. Two came since.
SIGNED, SIZE = (5, 9, 13), 15
_numbers = count()


def changed(leaf):
    found = leaf.replace(b'"number":', b'"numbes":')
    assert found != leaf
    return found


def nothing(place):
    pass


def edit_a_byte(place):
    place.put(6, changed(place.leaves()[6]))


def edit_a_byte_and_its_hash(place):
    place.put(6, changed(place.leaves()[6]), hash_too=True)


def edit_a_byte_and_all_hashes(place):
    edit_a_byte(place)
    place.agree()


def edit_an_unsigned_event(place):
    place.put(13, changed(place.leaves()[13]))


def edit_a_hash(place):
    place.put_hash(0, b"\0" * 32)


def put_no_json(place):
    place.put(3, b"{", hash_too=True)


def put_a_line_break(place):
    place.put(3, b"{\n}", hash_too=True)


def delete_an_event(place):
    place.remove(6)


def delete_an_event_and_renumber_the_rest(place):
    leaves = place.leaves()
    for seq in range(6, SIZE - 1):
        place.put(seq, renumbered(leaves[seq + 1], seq))
    place.cut(SIZE - 1)
    place.agree()


def insert_an_event(place):
    place.add(6, renumbered(place.leaves()[1], 6))


def insert_an_event_and_renumber_the_rest(place):
    insert_an_event(place)
    for seq, leaf in list(enumerate(place.leaves()))[7:]:
        place.put(seq, renumbered(leaf, seq))
    place.agree()


def duplicate_an_event(place):
    place.add(7, place.leaves()[6])


def append_an_event(place):
    place.add(SIZE, renumbered(place.leaves()[1], SIZE))


def swap_two(place):
    leaves = place.leaves()
    place.put(6, leaves[7], hash_too=True)
    place.put(7, leaves[6], hash_too=True)


def swap_two_and_their_numbers(place):
    leaves = place.leaves()
    place.put(6, renumbered(leaves[7], 6))
    place.put(7, renumbered(leaves[6], 7))
    place.agree()


def drop_contents(place):
    place.put(6, None)


def announce_a_fresh_event_as_expired(place):
    """The contents go under an announcement that the hourly run signed, as it signs whatever is in the log."""
    leaf = place.leaves()[14].replace(b'"kind":"task.succeeded"', b'"kind":"audit.expired"')
    place.put(14, re.sub(rb'"body":{[^}]*}', b'"body":{"months":60,"ranges":[[6,6]]}', leaf))
    if isinstance(place, InDatabase):
        place.do("UPDATE airgate_events SET kind = 'audit.expired' WHERE seq = 14")
    place.agree()
    place.put_note(SIZE, note_by(KEY, place.leaves(), place.notes()[13], time_text(datetime.now(UTC))))
    place.agree()
    place.put(6, None)


def cut_the_tail(place):
    place.cut(11)


def cut_the_tail_and_agree(place):
    place.cut(11)
    place.agree()


def cut_what_is_not_signed_and_agree(place):
    place.cut(13)
    place.agree()


def empty_the_log(place):
    place.cut(0)
    place.agree()


def restore_an_old_backup(place):
    place.cut(9)
    place.drop_note(13)
    place.agree()


def rebuild_everything(place):
    for seq, leaf in enumerate(place.leaves()):
        if b'"number":' in leaf:
            place.put(seq, changed(leaf))
    place.agree()


def rebuild_everything_and_sign_it_with_another_key(place):
    rebuild_everything(place)
    sign_anew(place, STRANGER)
    place.agree()


def swap_the_key_on_record_and_sign_anew(place):
    place.put(4, place.leaves()[4].replace(KEY.public.text().encode(), STRANGER.public.text().encode()))
    place.agree()
    sign_anew(place, STRANGER)
    place.agree()


def forge_a_checkpoint(place):
    place.put_note(13, note_by(STRANGER, place.leaves()[:13], place.notes()[9]))


def forge_a_checkpoint_of_the_unsigned(place):
    place.put_note(SIZE, note_by(STRANGER, place.leaves(), place.notes()[13]))
    place.agree()


def change_a_checkpoint(place):
    place.put_note(9, place.notes()[9].replace(b"\ntime 2", b"\ntime 3"))


def remove_a_checkpoint(place):
    place.drop_note(9)
    place.agree()


def remove_the_first_checkpoint(place):
    place.drop_note(5)
    place.agree()


def remove_the_newest_checkpoint(place):
    place.drop_note(13)
    place.agree()


def remove_all_checkpoints(place):
    for size in SIGNED:
        place.drop_note(size)
    place.agree()


def edit_a_column(place):
    place.do("UPDATE airgate_events SET kind = 'task.failed', model = 'x' WHERE seq = 7")


def edit_the_time_of_storage(place):
    place.do("UPDATE airgate_events SET stored_at = '2020-01-01T00:00:00.000000Z' WHERE seq = 2")


def delete_a_row_and_close_the_gap(place):
    place.do("DELETE FROM airgate_events WHERE seq = 6")
    place.do("UPDATE airgate_events SET seq = 6 WHERE seq = 14")


def insert_before_the_start(place):
    place.do("UPDATE airgate_events SET seq = -1 WHERE seq = 0")


def set_the_head_back(place):
    place.do("UPDATE airgate_head SET size = 8")


def change_the_root(place):
    place.do("UPDATE airgate_head SET root = ?", b"\1" * 32)


def change_the_frontier(place):
    place.do("UPDATE airgate_head SET frontier = ?", b"\1" * 128)


def remove_the_head(place):
    place.do("DELETE FROM airgate_head")


def add_a_stored_subtree(place):
    place.do('INSERT INTO airgate_tree (level, "index", hash) VALUES (8, 0, ?)', b"\1" * 32)


def cut_within_a_line(place):
    place.lines.write_bytes(place.lines.read_bytes()[:-10])


def cut_the_last_line_break(place):
    place.lines.write_bytes(place.lines.read_bytes()[:-1])


def remove_the_hashes(place):
    place.digests.unlink()


def cut_the_hashes(place):
    place.digests.write_bytes(place.digests.read_bytes()[:-1])


def remove_a_segment(place):
    place.lines.unlink()


def add_a_segment(place):
    (place.folder / "log" / f"{65536:020d}.jsonl").write_bytes(b"")


def remove_the_manifest(place):
    (place.folder / "manifest.json").unlink()


def set_the_manifest_back(place):
    place.write_json("manifest.json", place.read_json("manifest.json") | {"size": 13})


def change_the_origin(place):
    place.write_json("manifest.json", place.read_json("manifest.json") | {"origin": "another.example/log"})


def swap_the_key_in_the_export(place):
    (place.folder / "keys.txt").write_text(STRANGER.public.text() + "\n")


def remove_the_keys(place):
    (place.folder / "keys.txt").unlink()


# What `airgate audit verify` says in the database; the verifier, of an export made afterwards; and of one that was attacked.
# "at 6": the first bad number; "5-8": between these; "tampered": something else than a leaf; "": no such attack there.
MATRIX = {
    nothing: ("ok", "ok", "ok"),
    edit_a_byte: ("at 6", "at 6", "at 6"),
    edit_a_byte_and_its_hash: ("tampered", "5-8", "5-8"),
    edit_a_byte_and_all_hashes: ("tampered", "5-8", "5-8"),
    edit_an_unsigned_event: ("at 13", "at 13", "at 13"),
    edit_a_hash: ("at 0", "at 0", "at 0"),
    put_no_json: ("at 3", "at 3", "at 3"),
    put_a_line_break: ("at 3", "at 3", "at 3"),
    delete_an_event: ("at 6", "at 6", "at 6"),
    delete_an_event_and_renumber_the_rest: ("at 6", "5-8", "5-8"),
    insert_an_event: ("at 6", "at 7", "at 7"),
    insert_an_event_and_renumber_the_rest: ("at 6", "5-8", "5-8"),
    duplicate_an_event: ("at 7", "at 7", "at 7"),
    append_an_event: ("at 15", "at 15", "at 15"),
    swap_two: ("at 6", "at 6", "at 6"),
    swap_two_and_their_numbers: ("at 6", "5-8", "5-8"),
    drop_contents: ("at 6", "at 6", "at 6"),
    announce_a_fresh_event_as_expired: ("at 6", "at 6", "at 6"),
    cut_the_tail: ("at 11", "at 11", "at 11"),
    cut_the_tail_and_agree: ("tampered", "at 11", "at 11"),
    cut_what_is_not_signed_and_agree: ("ok", "ok", "ok"),
    empty_the_log: ("tampered", "at 0", "at 0"),
    restore_an_old_backup: ("tampered", "at 9", "at 9"),
    rebuild_everything: ("tampered", "0-4", "0-4"),
    rebuild_everything_and_sign_it_with_another_key: ("tampered", "tampered", "tampered"),
    swap_the_key_on_record_and_sign_anew: ("tampered", "tampered", "tampered"),
    forge_a_checkpoint: ("tampered", "tampered", "tampered"),
    forge_a_checkpoint_of_the_unsigned: ("tampered", "tampered", "tampered"),
    change_a_checkpoint: ("tampered", "tampered", "tampered"),
    remove_a_checkpoint: ("tampered", "tampered", "tampered"),
    remove_the_first_checkpoint: ("tampered", "tampered", "tampered"),
    remove_the_newest_checkpoint: ("tampered", "tampered", "tampered"),
    remove_all_checkpoints: ("tampered", "tampered", "tampered"),
    # Columns are for searching, head and subtrees for appending: none of it is exported.
    edit_a_column: ("at 7", "ok", ""),
    edit_the_time_of_storage: ("at 2", "ok", ""),
    delete_a_row_and_close_the_gap: ("at 6", "at 6", ""),
    insert_before_the_start: ("at -1", "ok", ""),
    set_the_head_back: ("at 8", "at 8", ""),
    change_the_root: ("tampered", "ok", ""),
    change_the_frontier: ("tampered", "ok", ""),
    remove_the_head: ("refused", "refused", ""),
    add_a_stored_subtree: ("tampered", "ok", ""),
    cut_within_a_line: ("", "", "at 14"),
    cut_the_last_line_break: ("", "", "at 14"),
    remove_the_hashes: ("", "", "at 0"),
    cut_the_hashes: ("", "", "at 14"),
    remove_a_segment: ("", "", "at 0"),
    add_a_segment: ("", "", "tampered"),
    remove_the_manifest: ("", "", "refused"),
    set_the_manifest_back: ("", "", "at 13"),
    change_the_origin: ("", "", "tampered"),
    # A key was given, so the export's own list counts for nothing; the verifier points it out.
    swap_the_key_in_the_export: ("", "", "ok"),
    remove_the_keys: ("", "", "ok"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The anchor's folder."""
    return tmp_path_factory.mktemp("kept")


def fill(url, anchors):
    log = AuditStore(url)
    log.create()
    for start in (0, 4, 8):
        log.append_many([make_event(number) for number in range(start, start + 4)])
        checkpoints.checkpoint(log, KEY)
        checkpoints.anchor_all(log, anchors)
    log.append_many([make_event(number) for number in (50, 51)])
    return log


def by_the_owner(log, anchors):
    try:
        found = trust.verify(log, KEY.public, anchors)
    except AuditError as error:
        assert "the audit log's head row is gone" in str(error)
        return "refused"
    if found.integrity.first_bad is not None:
        return f"at {found.integrity.first_bad}"
    return "ok" if found.ok else "tampered"


def by_an_outsider(folder, kept):
    second = by_a_second_opinion(folder, kept)
    try:
        found = verifier.verify(folder, [KEY.public], [kept])
    except verifier.Unreadable:
        assert second == "refused"
        return "refused"
    assert second == found.word, found.text
    if found.first_bad is not None:
        return f"at {found.first_bad}"
    between = re.match(r"between number (\d+) and number (\d+)", found.text)
    return f"{between[1]}-{between[2]}" if between else found.word


def by_a_second_opinion(folder, kept):
    """The verifier that was written from the format's page alone must say the same of everything."""
    try:
        return second_verifier.verify(folder, [KEY.public.text()], [kept])[0]
    except ValueError:
        return "refused"


def exported(log, folder, kept):
    try:
        export(log, folder, origin=NAME)
    except AuditError as error:
        assert "the audit log's head row is gone" in str(error)
        return "refused"
    return by_an_outsider(folder, kept)


@pytest.fixture
def table(capsys, request):
    rows = []
    yield rows
    with capsys.disabled():
        target = request.node.callspec.id if hasattr(request.node, "callspec") else "exported log"
        print(f"\n{target:52}" + "".join(f"{name:22}" for name in ("airgate audit verify", "airgate-verify")))
        for attack, owner, outsider in rows:
            print(f"  {attack.__name__.replace('_', ' '):50}{owner or '-':22}{outsider}")


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_database_that_was_attacked(target, kept, table, tmp_path, request):
    (kept / target).mkdir()
    anchors = open_anchors(f"file://{kept}/{target}")
    fresh = of_sqlite(tmp_path, anchors) if target == "sqlite" else of_postgresql(request.getfixturevalue("pg_url"), anchors)
    for attack in (attack for attack, cells in MATRIX.items() if cells[0]):
        url = fresh()
        with closing(InDatabase(url)) as place:
            attack(place)
        log = AuditStore(url, keep=True)
        table.append((attack, by_the_owner(log, anchors), exported(log, tmp_path / attack.__name__, kept / target)))
        log.database.engine.dispose()
    assert {attack.__name__: cells for attack, *cells in table} == {
        attack.__name__: list(cells[:2]) for attack, cells in MATRIX.items() if cells[0]}


def of_sqlite(folder, anchors):
    fill(f"sqlite:///{folder}/honest.db", anchors)

    def fresh():
        copy = shutil.copy(folder / "honest.db", folder / f"copy{next(_numbers)}.db")
        return f"sqlite:///{copy}"

    return fresh


def of_postgresql(url, anchors):
    fill(url, anchors)
    tables = [f"airgate_{table}" for table in TABLES]
    superuser(url, "CREATE SCHEMA honest", *(f"CREATE TABLE honest.{table} AS TABLE {table}" for table in tables))
    InDatabase(url).close()  # its triggers are off from here on

    def fresh():
        superuser(url, f"TRUNCATE {', '.join(tables)}",
                  *(f"INSERT INTO {table} SELECT * FROM honest.{table}" for table in tables))
        return url

    return fresh


def test_an_export_that_was_attacked(kept, table, tmp_path):
    (kept / "export").mkdir()
    export(fill(f"sqlite:///{tmp_path}/audit.db", open_anchors(f"file://{kept}/export")), tmp_path / "honest", origin=NAME)
    for attack in (attack for attack, cells in MATRIX.items() if cells[2]):
        place = InFolder(shutil.copytree(tmp_path / "honest", tmp_path / attack.__name__))
        attack(place)
        table.append((attack, "", by_an_outsider(place.folder, kept / "export")))
    assert {attack.__name__: found for attack, _, found in table} == {
        attack.__name__: cells[2] for attack, cells in MATRIX.items() if cells[2]}


def test_every_attack_but_the_one_on_what_nobody_signed_is_found():
    unseen = {attack for attack, cells in MATRIX.items() if set(cells) <= {"ok", ""}}
    harmless = {nothing, swap_the_key_in_the_export, remove_the_keys}
    assert unseen == {*harmless, cut_what_is_not_signed_and_agree}
