"""Bundles: what is in one, what is verified of it, and every attack that is refused with its reason."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.lifecycle.bundle_support import MLFLOW_WARNINGS, MODEL, Installation, candidate_of, trained_source

from airgate.lifecycle import bundle_check, bundle_sources

pytestmark = [MLFLOW_WARNINGS]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Installation:
    return trained_source(tmp_path_factory.mktemp("bundles") / "staging", mlflow_template)


@pytest.fixture(scope="session")
def bundle(template: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle; nobody changes it."""
    path = tmp_path_factory.mktemp("bundle") / "b.zip"
    template.export(path)
    return path


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
