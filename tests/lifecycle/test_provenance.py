"""Which version made a prediction file: real Parquet files, held against a real log."""

import hashlib
import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.governance.chain import MODEL, START, Chain, digest_of

from airgate.audit.event import Actor, TaskRef, task_event
from airgate.audit.store import AuditStore
from airgate.contracts.provenance import Provenance, file_name
from airgate.contracts.standard_steps import PREDICT
from airgate.errors import DataError
from airgate.lifecycle import provenance
from airgate.lifecycle.provenance import of_digest, of_file

DAG = f"{MODEL}_batch_inference"
DAY = date(2026, 1, 8)


@pytest.fixture
def log(tmp_path):
    store = AuditStore(f"sqlite:///{tmp_path}/audit.db")
    store.create()
    return store


@pytest.fixture
def scored(log, tmp_path):
    """Version 1 went live at minute 10, version 2 at 60. Give a function that scores days and puts the run on record."""
    chain = Chain()
    chain.promote("1", 10)
    chain.promote("2", 60)
    log.append_many([item.event for item in chain.events])

    def score(run="s1", version="1", days=1, at=30.0, claim=True, source="operator", function=PREDICT):
        files = {}
        for number in range(days):
            day = DAY + timedelta(days=number)
            said = Provenance(model=MODEL, version=version, model_digest=digest_of(version), day=day, dag_id=DAG, run_id=run,
                              task_id="predict", try_number=1)
            table = pa.table({"id": ["a"], "score": [0.5]}).replace_schema_metadata(said.metadata() if claim else None)
            path = tmp_path / run / file_name(day)
            path.parent.mkdir(parents=True)
            pq.write_table(table, path)
            files[file_name(day)] = path
        digests = {name: sha256(path.read_bytes()) for name, path in files.items()}
        output = tmp_path / f"{run}.json"
        output.write_text(json.dumps({"digests": digests}))
        task = TaskRef(dag_id=DAG, run_id=run, task_id="predict", try_number=1)
        fields = {"actor": Actor(kind="schedule", name=DAG), "model": MODEL, "source": source}
        body = {"function": function, "window": {"start": str(DAY), "end": str(DAY + timedelta(days=days))}}
        moment = START + timedelta(minutes=at)
        log.append(task_event("task.started", task, occurred_at=moment, body=body, **fields))
        ref = {"uri": f"file://{output}", "digest": sha256(output.read_bytes()), "kind": "json", "size": output.stat().st_size}
        listing = json.dumps(digests, sort_keys=True, separators=(",", ":")).encode()
        facts = {"model_version": version, "model_digest": digest_of(version), "predictions_digest": sha256(listing)}
        log.append(task_event("task.succeeded", task, occurred_at=moment + timedelta(minutes=1), version=version,
                              body={**body, "output": ref, "facts": facts}, **fields))
        return SimpleNamespace(files=list(files.values()), output=output)

    return score


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_the_log_confirms_what_the_file_says(log, scored):
    [path] = scored().files
    found = of_file(log, path)
    assert found.confirmed
    assert (found.run.event.task.run_id, found.period.version, found.claim.version) == ("s1", "1", "1")
    told = json.loads(json.dumps(provenance.as_json(found)))
    assert (told["confirmed"], told["version"], told["model_digest"]) == (True, "1", digest_of("1"))
    assert told["production"]["who"] == ["mia (owner)", "raj (risk)"]
    proven = {proof["index"] for proof in told["proofs"]["events"]}
    assert {told["run"]["seq"], told["production"]["moved"]["seq"]} <= proven
    assert len(proven) == 2 + 5  # the request, two approvals, the signature, the claim


def test_one_file_of_a_run_of_several_days_is_found_by_the_runs_manifest(log, scored):
    run = scored(days=3)
    assert [of_file(log, path).confirmed for path in run.files] == [True, True, True]
    run.output.write_text("{}")
    found = of_file(log, run.files[0])
    assert not found.confirmed and found.run is None
    assert "the audit log says" in found.problems[1]


def test_a_digest_alone_will_do(log, scored):
    scored("other")
    [path] = scored("s2", claim=False).files
    found = of_digest(log, MODEL, sha256(path.read_bytes()))
    assert found.confirmed and found.run.event.task.run_id == "s2"
    assert of_file(log, path, MODEL).confirmed


