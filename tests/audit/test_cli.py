import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from tests.audit.accounts import Airflow, Mlflow, ended

from airgate import cli
from airgate.audit import airflow_account, mlflow_account
from airgate.audit.store import AuditStore
from airgate.audit.tries import TaskTry
from airgate.audit.versions import RegisteredVersion


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRGATE_AUDIT_URL", f"sqlite:///{tmp_path}/audit.db")
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


def lines(capsys, *words):
    code = cli.main(["audit", *words])
    out = capsys.readouterr()
    return code, out.out.splitlines(), out.err


@pytest.fixture
def they_say(monkeypatch):
    """What Airflow and MLflow answer, without an Airflow and an MLflow."""

    def say(*said, mlflow=None):
        class Account(Airflow):
            @classmethod
            def from_environment(cls):
                return cls(*said)

        class Registry(Mlflow):
            @classmethod
            def from_environment(cls):
                return mlflow or cls()

        monkeypatch.setattr(airflow_account, "RestAccount", Account)
        monkeypatch.setattr(mlflow_account, "MlflowAccount", Registry)

    return say


def attempt(task_id, state):
    end = datetime.now(UTC) - timedelta(minutes=5)
    return TaskTry("d", "r0", task_id, -1, 1, state, end, end, "StepOperator")


def test_verify_an_honest_log(log, make, capsys):
    log.append(make(0))
    size, root = log.head()
    none = "checkpoints: none yet; `airgate audit checkpoint`, or the DAG audit_upkeep, makes one"
    assert lines(capsys, "verify") == (0, ["integrity: ok", none, f"{size} events, root {root.hex()}"], "")


def test_verify_a_changed_log(log, make, capsys, they_say):
    log.append(make(0))
    with closing(sqlite3.connect(log.where)) as owner, owner:
        owner.execute("DROP TRIGGER airgate_events_no_delete")
        owner.execute("DELETE FROM airgate_events")
    they_say()
    for words in (["verify"], ["verify", "--complete"]):
        code, out, _ = lines(capsys, *words)
        assert code == 1
        assert out[0] == "integrity: TAMPERED at event 0: the log ends here, the head counts 1 events: 1 are missing"


def test_completeness_and_sweep(log, make, capsys, they_say):
    log.append(make(0))
    they_say(attempt("t0", "success"), attempt("killed", "failed"), ended("r1"))
    code, out, _ = lines(capsys, "verify", "--complete")
    assert code == 3
    assert out[0] == "integrity: ok"
    assert out[3:] == [
        "1 runs, 2 task tries, 0 answers, 0 model versions compared", "completeness: MISSING 2",
        "  d r1: Airflow says the run ended as success, no run.ended", "  d r0 killed try 1: Airflow says failed, no task.failed"]
    said = "1 runs, 2 task tries, 0 answers, 0 model versions compared"
    assert lines(capsys, "sweep", "--settle", "999999999")[1] == [f"{said}, 0 events added"]
    code, out, _ = lines(capsys, "sweep")
    assert (code, out[0]) == (0, f"{said}, 2 events added")
    code, out, _ = lines(capsys, "verify", "--complete")
    assert (code, out[3:]) == (0, [said, "completeness: ok"])


def test_what_cannot_be_explained_is_told_and_is_an_exit_code(log, make, capsys, they_say):
    log.append(make(0, "gate.verdict", model="m"))
    they_say(mlflow=Mlflow({"m": [RegisteredVersion("1")]}))
    told = ["completeness: UNEXPLAINED 1", "  m version 1 is in MLflow, but no training on record registered it"]
    for words in (["verify", "--complete"], ["sweep"], ["sweep"]):
        code, out, _ = lines(capsys, *words)
        assert (code, out[-2:]) == (3, told)
    assert {stored.event.body["what"] for stored in log.events(kind="audit.alarm")} == {told[1].strip()}


def test_a_stage_that_moved_without_its_approvals_is_told(log, make, capsys, they_say):
    log.append(make(0, "stage.moved", model="m", version="2", body={"request_digest": "a"}))
    they_say()
    code, out, _ = lines(capsys, "verify", "--complete")
    assert (code, out[-2:]) == (3, [
        "completeness: UNEXPLAINED 1",
        "  number 0: stage.moved of m version 2 without stage.moving and promotion.approved before it"])


