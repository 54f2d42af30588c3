"""Train a small torch classifier: on the GPUs that model.yaml asks for, else on CPU, where one seed gives the same bytes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, cast

import numpy as np
import pandas as pd
import torch
import torch._dynamo  # every optimiser imports it on first use, 3.5 s: here a warm parent process pays that once
from numpy.typing import NDArray
from pydantic import Field
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from airgate.contracts.base import Contract
from airgate.steps import device, launch, plot, training
from airgate.steps.context import StepContext
from airgate.steps.model_torch import Perceptron, TorchModel

Floats = NDArray[np.float64]


class TorchParameters(Contract):
    """`training.parameters` of a model trained here. `hidden` are layer sizes; `epochs` passes over all rows."""

    hidden: list[Annotated[int, Field(gt=0, le=65536)]] = Field(default=[32, 16], max_length=8)
    epochs: int = Field(default=60, ge=1, le=100_000)
    learning_rate: float = Field(default=0.01, gt=0, le=1)
    batch_size: int = Field(default=64, ge=1)
    weight_decay: float = Field(default=0.01, ge=0, le=10)


def fit(data: pd.DataFrame, ctx: StepContext) -> TorchModel:
    """Cross-validate, log the folds' metrics, then train on all rows outside the holdout.

    `data` is what features() returned: id, label, and one numeric column per input; a missing value counts as the
    column's mean. On CPU the same data, parameters and seed give the same bytes; a GPU may differ in the last digits. With
    several GPUs each takes its part of every batch, so their number changes no more than that.
    Raises DataError for unusable rows (see `training.training_rows`), SpecError for wrong parameters, and what
    `device.granted` raises.
    """
    parameters, rows = training.parameters(ctx, TorchParameters), training.training_rows(data, ctx)
    gpus = device.granted(ctx, "torch", cuda=torch.version.cuda is not None, visible=torch.cuda.device_count())
    if gpus > 1:
        return cast("TorchModel", launch.train_on_each(fit_together, data, ctx, gpus))
    return _fit(rows, parameters, ctx, "cuda" if gpus else "cpu")


def fit_together(data: pd.DataFrame, ctx: StepContext) -> TorchModel:
    """Do what `fit` does, as one process of an open torch.distributed group: each gets the same model."""
    where = f"cuda:{torch.cuda.current_device()}" if distributed.get_backend() == "nccl" else "cpu"
    return _fit(training.training_rows(data, ctx), training.parameters(ctx, TorchParameters), ctx, where)


def _fit(rows: training.TrainingRows, parameters: TorchParameters, ctx: StepContext, where: str) -> TorchModel:
    _, processes = _place()
    name = "cpu" if where == "cpu" else torch.cuda.get_device_name(where)
    ctx.fact("device", name if processes == 1 else f"{processes} x {name}")
    seed, label = ctx.spec.training.seed, ctx.spec.data.label

    def fit_fold(values: Floats, labels: Floats) -> Any:
        network, _ = _train(values, labels, parameters, seed, where)
        return TorchModel(network, parameters.hidden, rows.features, label)._probabilities

    with _deterministic(max(1, int(training.resources(ctx).cpu) // processes)):
        training.cross_validate(rows, ctx, fit_fold)
        ctx.progress(f"training the final network: {parameters.epochs} epochs on {len(rows.labels)} rows on {name}")
        network, losses = _train(rows.values, rows.labels, parameters, seed, where)
    ctx.log_metric("train_loss", losses[-1])
    curve = ctx.workdir / "training_loss.svg"
    epochs = [float(number) for number in range(1, len(losses) + 1)]
    panel = plot.Panel("Training loss", "epoch", "log loss", [plot.Line("", epochs, losses)])
    curve.write_text(plot.svg([panel]), encoding="utf-8")
    ctx.attach(curve.name, curve)
    return TorchModel(network, parameters.hidden, rows.features, label)


def _train(values: Floats, labels: Floats, parameters: TorchParameters, seed: int,
           where: str) -> tuple[Perceptron, list[float]]:
    """Train one network; give it with the mean loss of each epoch. Uses random numbers of its own, from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Perceptron(values.shape[1], parameters.hidden)
    order = torch.Generator().manual_seed(seed)
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    network.mean.copy_(torch.from_numpy(mean))
    network.scale.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)))
    network.to(where).train()
    inputs, target = torch.tensor(values, device=where), torch.tensor(labels, device=where, dtype=torch.float32)
    rank, processes = _place()
    learner = DistributedDataParallel(network, forward_sync_buffers=False) if processes > 1 else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=parameters.learning_rate,
                                  weight_decay=parameters.weight_decay)
    cost = torch.nn.BCEWithLogitsLoss(reduction="sum")
    losses: list[float] = []
    for _ in range(parameters.epochs):
        total = torch.zeros((), dtype=torch.float64, device=where)
        for batch in torch.randperm(len(target), generator=order).to(where).split(parameters.batch_size):
            optimizer.zero_grad()
            own = batch[rank::processes]
            loss = cost(learner(inputs[own]), target[own])
            # DistributedDataParallel takes the mean over processes: this makes it the mean over the whole batch's rows.
            (loss * (processes / len(batch))).backward()
            optimizer.step()
            total += loss.detach()
        if processes > 1:
            distributed.all_reduce(total)
        losses.append(total.item() / len(target))
    return network, losses


def _place() -> tuple[int, int]:
    """Which process of how many this one is."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


@contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    """Let torch use only reproducible algorithms and this many threads; give back what was set before."""
    before = (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())
    # cuBLAS is reproducible only with a fixed workspace, and torch refuses to run on a GPU without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])
