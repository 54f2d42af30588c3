"""A version's files in MLflow: encrypted, verified over the plain bytes, rotated where they lie, and servable with the keys."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pytest
from tests.encryption.conftest import NEW, OLD, new_mlflow, ring
from tests.steps.model_support import GATES, LINEAGE, QUIET, changed, context, open_run, rows, spec_of

from airgate import cli
from airgate.encryption import mlflow_copies
from airgate.encryption.envelope import EnvelopeError
from airgate.encryption.folder import open_folder, seal_folder
from airgate.encryption.keys import WrongKeyError
from airgate.steps import download, evaluate, register, train_xgboost
from airgate.steps.features import features_of
from airgate.steps.store import manifest, manifest_digest

pytestmark = QUIET


def test_a_folder_comes_back_and_nothing_added_does(tmp_path, old):
    (tmp_path / "plain" / "sub").mkdir(parents=True)
    (tmp_path / "plain" / "a").write_bytes(b"weights")
    (tmp_path / "plain" / "sub" / "b").write_bytes(b"header")
    sealed = seal_folder(tmp_path / "plain", tmp_path / "sealed", old)
    stored = [path.read_bytes() for path in sealed.rglob("*") if path.is_file()]
    assert len(stored) == 4 and not any(b"weights" in data or b"header" in data for data in stored)
    assert manifest(open_folder(sealed, tmp_path / "back", "m", old)) == manifest(tmp_path / "plain")
    (sealed / "a.enc").rename(sealed / "c.enc")
    with pytest.raises(EnvelopeError, match=r"m/c\.enc: segment 0 does not open"):
        open_folder(sealed, tmp_path / "renamed", "m", old)
    (sealed / "c.enc").rename(sealed / "a.enc")
    (sealed / "pickle").write_bytes(b"x")
    with pytest.raises(EnvelopeError, match="m/pickle: a file that is not encrypted, in a folder that is. Somebody added it"):
        open_folder(sealed, tmp_path / "added", "m", old)


def test_the_folder_is_where_register_puts_it():
    assert mlflow_copies.FOLDER == download.FOLDER


def test_a_version_is_encrypted_in_mlflow(tmp_path, monkeypatch, capsys):
    uri, spec = new_mlflow(tmp_path), changed(spec_of(), folds=2, parameters={"n_estimators": 5})
    data = features_of(spec.name)(rows())
    model = train_xgboost.fit(data, context(tmp_path, spec))
    evaluation = evaluate.evaluate(model, rows(), context(tmp_path, spec))
    ring_file = tmp_path / "keys"
    ring_file.write_text(OLD)
    monkeypatch.setenv("AIRGATE_STORE_KEYS", f"file:{ring_file}")
    monkeypatch.setenv("AIRGATE_ARTIFACT_STORE", f"file://{tmp_path}/artifacts")
    monkeypatch.setenv("AIRGATE_MLFLOW_URI", uri)
    ctx = context(tmp_path, spec, task="register", tracking_uri=uri, mlflow_run_id=open_run(uri), facts=LINEAGE)
    found = register.register(model, data, evaluation, GATES, ctx)
    model.save(tmp_path / "plain")
    weights = (tmp_path / "plain" / "model.ubj").read_bytes()
    where = (uri, spec.name, found["version"])
    folder = stored(uri, *where[1:])
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["airgate_model.json.enc", "keys", "model.ubj.enc"]
    assert not any(weights[:64] in path.read_bytes() for path in tmp_path.glob("artifacts*/**/*") if path.is_file())

    fetched = download.download(*where, tmp_path / "a")
    assert fetched.digest == found["digest"] == manifest_digest(manifest(tmp_path / "plain"))
    served = mlflow.pyfunc.load_model(mlflow.artifacts.download_artifacts(f"models:/{spec.name}/{found['version']}",
                                                                          dst_path=str(tmp_path / "all")))
    np.testing.assert_allclose(served.predict(data[model.features]), model.predict_proba(data), rtol=0, atol=1e-12)

    ring_file.write_text(f"{NEW}\n{OLD}")
    before = {path.name: path.read_bytes() for path in folder.glob("*.enc")}
    assert cli.main(["store", "rotate"]) == 0
    assert "2 data keys wrapped with 2026-02, 0 were so already, 0 cannot be read" in capsys.readouterr().out
    assert before == {path.name: path.read_bytes() for path in folder.glob("*.enc")}
    ring_file.write_text(NEW)
    assert cli.main(["store", "status"]) == 0
    assert "1 versions are encrypted in MLflow\nkey 2026-02: wraps 2 data keys; current" in capsys.readouterr().out
    assert download.download(*where, tmp_path / "b").digest == found["digest"]
    assert mlflow_copies.rotate(uri, ring(OLD)).failed[0].startswith(f"models:/{spec.name}/{found['version']}: ")

    monkeypatch.delenv("AIRGATE_STORE_KEYS")
    with pytest.raises(WrongKeyError, match=f"models:/{spec.name}/{found['version']} is stored encrypted, and this process"):
        download.download(*where, tmp_path / "c")


def stored(uri: str, name: str, version: str) -> Path:
    """Where MLflow keeps a version's model folder on this disk."""
    client = mlflow.MlflowClient(uri)
    model_id = client.get_model_version(name, version).source.removeprefix("models:/")
    location = client.get_logged_model(model_id).artifact_location
    return Path(unquote(urlsplit(location).path), mlflow_copies.FOLDER)
