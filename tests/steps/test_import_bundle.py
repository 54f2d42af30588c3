"""A model out of an archive: its files, its reports, and what is refused."""

from pathlib import Path

import pytest
from tests.steps.model_support import GATES, LINEAGE, QUIET, WINDOW, context

from airgate.contracts import plain_zip
from airgate.contracts.payloads import Candidate
from airgate.contracts.step import ArtifactRef
from airgate.errors import ArtifactError, DigestError
from airgate.steps import import_bundle
from airgate.steps.manifest import manifest, manifest_digest
from airgate.steps.model_xgboost import XGBoostModel

pytestmark = QUIET


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    import pandas as pd
    from xgboost import DMatrix, train

    data = pd.DataFrame({"a": [0.0, 1.0] * 10, "b": [1.0, 0.0] * 10})
    booster = train({"objective": "binary:logistic", "nthread": 1}, DMatrix(data.to_numpy(), label=[0, 1] * 10, nthread=1), 2)
    folder = tmp_path_factory.mktemp("model") / "m"
    XGBoostModel(booster, ["a", "b"], "malignant").save(folder)
    return folder


def told(folder: Path, model: Path, **more) -> dict:
    """A bundle in the store, as the task `take` tells the steps of it."""
    files = [(f"model/{path.name}", path) for path in sorted(model.iterdir())]
    plain_zip.write(folder / "b.zip", [*files, ("reports/evaluation.json", b"{}"), ("log/leaves.jsonl", b"")])
    ref = context(folder).store.put_file(folder / "b.zip")
    digest = manifest_digest(manifest(model))
    candidate = Candidate(model="diagnosis_classifier", version="3", digest=digest, gates_hash=GATES, window=WINDOW, **LINEAGE,
                          mlflow_run_id="r", training_run="t")
    return {"event_id": "e", "bundle": ref.model_dump(mode="json"), "model_digest": digest, "evaluation": GATES,
            "candidate": candidate.model_dump(mode="json"), **more}


def test_the_model_and_the_reports_come_out(tmp_path, model_folder):
    ctx = context(tmp_path)
    model = import_bundle.unpack(told(tmp_path, model_folder), ctx)
    assert model.features == ["a", "b"]
    assert ctx.facts == LINEAGE
    assert ctx.attachments["evaluation.json"].read_bytes() == b"{}"
    assert list(ctx.attachments) == ["evaluation.json"]


def test_an_archive_that_was_changed_in_the_store_is_refused(tmp_path, model_folder):
    bundle = told(tmp_path, model_folder)
    stored = Path(ArtifactRef.model_validate(bundle["bundle"]).uri.removeprefix("file://"))
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"\1")
    with pytest.raises(DigestError, match="expected sha256:.*, found sha256:"):
        import_bundle.unpack(bundle, context(tmp_path))


def test_files_that_are_not_the_model_s_are_refused(tmp_path, model_folder):
    with pytest.raises(ArtifactError, match="the bundle's model has the digest sha256:[0-9a-f]{64}, verified was sha256:aaaa"):
        import_bundle.unpack(told(tmp_path, model_folder, model_digest=GATES), context(tmp_path))


@pytest.mark.attack("a pickle that its source signed")
def test_a_pickle_that_its_source_signed_is_refused(tmp_path, model_folder):
    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in model_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "model.ubj").write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94.")
    with pytest.raises(ArtifactError):
        import_bundle.unpack(told(tmp_path, folder), context(tmp_path))


def test_another_model_than_the_bundle_s_is_not_registered(tmp_path, model_folder):
    bundle = told(tmp_path, model_folder)
    ctx = context(tmp_path, inputs={"model": ArtifactRef(uri="file:///x", digest=GATES, kind="model", size=1)})
    with pytest.raises(ArtifactError, match="the step before gave the model sha256:a{64}; the bundle's is sha256:"):
        import_bundle.register(import_bundle.unpack(bundle, context(tmp_path)), bundle, GATES, ctx)