def test_a_changed_file_is_not_confirmed(log, scored):
    [path] = scored().files
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "score", [[0.9]]), path)
    found = of_file(log, path)
    assert (found.confirmed, found.run) == (False, None)
    assert found.problems == (f"the run it names, s1 of {DAG}, is on record and wrote other bytes: this file was changed "
                              "afterwards",)


def test_metadata_that_were_made_up_are_not_believed(log, scored, tmp_path):
    [path] = scored().files
    said = Provenance(model=MODEL, version="2", model_digest=digest_of("2"), day=DAY, dag_id=DAG, run_id="never",
                      task_id="predict", try_number=1)
    pq.write_table(pq.read_table(path).replace_schema_metadata(said.metadata()), tmp_path / "forged.parquet")
    found = of_file(log, tmp_path / "forged.parquet")
    assert found.problems == (f"the run it names, never of {DAG}, is not on record: this file was not written by this "
                              "installation, or its metadata were made up",)


@pytest.mark.parametrize("fields", [{"source": "callback"}, {"source": "sweep"}, {"function": f"{MODEL}.steps:predict"}])
def test_only_the_scoring_steps_own_record_counts(log, scored, fields):
    [path] = scored(**fields).files
    assert not of_file(log, path).confirmed


def test_a_record_that_says_something_else_than_the_file_is_a_problem(log, scored):
    """Bytes that were recorded, and metadata in them that do not fit the record: whoever wrote it lied in one of them."""
    [path] = scored(version="1").files
    found = of_file(log, path)
    other = found.claim.model_copy(update={"version": "2", "run_id": "r9"})
    wrong = of_digest(log, MODEL, found.digest, other)
    assert wrong.problems == ("the file says version 2, the run recorded 1", "the file says run r9, the run recorded s1")
    assert not wrong.confirmed


@pytest.mark.parametrize(("version", "at", "fine"), [
    ("1", 30, True), ("1", 59.5, True), ("2", 59.5, True), ("2", 90, True),  # under way at the move: it may be either's
    ("2", 30, False), ("1", 90, False), ("9", 90, False),
])
def test_the_version_must_have_been_in_production_then(log, scored, version, at, fine):
    [path] = scored(version=version, at=at).files
    found = of_file(log, path)
    assert found.confirmed is fine
    if not fine:
        assert found.problems[0].startswith(f"version {version} was not in production when the run began, at 2026-01-08T")


def test_another_models_file_is_not_this_ones(log, scored):
    [path] = scored().files
    found = of_digest(log, "other", sha256(path.read_bytes()))
    assert found.problems == ("no run of other on record wrote these bytes: the file was changed, or written elsewhere",)


def test_a_file_that_says_nothing_needs_the_model(log, scored, tmp_path):
    [path] = scored(claim=False).files
    with pytest.raises(DataError) as caught:
        of_file(log, path)
    assert str(caught.value) == (f"{path}: says nothing of where it comes from: an earlier release wrote it, or not Airgate. "
                                 "Name the model (--model) to look it up by its bytes.")
    (tmp_path / "notes.txt").write_text("no Parquet")
    with pytest.raises(DataError, match=r"notes.txt: cannot be read as Parquet: .*Give a file that batch inference wrote"):
        of_file(log, tmp_path / "notes.txt")
    with pytest.raises(DataError, match="nowhere.parquet: cannot be read: No such file or directory"):
        of_file(log, tmp_path / "nowhere.parquet")


def test_many_runs_are_looked_through(log, scored):
    [path] = scored("first", claim=False).files
    fields = {"actor": Actor(kind="schedule", name=DAG), "model": MODEL, "source": "operator", "body": {"function": "x:y"},
              "occurred_at": datetime(2026, 1, 9, tzinfo=UTC)}
    log.append_many([task_event("task.succeeded", TaskRef(dag_id="d", run_id=str(n), task_id="t", try_number=1), **fields)
                     for n in range(provenance._PAGE + 1)])
    assert of_digest(log, MODEL, sha256(path.read_bytes())).confirmed
