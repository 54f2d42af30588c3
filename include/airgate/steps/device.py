"""Which GPUs a step computes on: those that model.yaml grants it and that this process can use."""

import os
from pathlib import Path

from airgate import settings
from airgate.errors import ConfigError, StepError
from airgate.steps import training
from airgate.steps.context import StepContext

HIDDEN = ("", "-1", "none", "void", "NoDevFiles")


def nvidia_devices(folder: Path = Path("/dev")) -> int:
    """Count the GPUs that this process may use: device files, less what CUDA_VISIBLE_DEVICES hides.

    See the CUDA C++ programming guide on CUDA_VISIBLE_DEVICES; a container has the device files of its own GPUs only.
    """
    files = len(list(folder.glob("nvidia[0-9]*")))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return files
    return 0 if named.strip() in HIDDEN else min(files, len(named.split(",")))


def granted(ctx: StepContext, library: str, *, cuda: bool, visible: int) -> int:
    """How many GPUs the running step uses; 0 is the CPU.

    `cuda` says whether `library` was built for GPUs, `visible` how many this process sees. On one machine a GPU that is not
    there is said and not needed. A pod, though, was given what it asked for and holds it, so there it is an error:
    ConfigError for an image without CUDA, StepError for a node whose devices do not work.
    """
    resources = training.resources(ctx)
    asked = resources.gpu
    if not asked:
        return 0
    usable = min(asked, visible) if cuda else 0
    if usable == asked:
        return asked
    step, image = ctx.run.task_id.rsplit(".", 1)[-1], ctx.run.image
    if settings.load().runtime != "kubernetes":
        ctx.progress(f"model.yaml asks for {asked} GPU for step '{step}' but {usable or 'none'} is visible here: "
                     f"training on {'CPU' if not usable else 'what there is'}")
        return usable
    if not cuda:
        raise ConfigError(f"step '{step}' holds {asked} x {resources.gpu_resource}, but {library} in image {image} is built for "
                          "CPU only. Build the steps' image with --build-arg CUDA=1 and name it in AIRGATE_STEPS_IMAGE or as "
                          "this step's `image` in model.yaml, or take `gpu` out there.")
    raise StepError(f"step '{step}' holds {asked} x {resources.gpu_resource} but sees {visible}. The node's driver or device "
                    "plugin does not give the container what Kubernetes counted: look at the node, then try again.")
