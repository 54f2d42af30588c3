"""Training a network: deterministic on CPU, leaves torch's settings alone, same rules for rows and parameters."""

import multiprocessing

import pytest
import torch
from tests.steps.model_support import changed, context, rows, spec_of

from airgate.contracts.model_spec import METRICS
from airgate.contracts.resources import Resources
from airgate.errors import DataError, SpecError
from airgate.steps import train_torch
from airgate.steps.model import Model
from airgate.steps.store import manifest, manifest_digest
from models.diagnosis_network.steps import features

QUICK = {"hidden": [8], "epochs": 15}


@pytest.fixture(scope="module")
def data():
    return features(rows())


def quick(**parameters):
    return changed(spec_of("diagnosis_network"), folds=3, parameters={**QUICK, **parameters})


def digest(model, folder):
    model.save(folder)
    return manifest_digest(manifest(folder))


def test_a_network_learns_and_leaves_its_metrics(data, tmp_path):
    ctx = context(tmp_path, quick())
    model = train_torch.fit(data, ctx)
    assert ctx.metrics["cv_roc_auc_mean"] > 0.95
    assert set(ctx.metrics) == {f"cv_{m}_{s}" for m in METRICS for s in ("mean", "std")} | {"train_loss"}
    assert ctx.facts["device"] == "cpu"
    assert ctx.attachments["training_loss.svg"].read_text().startswith("<svg")
    scores = model.predict_proba(data)
    assert scores[data["malignant"] == 1].mean() > 0.7 > 0.3 > scores[data["malignant"] == 0].mean()


def test_the_same_seed_gives_the_same_bytes_whatever_torch_did_before(data, tmp_path):
    first = digest(train_torch.fit(data, context(tmp_path, quick())), tmp_path / "a")
    torch.rand(17)
    assert digest(train_torch.fit(data.sample(frac=1, random_state=1), context(tmp_path, quick())), tmp_path / "b") == first
    assert digest(train_torch.fit(data, context(tmp_path, changed(quick(), seed=8))), tmp_path / "c") != first


def test_torchs_own_settings_are_given_back(data, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    before = torch.get_num_threads()
    train_torch.fit(data, context(tmp_path, quick(epochs=1)))
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()


def one_of_two(rank, folder, data, spec):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    ctx = context(folder / str(rank), spec)
    train_torch.fit_together(data, ctx).save(folder / f"model-{rank}")
    (folder / f"device-{rank}").write_text(ctx.facts["device"])
    torch.distributed.destroy_process_group()


def test_two_processes_train_together_what_one_trains_alone(data, tmp_path, monkeypatch):
    """One of 273 rows is left over for the last batch of 8: a process without a row of it takes part all the same."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    spec = changed(quick(), folds=2, parameters={"hidden": [8], "epochs": 2, "batch_size": 8})
    alone = train_torch.fit(data, context(tmp_path, spec))
    # Forked, so that they need not load torch again; tests/steps/test_launch.py starts them as a step does.
    both = [multiprocessing.get_context("fork").Process(target=one_of_two, args=(rank, tmp_path, data, spec)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    first, second = (Model.load(tmp_path / f"model-{rank}") for rank in (0, 1))
    assert manifest_digest(manifest(tmp_path / "model-0")) == manifest_digest(manifest(tmp_path / "model-1"))
    assert abs(first.predict_proba(data) - alone.predict_proba(data)).max() < 1e-5
    assert (second.predict_proba(data) == first.predict_proba(data)).all()
    assert (tmp_path / "device-0").read_text() == "2 x cpu"


def test_a_gpu_that_is_not_there_is_said_and_not_needed(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    spec = quick(epochs=1).model_copy(update={"steps": {"train": Resources(gpu=2)}})
    ctx = context(tmp_path, spec)
    train_torch.fit(data, ctx)
    assert ctx.facts["device"] == "cpu"
    assert "asks for 2 GPU for step 'train' but none is visible here: training on CPU" in capsys.readouterr().out


def test_a_constant_column_and_missing_values_do_no_harm(data, tmp_path):
    ctx = context(tmp_path, quick())
    train_torch.fit(data.assign(same=1.0, mean_area=data["mean_area"].where(data.index % 7 > 0)), ctx)
    assert ctx.metrics["cv_roc_auc_mean"] > 0.95


@pytest.mark.parametrize(("parameters", "said"), [
    ({"epoch": 3}, "unknown parameter 'epoch'; did you mean 'epochs'"),
    ({"hidden": [0]}, "hidden: Input should be greater than 0"),
    ({"hidden": 3}, "hidden: Input should be a valid list"),
])
def test_wrong_parameters_are_refused(data, tmp_path, parameters, said):
    with pytest.raises(SpecError, match=said):
        train_torch.fit(data, context(tmp_path, quick(**parameters)))


def test_a_column_without_any_value_is_refused(data, tmp_path):
    with pytest.raises(DataError, match="mean_area"):
        train_torch.fit(data.assign(mean_area=float("nan")), context(tmp_path, quick()))


def test_one_class_is_refused(data, tmp_path):
    with pytest.raises(DataError, match="only one class"):
        train_torch.fit(data.assign(malignant=1), context(tmp_path, quick()))
