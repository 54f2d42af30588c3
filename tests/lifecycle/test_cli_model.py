"""`airgate model verify`, `sign`, `keygen`, `key`, `export-signature`, on a real log and a real MLflow."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.lifecycle.conftest import CONTENTS, DIGEST, MODEL, Context, House
from tests.lifecycle.test_promotion import promote

from airgate import cli
from airgate.contracts.model_spec import ModelSpec
from airgate.signatures import keys

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
NAMED = f"{MODEL}@1"


@pytest.fixture
def files(mlflow_template: Path) -> Iterator[Path]:
    """The version's files in MLflow's store, put back after the test."""
    folder = mlflow_template.parent / "model" / "artifacts" / "model"
    yield folder
    shutil.rmtree(folder)
    folder.mkdir()
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["model", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_version_in_production_is_verified_in_full(
        house: House, spec: ModelSpec, context: Context, capsys: pytest.CaptureFixture[str], files: Path) -> None:
    promote(house, spec, context, "1", "p1")
    code, said = run(capsys, "verify", NAMED)
    assert code == 0, said
    assert said.count("ok ") == 8
    assert "files         2 files are those that were signed" in said
    assert said.endswith(f"{NAMED}: verified in production\n")
    (files / "model.ubj").write_bytes(b"weighty")
    (files / "extra.pkl").write_bytes(b"x")
    code, said = run(capsys, "verify", NAMED)
    assert code == 1
    assert "FAILED  files" in said and "changed: model.ubj; not signed: extra.pkl" in said
    assert said.endswith(f"{NAMED}: NOT VERIFIED in production\n")
    assert run(capsys, "verify", "--without-files", NAMED)[0] == 0


@pytest.mark.attack("a version's files: MLflow says that they lie elsewhere than was signed, for the command line to fetch")
def test_files_are_fetched_from_where_the_registration_says(
        house: House, spec: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "verify", NAMED)
    assert code == 1 and "FAILED  files         not fetched: no signature that counts says where they are" in said
    house.trained(spec)
    with closing(sqlite3.connect(house.folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE model_versions SET source = 'http://127.0.0.1:9/x' WHERE version = 1")
    for verb in ("verify", "sign"):
        code, said = run(capsys, verb, NAMED)
        assert code == 2 and f"models:/{MODEL}/1 is not fetched: its files are not where its signed registration says" in said


def test_a_version_in_no_stage(house: House, spec: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    house.trained(spec)
    code, said = run(capsys, "verify", NAMED)
    assert code == 0 and said.endswith(f"{NAMED}: verified\n"), said
    code, said = run(capsys, "verify", "--stage", "production", NAMED)
    assert code == 1 and "FAILED  stage         production holds no version by the audit log." in said


def test_signing_under_another_key(
        house: House, spec: ModelSpec, context: Context, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    promote(house, spec, context, "1", "p1")
    old = run(capsys, "key")[1].splitlines()[-1]
    new = house.folder / "new.pem"
    assert run(capsys, "keygen", str(new))[0] == 0
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{new}")  # no signature counts any more: as if there were none
    code, said = run(capsys, "verify", NAMED)
    assert code == 1 and "which is not trusted here" in said
    code, said = run(capsys, "sign", NAMED)
    assert code == 2 and "bears no signature that counts here" in said
    code, said = run(capsys, "sign", "--before", "3", NAMED)
    assert code == 2 and "--before 3: this log has no checkpoint over 3 events; it has none." in said
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", old)
    code, said = run(capsys, "sign", NAMED)
    assert code == 0, said
    for what in ("promotion", "move"):
        assert f"signed: {what} of {NAMED}, by development+" in said
    assert "approved by ana (ml_engineer) and omar (risk_officer)" in said
    assert run(capsys, "verify", NAMED)[0] == 0
    assert "is signed already, by this installation's key" in run(capsys, "sign", NAMED)[1]
    event = house.log.events(kind="model.signed")[-1].event
    assert (event.source, event.actor.kind) == ("cli", "outside")


def test_a_key_is_changed_while_the_old_one_still_counts(
        house: House, spec: ModelSpec, context: Context, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    promote(house, spec, context, "1", "p1")
    old = run(capsys, "key")[1].splitlines()[-1]  # after what the promotion has logged
    run(capsys, "keygen", str(house.folder / "new.pem"))
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{house.folder}/new.pem")
    monkeypatch.setenv("AIRGATE_MODEL_TRUST", old)
    assert run(capsys, "verify", "--without-files", NAMED)[0] == 0
    assert run(capsys, "sign", NAMED)[0] == 0
    monkeypatch.delenv("AIRGATE_MODEL_TRUST")
    code, said = run(capsys, "verify", "--without-files", NAMED)
    assert code == 0 and old.rpartition("+")[0] not in said


def test_what_has_no_record_is_not_signed(
        house: House, spec: ModelSpec, capsys: pytest.CaptureFixture[str], files: Path) -> None:
    code, said = run(capsys, "sign", NAMED)
    assert code == 2 and "has no register step of diagnosis_classifier version 1, so there is nothing to sign it on" in said
    house.trained(spec, signed=False)
    (files / "model.ubj").write_bytes(b"other")
    code, said = run(capsys, "sign", NAMED)
    assert code == 2 and f"the register step recorded {DIGEST}. They were changed: do not sign this version" in said
    assert house.log.events(kind="model.signed") == []


def test_a_move_without_approvals_is_not_signed(house: House, spec: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    house.trained(spec)
    house.succeeded(f"{MODEL}_promotion", "p", "apply", {"to_version": "1", "model_digest": DIGEST}, kind="stage.moved")
    code, said = run(capsys, "sign", NAMED)
    assert code == 2 and "no approved request behind the promotion of version" in said


@pytest.mark.parametrize("named", ["diagnosis_classifier", "diagnosis_classifier@production", "../x@1", "@1", f"{MODEL}@-1"])
def test_what_names_no_version(named: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "verify", "--", named)
    assert code == 2 and "names no version; allowed: MODEL@VERSION, such as diagnosis_classifier@3" in said


def test_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_ENVIRONMENT", "staging")
    code, said = run(capsys, "keygen", str(tmp_path / "k.pem"))
    assert code == 0 and (tmp_path / "k.pem").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("AIRGATE_MODEL_KEY", f"file:{tmp_path}/k.pem")
    shown = run(capsys, "key")[1].strip()
    assert keys.PublicKey.parse(shown).name == "staging" and said.strip().endswith(shown)
    assert "is there already; a key is never overwritten" in run(capsys, "keygen", str(tmp_path / "k.pem"))[1]
    monkeypatch.delenv("AIRGATE_MODEL_KEY")
    assert "no key signs models: set AIRGATE_MODEL_KEY" in run(capsys, "key")[1]


def test_openssfs_tool_verifies_what_was_exported(
        house: House, spec: ModelSpec, capsys: pytest.CaptureFixture[str], files: Path, tmp_path: Path) -> None:
    house.trained(spec)
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (tmp_path / "ec.pub").write_bytes(key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    signature = tmp_path / "model.sig"
    words = ("export-signature", NAMED, str(signature), "--key")
    code, said = run(capsys, *words, f"file:{tmp_path}/ec.pem")
    assert code == 0, said
    tool = [sys.executable, "-m", "model_signing", "verify", "key", str(files), "--signature", str(signature),
            "--public_key", str(tmp_path / "ec.pub")]
    found = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "Verification succeeded" in found.stdout, found.stderr
    (files / "extra").write_text("x")
    found = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert found.returncode != 0 and "Extra files found" in found.stdout + found.stderr
    assert "not signed: extra" in run(capsys, *words, f"file:{tmp_path}/ec.pem")[1]
    (files / "extra").unlink()
    assert "cannot be written: File exists" in run(capsys, *words, f"file:{tmp_path}/ec.pem")[1]
    assert "holds no key on the curve P-256" in run(capsys, *words, f"file:{house.folder}/model-key.pem")[1]
