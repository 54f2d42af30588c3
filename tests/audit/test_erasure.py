import pytest

from airgate.audit import erasure
from airgate.audit.event import Actor
from airgate.audit.schema import SUBJECTS
from airgate.errors import AuditError

DPO = Actor(kind="outside", name="dana")


@pytest.fixture
def log(store, make):
    store.append(make(0, "promotion.approved", body={"user": "ana", "reason": "Read it."},
                      personal={"user": "ana", "reason": "ana"}))
    store.append(make(1, actor=Actor(kind="user", name="omar")))
    return store


def raw(log):
    return b"".join(stored.entry for stored in log.events())


def test_names_are_not_in_the_log_but_readable_while_the_key_lives(log):
    assert b"ana" not in raw(log).replace(b"canonical", b"")
    assert b"omar" not in raw(log)
    first, second = log.events()
    assert first.event.actor.name == "ana"
    assert first.event.body == {"user": "ana", "reason": "Read it."}
    assert first.event.personal == {"user": "ana", "reason": "ana"}
    assert second.event.actor.name == "omar"


def test_erasing_destroys_the_name_and_breaks_no_proof(log, make):
    before = [stored.entry for stored in log.events()]
    root = log.root_at(2)
    subject = erasure.erase(log, "ana", by=DPO, reason="request of 2026-02-01")
    first, second, record = log.events()
    assert first.event.actor.name == f"erased:{subject}"
    assert first.event.body == {"user": f"erased:{subject}", "reason": f"erased:{subject}"}
    assert second.event.actor.name == "omar"
    assert record.event.body == {"subject": subject, "erased": True, "reason": "request of 2026-02-01"}
    assert record.event.kind == "audit.erased"
    assert [stored.entry for stored in log.events()][:2] == before
    assert log.root_at(2) == root
    assert log.verify().ok
    # somebody of that name who comes later is somebody else
    log.append(make(7))
    assert erasure.find(log, "ana").id != subject
    assert log.verify().ok


def test_an_event_of_an_erased_person_can_still_be_told_from_another(log):
    subject = erasure.erase(log, "omar", by=DPO, reason="r")
    assert {stored.event.actor.name for stored in log.events()} == {"ana", f"erased:{subject}", "dana"}


def test_a_hold_stops_it_and_both_are_on_record(log):
    erasure.hold(log, "ana", by=DPO, reason="case 17")
    with pytest.raises(AuditError, match=r"'ana' is under legal hold \(case 17\) and was not erased; the refusal is on record"):
        erasure.erase(log, "ana", by=DPO, reason="request")
    assert log.events()[0].event.actor.name == "ana"
    erasure.release(log, "ana", by=DPO, reason="case closed")
    erasure.erase(log, "ana", by=DPO, reason="request")
    said = [(stored.event.kind, stored.event.body.get("erased", stored.event.body.get("held"))) for stored in log.events()[2:]]
    assert said == [("audit.hold", True), ("audit.erased", False), ("audit.hold", False), ("audit.erased", True)]
    with pytest.raises(AuditError, match="the log speaks of nobody called 'ana'"):
        erasure.erase(log, "ana", by=DPO, reason="again")


def test_who_is_not_known_and_what_is_not_held(log):
    with pytest.raises(AuditError, match="the log speaks of nobody called 'anna'; did you mean 'ana'"):
        erasure.erase(log, "anna", by=DPO, reason="r")
    with pytest.raises(AuditError, match="'ana' is under no legal hold"):
        erasure.release(log, "ana", by=DPO, reason="r")


def test_a_backup_does_not_bring_an_erased_person_back(log, url):
    before = log.database.transact(lambda connection: connection.execute(SUBJECTS.select()).all(), write=False)
    subject = erasure.erase(log, "ana", by=DPO, reason="r")
    assert erasure.erased_again(log) == []
    _restore(url, next(row for row in before if str(row.id) == subject))
    assert log.events()[0].event.actor.name == "ana"
    assert erasure.erased_again(log) == [subject]
    assert log.events()[0].event.actor.name == f"erased:{subject}"


def test_a_key_is_never_exchanged(log, url):
    for values in ({"key": b"x" * 32}, {"name": "somebody else"}):
        with pytest.raises(AuditError, match="a key is kept or destroyed, never exchanged"):
            log.database.transact(
                lambda connection, values=values: connection.execute(SUBJECTS.update().values(**values)), write=True)


def _restore(url, row):
    """Put a subject's row back as a backup has it: the owner, past the triggers."""
    from tests.audit.test_integrity import Owner

    owner = Owner(url)
    if not owner.sqlite:
        owner.do("ALTER TABLE airgate_subjects DISABLE TRIGGER ALL")
    owner.do("UPDATE airgate_subjects SET name = ?, key = ?, erased_at = NULL WHERE id = ?",
             row.name, bytes(row.key), str(row.id))