def test_show(log, make, capsys):
    log.append(make(0, model="m", version="2"))
    log.append(make(1, "gate.verdict", body={"passed": False, "reason": "auc\x1b[31m low"}))
    code, out, _ = lines(capsys, "show")
    assert code == 0
    assert out[0].split() == ["seq", "time", "(UTC)", "kind", "who", "what"]
    assert out[1] == "0    2025-03-04 05:06:07  task.succeeded  user:ana  m v2, d r0 t0 try 1"
    said = "d r1 t1 try 1, passed=false, reason=auc [31m low"
    assert out[2] == f"1    2025-03-04 05:06:07  gate.verdict    user:ana  {said}"
    assert lines(capsys, "show", "--limit", "1")[1][1].split() == out[2].split()
    words = ["--model", "m", "--run", "r0", "--dag", "d", "--kind", "task.succeeded"]
    assert len(lines(capsys, "show", *words)[1]) == 2


def test_show_as_json(log, make, capsys):
    log.append(make(0, body={"loss": float("nan")}))
    (line,) = lines(capsys, "show", "--json")[1]
    shown = json.loads(line)
    assert shown["seq"] == 0
    assert shown["event"]["body"] == {"loss": {"$float": "NaN"}}
    assert shown["leaf_hash"] == log.events()[0].leaf_hash.hex()


def test_create(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/new/audit.db"
    code, out, _ = lines(capsys, "verify", "--url", url)
    assert (code, out) == (2, [])
    assert lines(capsys, "create", "--url", url) == (0, [f"audit log at {tmp_path}/new/audit.db: 0 events"], "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audit", "show", "--kind", "task.sucess"], "airgate: there is no event kind 'task.sucess'; did you mean"),
        (["audti"], "airgate: there is no command 'audti'; did you mean 'audit'? Allowed: airflow, audit, "),
        (["audit", "verify", "--url", "x"], "airgate: the audit URL cannot be read"),
    ],
)
def test_an_error_is_one_line(log, capsys, words, message):
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_complete_needs_an_airflow_user(log, capsys, monkeypatch):
    monkeypatch.delenv("AIRGATE_API_USER", raising=False)
    code, _, err = lines(capsys, "verify", "--complete")
    assert code == 2
    assert "set AIRGATE_API_USER and AIRGATE_API_PASSWORD" in err


