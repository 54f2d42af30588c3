"""Which GPUs a step takes: those it was granted; on one machine none is fine, in a pod that holds them it is an error."""

import pytest
from tests.steps.model_support import context, spec_of

from airgate.contracts.resources import Resources
from airgate.errors import ConfigError, StepError
from airgate.steps import device


@pytest.fixture
def ctx(tmp_path):
    def granted(gpu):
        spec = spec_of().model_copy(update={"steps": {"train": Resources(gpu=gpu)}})
        return context(tmp_path, spec, task="group.train")
    return granted


@pytest.mark.parametrize(("asked", "cuda", "visible", "used"), [(0, True, 8, 0), (1, True, 8, 1), (4, True, 4, 4)])
@pytest.mark.parametrize("runtime", ["local", "kubernetes"])
def test_what_is_granted_is_used_and_no_more(ctx, monkeypatch, capsys, runtime, asked, cuda, visible, used):
    monkeypatch.setenv("AIRGATE_RUNTIME", runtime)
    assert device.granted(ctx(asked), "torch", cuda=cuda, visible=visible) == used
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("cuda", "visible", "used", "said"), [
    (False, 4, 0, "asks for 4 GPU for step 'train' but none is visible here: training on CPU"),
    (True, 0, 0, "but none is visible here: training on CPU"),
    (True, 2, 2, "but 2 is visible here: training on what there is")])
def test_on_one_machine_what_is_missing_is_said(ctx, monkeypatch, capsys, cuda, visible, used, said):
    monkeypatch.setenv("AIRGATE_RUNTIME", "local")
    assert device.granted(ctx(4), "torch", cuda=cuda, visible=visible) == used
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("cuda", "visible", "kind", "said"), [
    (False, 2, ConfigError, r"step 'train' holds 2 x nvidia.com/gpu, but torch in image local is built for CPU only. Build "
                            r"the steps' image with --build-arg CUDA=1 and name it in AIRGATE_STEPS_IMAGE or as this step's"),
    (True, 1, StepError, r"step 'train' holds 2 x nvidia.com/gpu but sees 1. The node's driver or device plugin")])
def test_a_pod_that_cannot_use_what_it_holds_fails(ctx, monkeypatch, cuda, visible, kind, said):
    monkeypatch.setenv("AIRGATE_RUNTIME", "kubernetes")
    with pytest.raises(kind, match=said):
        device.granted(ctx(2), "torch", cuda=cuda, visible=visible)


@pytest.mark.parametrize(("named", "count"), [(None, 2), ("", 0), ("-1", 0), ("void", 0), ("0", 1), ("0,1", 2), ("0,1,2", 2)])
def test_devices_are_counted_as_cuda_does(tmp_path, monkeypatch, named, count):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert device.nvidia_devices(tmp_path) == count
