"""Bundles: what is in one, what is verified of it, and every attack that is refused with its reason."""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lifecycle.bundle_support import MLFLOW_WARNINGS, MODEL, Installation, candidate_of, copied

from airgate.audit import checkpoints, signing
from airgate.contracts import plain_zip
from airgate.contracts.bundle import BundleStatement
from airgate.contracts.in_toto import PAYLOAD_TYPE
from airgate.errors import AuditError, BundleError, ConfigError
from airgate.lifecycle import bundle_check, bundle_sources
from airgate.signatures import dsse, keys

pytestmark = [MLFLOW_WARNINGS]


@pytest.fixture
def sources(template: Installation, tmp_path: Path) -> bundle_sources.Sources:
    (tmp_path / "here").mkdir()
    there = Installation(tmp_path / "here", "production")
    there.trusts(template)
    return bundle_sources.read(there.folder / "sources.yaml")


def test_a_bundle_holds_everything_and_any_tool_opens_it(bundle: Path, template: Installation, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        archive.extractall(tmp_path / "out")
    assert names[:6] == ["bundle.json", "model/airgate_model.json", "model/model.ubj", "reports/candidate.json",
                         "reports/evaluation.json", "reports/data_check.json"]
    kinds = [json.loads(line)["event"]["kind"] for line in (tmp_path / "out/log/leaves.jsonl").read_bytes().splitlines()]
    for kind in ("gate.verdict", "promotion.requested", "promotion.approved", "model.signed", "stage.moved", "audit.key"):
        assert kind in kinds
    for name in (b"ana", b"omar"):
        assert name not in (tmp_path / "out/log/leaves.jsonl").read_bytes()  # sealed, as in the source's log
    # An auditor checks the log with the standalone verifier.
    key = next(iter(line for line in (tmp_path / "out/log/keys.txt").read_text().splitlines()))
    verified = subprocess.run([sys.executable, "include/airgate/audit/verifier.py", str(tmp_path / "out/log"), "--key", key],
                              capture_output=True, text=True, check=False)
    assert verified.returncode == 0 and verified.stdout.startswith("ok: "), verified.stdout


def test_a_sound_bundle_verifies(bundle: Path, template: Installation, sources: bundle_sources.Sources) -> None:
    found = bundle_check.check(bundle, sources)
    manifest, story = found.statement.manifest, found.story
    assert (manifest.model, manifest.version, manifest.environment) == (MODEL, "1", "staging")
    assert story.candidate == candidate_of(template) and story.compared_with is None
    assert story.gates_at_training == story.candidate.gates_hash
    assert story.data_check == "sha256:" + hashlib.sha256(b'{"passed":true}').hexdigest()
    assert {(one.role, one.name) for one in manifest.people} == {
        ("trained", "mia"), ("requested", "mia"), ("approved", "ana"), ("approved", "omar")}


def test_a_fairness_report_comes_along_with_its_own_digest(template: Installation, sources: bundle_sources.Sources,
                                                           tmp_path: Path) -> None:
    source = copied(template, tmp_path / "staging")
    older, newer = source.stored(b"older"), source.stored(b"fair")
    for task, report in (("fairness", older), ("fairness_again", newer)):
        source.record("task.succeeded", "validation", "v1", task, {"attachments": {"fairness.json": report["digest"]}})
    source.checkpoint()
    source.export(tmp_path / "b.zip")
    assert files_of(tmp_path / "b.zip")["reports/fairness.json"] == b"fair"
    assert bundle_check.check(tmp_path / "b.zip", sources).statement.files["reports/fairness.json"] == newer["digest"]


# ---------------------------------------------------------------------------------------------- attacks


Change = Callable[[dict[str, bytes]], object]


def files_of(bundle: Path) -> dict[str, bytes]:
    with plain_zip.reading(bundle) as archive:
        return {name: archive.read(name, 1 << 24) for name in archive.entries}


def rewritten(bundle: Path, to: Path, change: Change, signer: keys.Signer | None = None) -> Path:
    """The bundle with other files in it; with `signer` its statement lists them and is signed again."""
    files = files_of(bundle)
    change(files)
    if signer is not None:
        said = BundleStatement.parse(dsse.read(json.loads(files["bundle.json"])).content())
        listed = {name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in files.items() if name != "bundle.json"}
        resigned(files, BundleStatement(files=listed, manifest=said.manifest), signer)
    plain_zip.write(to, files.items())
    return to


def resigned(files: dict[str, bytes], said: BundleStatement, signer: keys.Signer) -> None:
    files["bundle.json"] = rfc8785.dumps(dsse.sign(said.payload(), PAYLOAD_TYPE, signer).to_json())


def statement_of(files: dict[str, bytes]) -> BundleStatement:
    return BundleStatement.parse(dsse.read(json.loads(files["bundle.json"])).content())


def flipped(name: str) -> Change:
    return lambda files: files.update({name: files[name][:-2] + bytes([files[name][-2] ^ 1]) + files[name][-1:]})


def with_pickle(files: dict[str, bytes]) -> None:
    files["model/extra.pkl"] = b"\x80\x04."


def hint(files: dict[str, bytes]) -> None:
    files["bundle.json"] = files["bundle.json"].replace(b'"sig"', b'"sig" ')


@pytest.mark.parametrize(("change", "reason", "text"), [
    (flipped("model/model.ubj"), "tampered", "model/model.ubj has the digest sha256:[0-9a-f]{64}, the statement says sha256:"),
    (flipped("reports/evaluation.json"), "tampered", "reports/evaluation.json has the digest"),
    (flipped("log/leaves.jsonl"), "tampered", "log/leaves.jsonl has the digest"),
    (flipped("bundle.json"), "tampered", "bundle.json cannot be read"),
    (with_pickle, "tampered", "its files are not those of its statement; not signed: model/extra.pkl"),
    (lambda files: files.pop("reports/data_check.json"), "tampered", "statement; missing: reports/data_check.json"),
    (lambda files: files.pop("bundle.json"), "tampered", "bundle.json is not in the bundle"),
    (hint, "tampered", "bundle.json is not written as RFC 8785 has it"),
    (lambda files: files.update({"bundle.json": b"{}"}), "tampered", "bundle.json cannot be read: this is no DSSE envelope"),
    (lambda files: files.update({"bundle.json": b"[" * 100_000}), "tampered", "bundle.json cannot be read"),
], ids=["model", "report", "log", "statement", "extra file", "missing file", "no statement", "spelling", "no envelope", "deep"])
@pytest.mark.attack("a bundle is changed")
def test_what_was_changed_is_refused(bundle: Path, sources: bundle_sources.Sources, tmp_path: Path, change: Change, reason: str,
                                     text: str) -> None:
    with pytest.raises(BundleError, match=text) as found:
        bundle_check.check(rewritten(bundle, tmp_path / "b.zip", change), sources)
    assert found.value.reason == reason


@pytest.mark.attack("a bundle is truncated")
def test_a_truncated_bundle_is_refused(bundle: Path, sources: bundle_sources.Sources, tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(bundle.read_bytes()[:-1000])
    with pytest.raises(BundleError, match="does not end as a bundle does: it was cut off") as found:
        bundle_check.check(tmp_path / "b.zip", sources)
    assert found.value.reason == "truncated"


@pytest.mark.attack("a bundle is a bomb, or leads out of its folder")
def test_a_bomb_and_a_path_that_leads_out_are_refused(sources: bundle_sources.Sources, tmp_path: Path) -> None:
    for name, method, reason in (("model/model.ubj", zipfile.ZIP_DEFLATED, "too large"), ("../model.ubj", 0, "unsafe name")):
        with zipfile.ZipFile(tmp_path / "b.zip", "w", method) as archive:
            archive.writestr(name, bytes(10 << 20))
        with pytest.raises(BundleError) as found:
            bundle_check.check(tmp_path / "b.zip", sources)
        assert found.value.reason == reason


@pytest.mark.attack("a stranger signs a changed bundle")
def test_a_stranger_who_signs_a_changed_bundle_is_refused(bundle: Path, sources: bundle_sources.Sources, tmp_path: Path) -> None:
    stranger = keys.signer_of(Ed25519PrivateKey.generate(), "staging")
    path = rewritten(bundle, tmp_path / "b.zip", with_pickle, stranger)
    with pytest.raises(BundleError, match=r"it is signed by staging\+[0-9a-f]{8}, and bundles are taken from staging") as found:
        bundle_check.check(path, sources)
    assert found.value.reason == "untrusted key"


def test_a_source_that_nobody_named_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="bundles are taken from nobody alone. If that key is to count, add it to the file"):
        bundle_check.check(bundle, {})


def test_a_log_key_that_is_not_trusted_is_refused(bundle: Path, sources: bundle_sources.Sources) -> None:
    other = signing.signer_of(Ed25519PrivateKey.generate(), sources["staging"].log[0].name).public
    with pytest.raises(BundleError, match="its log does not verify: tampered: the checkpoint at .* is not signed by a key"):
        bundle_check.check(bundle, {"staging": replace(sources["staging"], log=(other,))})


def test_the_key_of_one_environment_does_not_speak_for_another(
        bundle: Path, sources: bundle_sources.Sources, tmp_path: Path) -> None:
    other = keys.signer_of(Ed25519PrivateKey.generate(), "development")
    development = bundle_sources.Source("development", (other.public,), sources["staging"].log)
    path = rewritten(bundle, tmp_path / "b.zip", lambda files: None, other)
    with pytest.raises(BundleError, match=r"it comes from 'staging', and is signed by development\+"):
        bundle_check.check(path, {**sources, "development": development})


def real_signer(template: Installation) -> keys.Signer:
    return keys.signer(f"file:{template.folder}/model.pem", "staging")


def other_weights(files: dict[str, bytes]) -> None:
    files["model/model.ubj"] += b"\0"


def other_leaf(files: dict[str, bytes]) -> None:
    files["log/leaves.jsonl"] = files["log/leaves.jsonl"].replace(b'"passed":true', b'"passed":null', 1)


def other_evaluation(files: dict[str, bytes]) -> None:
    files["reports/evaluation.json"] = files["reports/evaluation.json"].replace(b"0.97", b"0.99")


def other_candidate(files: dict[str, bytes]) -> None:
    files["reports/candidate.json"] = files["reports/candidate.json"].replace(b'"d"', b'"e"')


def without_verdict(files: dict[str, bytes]) -> None:
    for name in ("leaves", "proofs"):
        lines = zip(files[f"log/{name}.jsonl"].splitlines(keepends=True), files["kept"].splitlines(), strict=True)
        files[f"log/{name}.jsonl"] = b"".join(line for line, leaf in lines if b'"kind":"gate.verdict"' not in leaf)


@pytest.mark.parametrize(("change", "reason", "text"), [
    (other_weights, "other model", "the files under model/ have the digest sha256:.*, and the bundle speaks of a model with"),
    (other_evaluation, "other model", "its reports/evaluation.json is sha256:.*, the source's log says sha256:"),
    (other_candidate, "tampered", "what the registering step gave has the digest sha256:.*, the log says sha256:"),
    (other_leaf, "tampered", "its log does not verify: tampered: at number .*: its proof does not lead to the root"),
    (lambda files: files.pop("log/proofs.jsonl"), "tampered", "its log does not verify: tampered: proofs.jsonl is missing"),
    (lambda files: files.pop("log/manifest.json"), "tampered", "its log cannot be read: "),
    (lambda files: files.pop("reports/evaluation.json"), "incomplete", "it lacks reports/evaluation.json"),
], ids=["weights", "evaluation", "candidate", "leaf", "no proofs", "no log", "no evaluation"])
@pytest.mark.attack("the source's key signs what its log does not say")
def test_whoever_holds_the_source_s_key_cannot_say_what_its_log_does_not(
        bundle: Path, template: Installation, sources: bundle_sources.Sources, tmp_path: Path, change: Change, reason: str,
        text: str) -> None:
    path = rewritten(bundle, tmp_path / "b.zip", change, real_signer(template))
    with pytest.raises(BundleError, match=text) as found:
        bundle_check.check(path, sources)
    assert found.value.reason == reason


def test_a_verdict_that_is_left_out_is_missed(bundle: Path, template: Installation, sources: bundle_sources.Sources,
                                              tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        files["kept"] = files["log/leaves.jsonl"]
        without_verdict(files)
        del files["kept"]

    path = rewritten(bundle, tmp_path / "b.zip", change, real_signer(template))
    with pytest.raises(BundleError, match=f"{MODEL} version 1 has not met the gates yet") as found:
        bundle_check.check(path, sources)
    assert found.value.reason == "incomplete"


@pytest.mark.parametrize(("name", "value", "reason", "text"), [
    ("version", "2", "incomplete", "version 2 was never signed"),
    ("model", "diagnosis_network", "incomplete", "diagnosis_network version 1 was never signed"),
    ("verdict_event", "00000000-0000-0000-0000-000000000000", "other model", "its verdict is 00000000-.*, the source's log says"),
    ("origin", "audit.example.org/other", "tampered", "the statement speaks of an extract of audit.example.org/other"),
    ("expires_at", datetime(2026, 1, 1, tzinfo=UTC), "expired", "it could be imported until 2026-01-01 00:00 UTC; let"),
    ("made_at", datetime(2222, 1, 1, tzinfo=UTC), "expired", "it says that it was made at 2222-01-01 00:00 UTC, which"),
])
def test_a_statement_that_contradicts_the_log_or_the_calendar(
        bundle: Path, template: Installation, sources: bundle_sources.Sources, tmp_path: Path, name: str, value: Any, reason: str,
        text: str) -> None:
    def change(files: dict[str, bytes]) -> None:
        said = statement_of(files)
        manifest = said.manifest.model_copy(update={name: value})
        resigned(files, BundleStatement(files=said.files, manifest=manifest), real_signer(template))

    with pytest.raises(BundleError, match=text) as found:
        bundle_check.check(rewritten(bundle, tmp_path / "b.zip", change), sources)
    assert found.value.reason == reason


@given(st.data())
@settings(max_examples=25)
@pytest.mark.attack("any byte of a bundle is changed")
def test_no_byte_of_a_bundle_is_free(bundle: Path, template: Installation, data: st.DataObject) -> None:
    log = tuple(checkpoints.keys_in_force(template.log))
    there = {"staging": bundle_sources.Source("staging", (real_signer(template).public,), log)}
    raw = bytearray(bundle.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.zip"
        path.write_bytes(raw)
        with pytest.raises(BundleError):
            bundle_check.check(path, there)


# ---------------------------------------------------------------------------------------------- export


def test_an_export_is_on_record_and_replaces_nothing(template: Installation, tmp_path: Path) -> None:
    source = copied(template, tmp_path / "staging")
    made = source.export(tmp_path / "b.zip", days=2)
    event = source.log.events(kind="bundle.exported")[0].event
    assert (event.model, event.version, event.actor.name) == (MODEL, "1", "olga")
    assert event.body["statement"] == made.checked.statement.digest
    assert made.checked.statement.manifest.expires_at - made.checked.statement.manifest.made_at == timedelta(days=2)
    with pytest.raises(BundleError, match="is there already; a bundle never replaces another file"):
        source.export(tmp_path / "b.zip")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["b.zip", "staging"]


def test_what_is_not_signed_by_a_checkpoint_or_unknown_is_not_exported(template: Installation, tmp_path: Path) -> None:
    source = copied(template, tmp_path / "staging")
    with pytest.raises(BundleError, match="the audit log knows no decision about diagnosis_classifier version 7"):
        source.export(tmp_path / "b.zip", version="7")
    source.record("gate.verdict", "validation", "v2", "verdict", source.log.events(kind="gate.verdict")[0].event.body | {
        "passed": False, "gates": [{"name": "metric.recall", "passed": False, "evidence": "low"}]}, version="1")
    with pytest.raises(AuditError, match="1 events about diagnosis_classifier version 1 came after the newest checkpoint"):
        source.export(tmp_path / "b.zip")
    source.checkpoint()
    with pytest.raises(BundleError, match="version 1 did not pass its gates: metric.recall"):
        source.export(tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_sources_say_what_is_wrong_with_them(tmp_path: Path, template: Installation) -> None:
    with pytest.raises(ConfigError, match="let AIRGATE_BUNDLE_SOURCES name a file"):
        bundle_sources.read(None)
    path = tmp_path / "sources.yaml"
    for text, message in (("staging: {keys: [x]}", "staging.log: Field required. Allowed: for each environment"),
                          ("staging: {keys: [x], log: [y]}", "staging: 'x' is no public key"),
                          (f"production: {{keys: [{template.model_key()}], log: [y]}}", "production: "),
                          ("a: {}\na: {}", "is no YAML: .*key 'a' is given twice; keep one"),
                          (": :", "is no YAML|should be a valid dictionary")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            bundle_sources.read(path)