def test_help_lists_every_command(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    assert all(name in shown for name in cli.COMMANDS)


def test_commands_are_imported_only_when_called():
    code = (
        "import sys, contextlib, airgate.cli\n"
        "with contextlib.suppress(SystemExit): airgate.cli.main(['--help'])\n"
        "assert not {'sqlalchemy', 'httpx', 'pydantic', 'airflow'} & sys.modules.keys()"
    )
    path = [entry for entry in sys.path if entry.endswith("include")]
    code = f"import sys; sys.path[:0] = {path!r}\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture
def key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIRGATE_AUDIT_ORIGIN", "audit.example.org/airgate")
    code, out, _ = lines(capsys, "keygen", str(tmp_path / "key.pem"))
    assert (code, out[0]) == (0, f"{tmp_path}/key.pem: set AIRGATE_AUDIT_KEY=file:{tmp_path}/key.pem")
    monkeypatch.setenv("AIRGATE_AUDIT_KEY", f"file:{tmp_path}/key.pem")
    return out[1].rpartition(" ")[2]


def test_a_log_is_signed_anchored_and_verified(log, make, key, capsys, tmp_path, monkeypatch):
    (tmp_path / "kept").mkdir()
    monkeypatch.setenv("AIRGATE_AUDIT_ANCHORS", f"file://{tmp_path}/kept")
    log.append(make(0))
    assert lines(capsys, "keys") == (0, [], "")
    assert lines(capsys, "checkpoint") == (0, ["checkpoint of 2 events; 1 handed to anchors"], "")
    assert lines(capsys, "keys") == (0, [key], "")
    code, out, _ = lines(capsys, "verify", "--anchors")
    assert code == 0
    assert out[:3] == ["integrity: ok", "checkpoints: ok, 1 of them, the newest over 2 events",
                       f"anchor: file://{tmp_path}/kept agrees"]
    for note in (tmp_path / "kept").iterdir():
        note.unlink()
    code, out, _ = lines(capsys, "verify", "--anchors")
    assert code == 1
    assert out[1].startswith("checkpoints: TAMPERED ")


def test_a_checkpoint_without_a_key_says_what_to_set(log, make, capsys, monkeypatch):
    monkeypatch.delenv("AIRGATE_AUDIT_KEY", raising=False)
    code, _, err = lines(capsys, "checkpoint")
    assert code == 2
    assert "set AIRGATE_AUDIT_KEY to file:PATH or env:VARIABLE; `airgate audit keygen FILE` makes one" in err


def test_a_key_is_rotated(log, make, key, capsys, tmp_path, monkeypatch):
    lines(capsys, "checkpoint")
    lines(capsys, "keygen", str(tmp_path / "new.pem"))
    code, out, _ = lines(capsys, "rotate-key", f"file:{tmp_path}/new.pem")
    assert code == 0
    assert out[0].endswith(f"signs: set AIRGATE_AUDIT_KEY=file:{tmp_path}/new.pem")
    code, out, _ = lines(capsys, "verify")
    assert code == 1  # the old key is still configured
    assert "or AIRGATE_AUDIT_KEY was not changed after a rotation" in out[1]
    monkeypatch.setenv("AIRGATE_AUDIT_KEY", f"file:{tmp_path}/new.pem")
    assert lines(capsys, "verify")[0] == 0


def test_people_are_held_released_and_erased(log, make, capsys):
    log.append(make(0))
    assert lines(capsys, "hold", "ana", "--reason", "case 17")[1][0].startswith("held: the subject ")
    code, _, err = lines(capsys, "erase", "ana", "--reason", "asked for it")
    assert code == 2
    assert "is under legal hold (case 17) and was not erased; the refusal is on record" in err
    assert lines(capsys, "release", "ana", "--reason", "closed")[0] == 0
    assert lines(capsys, "erase", "ana", "--reason", " ")[0] == 2
    assert lines(capsys, "erase", "ana", "--reason", "asked for it")[1][0].startswith("erased: the subject ")
    assert "user:erased:" in lines(capsys, "show", "--limit", "9")[1][1]
    assert lines(capsys, "verify")[0] == 0


def test_expire_says_before_it_does(log, make, capsys, tmp_path):
    log.append(make(0))
    assert lines(capsys, "expire") == (0, ["0 events are due; --apply drops their contents"], "")
    assert lines(capsys, "expire", "--apply") == (0, ["0 events lost their contents; their hashes stay"], "")
    code, _, err = lines(capsys, "expire", "--retention", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "the retention file cannot be read" in err


def test_drain_records_what_waits_and_says_what_is_left(log, make, capsys, tmp_path, monkeypatch):
    from airgate.audit.spool import Spool

    monkeypatch.setenv("AIRGATE_AUDIT_SPOOL", str(tmp_path / "spool"))
    assert lines(capsys, "drain") == (0, ["0 events of the spool recorded"], "")
    Spool(tmp_path / "spool").put(make(0, "task.failed"))
    nowhere = "postgresql://127.0.0.1:1/audit"
    code, out, _ = lines(capsys, "drain", "--url", nowhere)
    assert code == 3 and out[0].startswith("0 events of the spool recorded, 1 left: the audit store at 127.0.0.1:1/audit failed")
    assert lines(capsys, "drain", "--spool", str(tmp_path / "other")) == (0, ["0 events of the spool recorded"], "")
    assert lines(capsys, "drain") == (0, ["1 events of the spool recorded"], "")
    assert log.head()[0] == 1


def test_a_spool_that_cannot_be_read_is_an_error(log, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, error = lines(capsys, "drain", "--spool", str(tmp_path / "file"))
    assert code not in (0, 3) and "file cannot be drained: Not a directory" in error


def test_show_names_a_run_that_has_no_task_and_what_was_changed(log, make, capsys):
    run = {"dag_id": "d", "run_id": "manual__1", "state": "success"}
    log.append(make(0).model_copy(update={"kind": "run.ended", "task": None, "body": run}))
    change = {"change": "dag.changed", "dag_id": "d"}
    log.append(make(1).model_copy(update={"kind": "manual.change", "task": None, "body": change}))
    rows = lines(capsys, "show")[1]
    assert rows[1].endswith("d manual__1, state=success")
    assert rows[2].endswith("d, change=dag.changed")
