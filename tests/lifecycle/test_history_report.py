"""`airgate model history` and `of-predictions` as they are called, and the report behind them, on a real log."""

import argparse
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.governance.chain import MODEL, START, Chain, clock, digest_of
from tests.lifecycle.moved import model_key  # noqa: F401  a fixture
from tests.lifecycle.processes import DIGESTS, MemoryRegistry

from airgate.audit import checkpoints, signing
from airgate.audit.erasure import erase
from airgate.audit.event import Actor, AuditEvent, TaskRef, event_id_of
from airgate.audit.store import AuditStore
from airgate.contracts.stages import StageMove
from airgate.errors import AirgateError, ConfigError, PromotionError
from airgate.lifecycle import cli_history, history_report
from airgate.lifecycle.moves import Author, Moves


@pytest.fixture
def log(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/audit.db"
    monkeypatch.setenv("AIRGATE_AUDIT_URL", url)
    store = AuditStore(url)
    store.create()
    return store


def keep(log, chain):
    log.append_many([item.event for item in chain.events])


def call(capsys, *words):
    parser = argparse.ArgumentParser(prog="airgate model")
    cli_history.add_subparsers(parser.add_subparsers(dest="verb", required=True))
    args = parser.parse_args(list(words))
    code = cli_history.RUNS[args.verb](args)
    return code, capsys.readouterr().out


def story():
    chain = Chain()
    first = chain.promote("1", 10)
    chain.promote("2", 60)
    chain.move("1", 80, cause="rollback", from_version="2", reason="more false alarms", approved_by=str(first.event_id),
               run="rb", request_digest=first.body["request_digest"], signature=first.body["signature"])
    chain.move(None, 120, cause="demotion", from_version="1", reason="end of life")
    return chain


def test_the_whole_history_is_a_table(log, capsys):
    keep(log, story())
    code, out = call(capsys, "history", MODEL)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "tumour in production"
    assert lines[1].split() == ["version", "from", "(UTC)", "until", "recorded", "cause", "who", "event"]
    assert lines[2].startswith("1        2026-01-08 09:10:00  2026-01-08 10:00:00  ")
    assert lines[2].endswith("promotion  mia (owner), raj (risk)  5")
    assert "rollback   ana" in lines[4]
    assert lines[5].startswith("none     2026-01-08 11:00:00  now")
    assert lines[6].startswith("proof: events 0, 1, 2, 3, 4, 5, 6, 7 and ")


def test_a_moment_with_all_that_it_stands_on(log, capsys):
    keep(log, story())
    signer = signing.signer_of(Ed25519PrivateKey.generate(), "audit.example.org/airgate")
    checkpoints.checkpoint(log, signer)
    code, out = call(capsys, "history", MODEL, "--at", "2026-01-08T10:25:00Z")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "2026-01-08 10:25:00 UTC: version 1 of tumour was in production"
    assert "  from 2026-01-08 10:20:00 until 2026-01-08 11:00:00: rollback of version 1 to production by run rb" in out
    assert "  reason: more false alarms" in lines
    assert "  approved by mia (owner): I read it (event 1)" in lines
    assert f"  files {digest_of('1')}" in lines
    assert "  known then: no version; what says otherwise was recorded later, at " in out
    assert "that audit.example.org/airgate signed at" in lines[-1]


def test_what_was_known_then_is_what_is_known_now_when_nothing_came_late(log, capsys):
    chain = Chain()
    now = datetime.now(UTC)
    chain.promote("1", (now - START) / timedelta(minutes=1))
    keep(log, chain)
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    _, out = call(capsys, "history", MODEL, "--at", later)
    assert "  known then: the same" in out.splitlines()
    _, out = call(capsys, "history", MODEL, "--at", later, "--known-at", "2026-01-08")
    assert out.splitlines()[0].endswith("no version of tumour was in production, as it was known at 2026-01-08 00:00:00 UTC")
    _, out = call(capsys, "history", MODEL, "--known-at", "2026-01-08")
    assert out.splitlines() == ["tumour: nothing had been in production, as it was known at 2026-01-08 00:00:00 UTC",
                                "proof: nothing is on record, so there is nothing to prove"]


def test_a_move_that_had_begun_is_told(log, capsys):
    chain = Chain()
    chain.promote("1", 10)
    chain.move("2", 60, settles=False, run="p2")
    keep(log, chain)
    _, out = call(capsys, "history", MODEL, "--at", "2026-01-08T10:30:00")
    assert "  a move was under way: promotion of version 2 to production by run p2 of tumour_promotion (event 6)" in out


def test_everything_as_json_with_its_proofs(log, capsys):
    keep(log, story())
    _, out = call(capsys, "history", MODEL, "--at", "2026-01-08T10:25:00+00:00", "--json")
    told = json.loads(out)
    assert [period["version"] for period in told["periods"]] == ["1", "2", "1", None]
    assert [period["cause"] for period in told["periods"]] == ["promotion", "promotion", "rollback", "demotion"]
    assert told["answer"]["version"] == "1" and told["known_then"]["version"] is None and told["corrected"]
    period = told["answer"]["period"]
    assert (period["from"], period["until"]) == ("2026-01-08T10:20:00.000000Z", "2026-01-08T11:00:00.000000Z")
    named = [period["moved"], period["claim"], period["request"], *period["approvals"], period["signed"]]
    proven = {proof["index"] for proof in told["proofs"]["events"]}
    assert {item["seq"] for item in named} <= proven
    assert (told["doubts"], told["changed_behind"]) == ([], [])


def test_changes_behind_the_promotions_back_are_told_and_move_nothing(log, capsys):
    chain = story()
    chain.add("registry.changed", 70, {"what": "alias", "before": "2", "after": "1"})
    keep(log, chain)
    _, out = call(capsys, "history", MODEL)
    assert "1 changes behind the promotion's back were found (events 16); none of them was used: inference asks the log" in out


def test_a_move_in_doubt_is_said_and_the_exit_code_too(log, capsys):
    chain = story()
    chain.add("stage.moved", 130, {"cause": "promotion", "to_version": "9", "previous": ""}, event_id=event_id_of("forged"))
    keep(log, chain)
    code, out = call(capsys, "history", MODEL)
    assert code == 1
    assert "DOUBT: event 16 (stage.moved) does not follow the move before it: Airgate did not write it" in out.splitlines()


def test_what_is_not_there_is_named_with_the_nearest(log, capsys):
    keep(log, story())
    with pytest.raises(PromotionError, match="the audit log has nothing about a model 'tumor'; did you mean 'tumour'?"):
        call(capsys, "history", "tumor")
    with pytest.raises(PromotionError, match="there is no stage 'prod'; did you mean 'production'?"):
        call(capsys, "history", MODEL, "--stage", "prod")
    with pytest.raises(ConfigError, match="a digest alone says nothing of its model: name it with --model"):
        call(capsys, "of-predictions", "sha256:" + "a" * 64)


def test_a_time_that_is_none_is_named(log, capsys):
    with pytest.raises(SystemExit):
        call(capsys, "history", MODEL, "--at", "yesterday")
    assert "'yesterday' is no time; give ISO 8601, for instance 2026-01-08T14:00:00Z" in capsys.readouterr().err


def test_nothing_in_the_log_can_write_to_the_terminal(log, capsys):
    chain = Chain()
    first = chain.promote("1", 10)
    chain.move("1", 20, cause="rollback", from_version="1", reason="red \x1b[31m\nline", approved_by=str(first.event_id))
    keep(log, chain)
    _, out = call(capsys, "history", MODEL, "--at", "2026-01-08T09:30:00Z")
    assert "\x1b" not in out
    assert "  reason: red  [31m line" in out.splitlines()


def test_of_predictions_by_digest(log, capsys):
    keep(log, story())
    code, out = call(capsys, "of-predictions", "sha256:" + "a" * 64, "--model", MODEL)
    assert code == 1
    assert out.splitlines()[0].endswith(": NOT CONFIRMED")
    assert "DOUBT: no run of tumour on record wrote these bytes: the file was changed, or written elsewhere" in out.splitlines()
    _, out = call(capsys, "of-predictions", "sha256:" + "a" * 64, "--model", MODEL, "--json")
    assert json.loads(out)["confirmed"] is False


def test_an_erased_approver_has_no_name_and_the_history_stands(log):
    keep(log, story())
    erase(log, "mia", reason="asked for it", by=Actor(kind="user", name="admin"))
    found = history_report.report(log, MODEL)
    approver = history_report.who(found.periods[0].began)[0]
    assert approver.startswith("erased:") and approver.endswith(" (owner)")


@pytest.mark.usefixtures("model_key")
def test_moves_as_they_are_really_made_are_a_history_without_doubt(log, capsys):
    """Promoted twice, rolled back, given up because the version is gone, demoted: by the code that moves stages."""
    registry = MemoryRegistry()
    system, ana = Actor(kind="system", name="test"), Actor(kind="user", name="ana")

    def move(run, to, expected, cause="promotion", actor=system, **more):
        task = TaskRef(dag_id="m_promotion", run_id=run, task_id="apply", try_number=1)
        wanted = StageMove(cause=cause, from_version=expected, to_version=to, model_digest=DIGESTS.get(to or ""), **more)
        return Moves(log, registry, Author(actor, task)).move("m", wanted)

    first = move("p1", "1", None, request_digest="sha256:" + "a" * 64)
    move("p2", "2", "1", request_digest="sha256:" + "b" * 64)
    move("rb", "1", "2", "rollback", ana, reason="worse", approved_by=first.event_id, request_digest=first.body.request_digest)
    registry.delete("3")
    with pytest.raises(PromotionError):
        move("p3", "3", "1", request_digest="sha256:" + "c" * 64)
    move("dm", None, "1", "demotion", ana, reason="end of life")
    found = history_report.report(log, "m")
    assert [(period.version, period.began.body.cause) for period in found.periods] == [
        ("1", "promotion"), ("2", "promotion"), ("1", "rollback"), (None, "demotion")]
    assert found.history.doubts() == []
    assert call(capsys, "history", "m")[0] == 0


def test_a_review_is_told_with_its_answer(log, capsys):
    chain = Chain()
    chain.promote("1", 10)
    chain.move(None, 20, cause="demotion", from_version="1", run="dm", reason="odd")
    chain.add("stage.reviewed", 30, {"cause": "demotion", "answer": "disagreed", "reviewer": "raj"}, run="dm")
    keep(log, chain)
    _, out = call(capsys, "history", MODEL, "--at", "2026-01-08T09:40:00Z")
    assert out.splitlines()[0] == "2026-01-08 09:40:00 UTC: no version of tumour was in production"
    assert "  review afterwards: disagreed by raj (event 8)" in out.splitlines()


def test_a_model_without_moves_has_an_empty_history(log, capsys):
    log.append(AuditEvent(event_id=event_id_of("x"), kind="gate.verdict", occurred_at=clock(0), model=MODEL, source="operator",
                          actor=Actor(kind="system", name="x")))
    assert call(capsys, "history", MODEL)[1].splitlines()[0] == "tumour: nothing had been in production"
    assert issubclass(PromotionError, AirgateError)
