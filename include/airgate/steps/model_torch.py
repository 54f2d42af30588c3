"""A small torch classifier as a `Model`: a multilayer perceptron with its input scaling, kept in safetensors."""

from itertools import pairwise
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load, save

from airgate.errors import ArtifactError
from airgate.steps.model import Model, ModelHeader


class Perceptron(torch.nn.Module):
    """Linear layers with ReLU between them. Takes raw columns, shape (n, inputs); gives logits, shape (n,).

    `mean` and `scale` belong to the weights, so whoever has the file cannot forget to standardise. A missing value
    counts as the column's mean in training.
    """

    def __init__(self, inputs: int, hidden: list[int]) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        layers: list[torch.nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1))
        # float64: an area reaches thousands; rounding to float32 only after scaling keeps what differs between rows.
        self.register_buffer("mean", torch.zeros(inputs, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(inputs, dtype=torch.float64))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Logits of class 1."""
        scaled = torch.nan_to_num((values - self.mean) / self.scale, nan=0.0).to(torch.float32)
        return cast("torch.Tensor", self.layers(scaled)).squeeze(-1)


class TorchModel(Model):
    """A perceptron on CPU. It is trained where there is a GPU; a few thousand weights need none to predict."""

    kind = "torch"
    weights_file = "model.safetensors"
    weights_format = "safetensors"

    def __init__(self, network: Perceptron, hidden: list[int], features: list[str], label: str) -> None:
        super().__init__(features, label)
        self.network = network.to("cpu").eval()
        self.hidden = list(hidden)

    def _probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(np.ascontiguousarray(values)))
        scores: NDArray[np.float64] = torch.sigmoid(logits.to(torch.float64)).numpy()
        return scores

    def _architecture(self) -> dict[str, JsonValue]:
        return {"hidden": list(self.hidden)}

    def _write(self, path: Path) -> None:
        path.write_bytes(save({name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}))

    @classmethod
    def _read(cls, path: Path, weights: bytes, header: ModelHeader) -> Self:
        hidden = header.architecture.get("hidden")
        if not isinstance(hidden, list) or not all(type(size) is int and 0 < size <= 65536 for size in hidden):
            raise ArtifactError(f"{path.parent}: architecture.hidden must be a list of layer sizes from 1 to 65536, "
                                f"got {hidden!r:.80}. Header and weights must be as Model.save() wrote them.")
        sizes = cast("list[int]", hidden)
        network = Perceptron(len(header.features), sizes)
        try:
            network.load_state_dict(load(weights))
        except (SafetensorError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise ArtifactError(f"{path}: the weights do not fit the header: {said}") from None
        return cls(network, sizes, header.features, header.label)
