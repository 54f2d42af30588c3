"""An import from end to end: a bundle of one installation becomes a version of another, judged and asked for there."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from tests.lifecycle.bundle_support import METRICS, MLFLOW_WARNINGS, MODEL, Installation, copied, evidence, spec
from tests.lifecycle.conftest import Context

from airgate import settings
from airgate.audit.event import Actor, TaskRef, task_event
from airgate.cli import main
from airgate.contracts.bundle import ImportedFrom
from airgate.contracts.payloads import Candidate
from airgate.contracts.step import ArtifactRef, RunContext, StepCall, StepResult
from airgate.errors import BundleError
from airgate.governance import carried_gates
from airgate.lifecycle.bundle_import import BundleVerdict, TakeBundle
from airgate.lifecycle.promotion_request import RequestPromotion
from airgate.lifecycle.sign import SignOperator
from airgate.registry.versions import Registry
from airgate.runtime import record
from airgate.runtime.bundle import check_bundle
from airgate.runtime.plan import StepPlan
from airgate.steps import runner
from airgate.steps.store import ArtifactStore

pytestmark = [MLFLOW_WARNINGS]


@pytest.fixture
def there(template: Installation, tmp_path: Path) -> Iterator[Installation]:
    """The destination, of which this process is a part."""
    place = Installation(tmp_path / "production", "production").create()
    place.trusts(template)
    with place.here():
        yield place


def stored(path: Path) -> str:
    return ArtifactStore(settings.load().artifact_store).put_file(path).digest


def take(context: Context, digest: str, run: str = "i1", user: str = "nina") -> dict[str, Any]:
    operator = TakeBundle(task_id="take", spec=spec())
    return operator.execute(context("bundle_import", "take", run=run, user=user, params={"bundle": digest}))


def step(function: str, run: str, folder: Path, inputs: dict[str, ArtifactRef], parameters: dict[str, Any]) -> StepResult:
    """Run one step as its operator does, and put its success on record."""
    now, task = settings.load(), function.rpartition(":")[2]
    context = RunContext(dag_id=f"{MODEL}_bundle_import", run_id=run, task_id=task, try_number=1, actor="user:nina",
                         code_version="unversioned", image="local")
    call = StepCall(function=function, inputs=inputs, parameters=parameters, run=context, spec=spec(), store=now.artifact_store,
                    tracking_uri=now.mlflow_uri)
    folder.mkdir()
    result = runner.execute(call, folder)
    assert result.failure is None, result.failure
    body = record.succeeded_body(StepPlan(function=function), call, result, "local")
    record.store().append(task_event(
        "task.succeeded", TaskRef(dag_id=context.dag_id, run_id=run, task_id=task, try_number=1), source="operator", model=MODEL,
        actor=Actor(kind="user", name="nina"), version=record.version_of(result), body=body))
    return result


def imported(context: Context, bundle: Path, folder: Path) -> Candidate:
    """Take a bundle and make a version of it; sign it."""
    taken = take(context, stored(bundle))
    check_bundle(taken, MODEL)
    model = step("airgate.steps.import_bundle:unpack", "i1", folder / "unpack", {}, {"bundle": taken})
    assert model.output is not None
    made = step("airgate.steps.import_bundle:register", "i1", folder / "register", {"model": model.output},
                {"bundle": taken, "gates_hash": spec().gates.fingerprint()})
    SignOperator(task_id="sign", spec=spec()).execute(context("bundle_import", "sign", run="i1", user="nina"))
    return Candidate.model_validate(made.value)


def test_from_one_installation_to_the_next_and_on(
        bundle: Path, there: Installation, context: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidate = imported(context, bundle, tmp_path)
    taken = ImportedFrom.model_validate(there.log.events(kind="bundle.imported")[0].event.body)
    version = Registry(settings.load().mlflow_uri).version(MODEL, candidate.version)
    assert version.digest == candidate.digest == taken.model_digest
    assert (version.tags["airgate.window_end"], version.tags["airgate.data_revision"]) == ("2026-01-09", "c" * 40)
    assert version.tags["airgate.dag_id"] == f"{MODEL}_bundle_import"
    assert b'"mia"' not in there.log.events(kind="bundle.imported")[0].entry, "names are sealed again"
    verdict = BundleVerdict(task_id="verdict", spec=spec()).execute(context("bundle_import", "verdict", run="i1", user="nina"))
    assert verdict["passed"]
    # The destination asks for itself, and whoever trained it at the source asked too.
    asked = RequestPromotion(task_id="request", spec=spec())
    text = asked.execute(context("promotion", "request", run="p1", payloads=[verdict]))
    request = there.log.events(kind="promotion.requested")[0].event.body
    assert {"user:mia", "user:nina"} <= set(request["requesters"])
    assert request["reports"]["evaluation"] == taken.evaluation and request["reports"]["data_check"] == taken.data_check
    assert "put diagnosis_classifier version 1 into production?" in text["subject"]
    # And on to a third, which trusts this one alone.
    there.checkpoint()
    there.export(tmp_path / "on.zip")
    third = Installation(tmp_path / "third", "hospital").create()
    third.trusts(there)
    with third.here():
        assert main(["bundle", "verify", str(tmp_path / "on.zip")]) == 0
        onward = take(context, stored(tmp_path / "on.zip"))
    assert onward["candidate"]["digest"] == candidate.digest and onward["candidate"]["flow"] == "bundle_import"
    assert "ok: diagnosis_classifier version 1 of production" in capsys.readouterr().out
    people = [(one["role"], one["name"]) for one in third.log.events(kind="bundle.imported")[0].event.body["people"]]
    assert ("trained", "mia") in people


@pytest.mark.attack("a bundle is replayed")
def test_a_bundle_is_taken_once(bundle: Path, there: Installation, context: Context) -> None:
    digest = stored(bundle)
    first = take(context, digest)
    assert take(context, digest) == first, "a retry of the same run goes on"
    with pytest.raises(AirflowFailException, match=r"refused \(replayed\): it was imported at .* UTC by run i1. A bundle is"):
        take(context, digest, run="i2")
    assert len(there.log.events(kind="bundle.imported")) == 1
    refused = there.log.events(kind="bundle.refused")[0].event
    assert (refused.body["reason"], refused.body["bundle"]) == ("replayed", digest)


def test_what_is_refused_is_on_record_and_leaves_no_import(
        there: Installation, context: Context, bundle: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.zip"
    cut.write_bytes(bundle.read_bytes()[:-7])
    for digest, reason in ((stored(cut), "truncated"), ("sha256:" + "0" * 64, "missing"), ("/etc/passwd", "missing")):
        with pytest.raises(AirflowFailException, match=rf"refused \({reason}\): "):
            take(context, digest, run=reason + digest[-3:])
        assert there.log.events(kind="bundle.refused", newest_first=True)[0].event.body["reason"] == reason
    assert not there.log.events(kind="bundle.imported")


@pytest.mark.attack("a bundle is given to another model")
def test_the_dag_of_another_model_refuses_it(there: Installation, context: Context, bundle: Path) -> None:
    from airgate.authoring.catalog import model

    operator = TakeBundle(task_id="take", spec=model("diagnosis_network"))
    with pytest.raises(AirflowFailException, match="refused \\(other model\\): the bundle is of diagnosis_classifier, and"):
        operator.execute(context("bundle_import", "take", user="nina", params={"bundle": stored(bundle)}))


def test_a_step_is_not_asked_with_what_the_log_does_not_know(there: Installation, context: Context, bundle: Path) -> None:
    taken = take(context, stored(bundle))
    check_bundle(taken, MODEL)
    for forged in ({**taken, "model_digest": "sha256:" + "0" * 64}, {**taken, "event_id": "x"}, None, {}):
        with pytest.raises(BundleError, match="given a bundle that the audit log does not know as imported for diagnosis"):
            check_bundle(forged, MODEL)
    with pytest.raises(BundleError):
        check_bundle(taken, "diagnosis_network")


# ---------------------------------------------------------------------------------------------- gates


@pytest.fixture(scope="module")
def origin(bundle: Path, template: Installation, tmp_path_factory: pytest.TempPathFactory) -> ImportedFrom:
    from airgate.lifecycle import bundle_check, bundle_sources

    place = Installation(tmp_path_factory.mktemp("gates"), "production")
    place.trusts(template)
    ref = ArtifactRef(uri="file:///b", digest="sha256:" + "1" * 64, kind="file", size=1)
    return bundle_check.check(bundle, bundle_sources.read(place.folder / "sources.yaml")).imported(ref)


Judge = Callable[..., list[str]]


@pytest.fixture
def failed(origin: ImportedFrom) -> Judge:
    def judge(live: str | None = None, *, told: dict[str, Any] | None = None, **changed: Any) -> list[str]:
        known = origin.model_copy(update=told or {})
        found = carried_gates.judge(known, evidence(origin.candidate, **changed), spec().gates, live)
        return [gate.name for gate in found if not gate.passed]

    return judge


OTHER = "sha256:" + "e" * 64


def test_the_gates_of_the_destination(failed: Judge) -> None:
    low = {**METRICS, "roc_auc": {"value": 0.9, "low": 0.85, "high": 0.95}}
    assert failed() == []
    assert failed(candidate=low) == ["metric.roc_auc"]
    assert failed(confidence=0.9) == ["confidence"] == failed(confidence=None) == failed(confidence=True)
    assert failed(candidate_digest=OTHER) == ["artifact_digest"] == failed(digest_verified=False)
    assert failed(told={"data_check": None}) == ["data_check"]
    assert failed(told={"gates_at_training": None}) == ["thresholds_fixed"] == failed(told={"gates_at_training": OTHER})


def test_a_comparison_counts_only_with_what_is_in_production_here(failed: Judge) -> None:
    drop = {"roc_auc": {"value": -0.1, "low": -0.2, "high": 0.0}}
    worse = {"production": METRICS, "production_version": "7", "difference": drop}
    even = {**worse, "difference": {"roc_auc": {"value": 0.0, "low": -0.01, "high": 0.01}}}
    told = {"compared_with": OTHER}
    assert failed(OTHER, told=told, **even) == []
    assert failed(OTHER, told=told, **worse) == ["not_worse_than_production"]
    assert failed(None, told=told, **worse) == [], "nothing is in production here"
    assert failed(OTHER) == ["not_worse_than_production", "compared_with_production"]
    assert failed("sha256:" + "f" * 64, told=told, **even) == ["not_worse_than_production", "compared_with_production"]


# ---------------------------------------------------------------------------------------------- the command


@pytest.fixture
def airflow() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An Airflow that takes DAG runs; give its address and what it was asked."""
    asked: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            data = b'{"access_token": "t", "dag_run_id": "manual__1"}'
            self.send_response(201)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_the_command_starts_the_import(there: Installation, bundle: Path, airflow: tuple[str, list[tuple[str, bytes]]],
                                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    address, asked = airflow
    for name, value in {"AIRFLOW_API": address, "API_USER": "nina", "API_PASSWORD": "x"}.items():
        monkeypatch.setenv(f"AIRGATE_{name}", value)
    assert main(["bundle", "import", str(bundle)]) == 0
    path, body = asked[-1]
    digest = stored(bundle)
    assert path == f"/api/v2/dags/{MODEL}_bundle_import/dagRuns" and digest.encode() in body
    out = capsys.readouterr().out
    assert "ok: diagnosis_classifier version 1 of staging, " in out
    assert "started diagnosis_classifier_bundle_import, run manual__1" in out
    monkeypatch.setenv("AIRGATE_AIRFLOW_API", "http://127.0.0.1:1")
    assert main(["bundle", "import", str(bundle)]) == 2
    assert f"start the DAG {MODEL}_bundle_import in Airflow with bundle = {digest}" in capsys.readouterr().err
    assert main(["bundle", "import", str(bundle), "--no-start"]) == 0
    assert "start the DAG" in capsys.readouterr().out


@pytest.mark.attack("a bundle is imported in nobody's name")
@pytest.mark.parametrize(("user", "said"), [("airgate", "by a service account"), ("svc-ci", "by a service account"),
                                            (None, r"by no person \(asset\)")])
def test_a_person_imports(bundle: Path, there: Installation, context: Context, user: str | None, said: str) -> None:
    operator, digest = TakeBundle(task_id="take", spec=spec()), stored(bundle)
    with pytest.raises(AirflowFailException, match=f"started {said}, so nobody's name .* under your own name; the bundle"):
        operator.execute(context("bundle_import", "take", run="i1", user=user, params={"bundle": digest}))
    assert not there.log.events(kind="bundle.imported")
    assert take(context, digest, run="i2")["model_digest"]


def test_the_command_does_not_start_it_as_a_service(
        there: Installation, bundle: Path, airflow: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    address, asked = airflow
    for name, value in {"AIRFLOW_API": address, "API_USER": "svc-ci", "API_PASSWORD": "x"}.items():
        monkeypatch.setenv(f"AIRGATE_{name}", value)
    assert main(["bundle", "import", str(bundle)]) == 2
    said = capsys.readouterr().err
    assert "AIRGATE_API_USER is 'svc-ci', a service account by people.yaml, and whoever imports a version asks for it" in said
    assert f"start the DAG {MODEL}_bundle_import in Airflow" in said and not asked


def test_the_command_refuses_and_records_it(there: Installation, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(bundle.read_bytes().replace(b"roc_auc", b"roc_auk", 1))
    assert main(["bundle", "import", str(bad)]) == 2
    assert f"{bad} is refused (tampered): " in capsys.readouterr().err
    assert main(["bundle", "import", str(tmp_path / "none.zip")]) == 2
    monkeypatch.setenv("AIRGATE_MODELS", str(tmp_path))
    assert main(["bundle", "import", str(bundle)]) == 2
    assert "it is of diagnosis_classifier, which this installation does not have" in capsys.readouterr().err
    events = [item.event for item in there.log.events(kind="bundle.refused")]
    assert [event.body["reason"] for event in events] == ["tampered", "missing", "other model"]
    assert not (there.folder / "artifacts").exists(), "nothing of it was kept"


def test_the_command_exports(template: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = copied(template, tmp_path / "staging")
    with source.here():
        assert main(["bundle", "export", f"{MODEL}@1", str(tmp_path / "b.zip"), "--days", "3"]) == 0
        assert "b.zip: " in capsys.readouterr().out
        assert main(["bundle", "export", f"{MODEL}@production", str(tmp_path / "c.zip")]) == 2
        assert "names no version; write MODEL@VERSION" in capsys.readouterr().err
