"""Train a small torch classifier: on a GPU where there is one, else on CPU, where one seed gives the same bytes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import torch._dynamo  # every optimiser imports it on first use, 3.5 s: here a warm parent process pays that once
from numpy.typing import NDArray
from pydantic import Field

from airgate.contracts.base import Contract
from airgate.steps import plot, training
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
    column's mean. On CPU the same data, parameters and seed give the same bytes; a GPU may differ in the last digits.
    Raises DataError for unusable rows (see `training.training_rows`), SpecError for wrong parameters.
    """
    parameters = training.parameters(ctx, TorchParameters)
    rows = training.training_rows(data, ctx)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ctx.fact("device", torch.cuda.get_device_name() if device == "cuda" else "cpu")
    seed, label = ctx.spec.training.seed, ctx.spec.data.label

    def fit_fold(values: Floats, labels: Floats) -> Any:
        network, _ = _train(values, labels, parameters, seed, device)
        return TorchModel(network, parameters.hidden, rows.features, label)._probabilities

    with _deterministic(max(1, int(training.resources(ctx).cpu))):
        training.cross_validate(rows, ctx, fit_fold)
        ctx.progress(f"training the final network: {parameters.epochs} epochs on {len(rows.labels)} rows on {device}")
        network, losses = _train(rows.values, rows.labels, parameters, seed, device)
    ctx.log_metric("train_loss", losses[-1])
    curve = ctx.workdir / "training_loss.svg"
    epochs = [float(number) for number in range(1, len(losses) + 1)]
    panel = plot.Panel("Training loss", "epoch", "log loss", [plot.Line("", epochs, losses)])
    curve.write_text(plot.svg([panel]), encoding="utf-8")
    ctx.attach(curve.name, curve)
    return TorchModel(network, parameters.hidden, rows.features, label)


def _train(values: Floats, labels: Floats, parameters: TorchParameters, seed: int,
           device: str) -> tuple[Perceptron, list[float]]:
    """Train one network; give it with the mean loss of each epoch. Uses random numbers of its own, from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Perceptron(values.shape[1], parameters.hidden)
    order = torch.Generator().manual_seed(seed)
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    network.mean.copy_(torch.from_numpy(mean))
    network.scale.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)))
    network.to(device).train()
    inputs, target = torch.from_numpy(values).to(device), torch.from_numpy(labels).to(device, torch.float32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=parameters.learning_rate,
                                  weight_decay=parameters.weight_decay)
    cost = torch.nn.BCEWithLogitsLoss()
    losses: list[float] = []
    for _ in range(parameters.epochs):
        total = 0.0
        for batch in torch.randperm(len(target), generator=order).to(device).split(parameters.batch_size):
            optimizer.zero_grad()
            loss = cost(network(inputs[batch]), target[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(target))
    return network, losses


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
