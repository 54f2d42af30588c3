"""An Airgate model for MLflow's own tools, kept as code: no pickle, and no Airgate needed where it is served (but of a model
that is stored encrypted).

MLflow stores this file beside the model's folder and runs it when somebody loads `models:/<name>/<version>`. It repeats
in a few lines what `model_xgboost` and `model_torch` do, because it must run without them; a test holds them equal.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd


class AirgateModel(mlflow.pyfunc.PythonModel):
    """Gives the probability of class 1 for each row, shape (n,), float64."""

    def load_context(self, context: Any) -> None:
        """Read the model's folder."""
        folder = Path(context.artifacts["model"])
        if (folder / "keys").is_dir():
            # Encrypted at rest: reading it takes Airgate and the keys.
            from airgate.encryption.folder import open_folder

            with tempfile.TemporaryDirectory() as place:
                self._read(open_folder(folder, Path(place, "model"), "the model in MLflow"))
        else:
            self._read(folder)

    def _read(self, folder: Path) -> None:
        header = json.loads((folder / "airgate_model.json").read_text(encoding="utf-8"))
        self.features = header["features"]
        self.score = {"xgboost": _xgboost, "torch": _torch}[header["kind"]](folder, header)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Take columns by name; further columns do not matter."""
        return self.score(model_input[self.features].to_numpy(dtype=np.float64, na_value=np.nan))


def _xgboost(folder: Path, header: dict[str, Any]) -> Any:
    import xgboost

    booster = xgboost.Booster(model_file=bytearray((folder / "model.ubj").read_bytes()))
    return lambda values: booster.inplace_predict(values, validate_features=False).astype(np.float64)


def _torch(folder: Path, header: dict[str, Any]) -> Any:
    import torch
    from safetensors.torch import load

    weights = load((folder / "model.safetensors").read_bytes())
    count = len(header["architecture"]["hidden"])

    def score(values: Any) -> Any:
        with torch.inference_mode():
            scaled = (torch.from_numpy(np.ascontiguousarray(values)) - weights["mean"]) / weights["scale"]
            hidden = torch.nan_to_num(scaled, nan=0.0).to(torch.float32)
            for layer in range(0, 2 * count, 2):
                hidden = torch.relu(_linear(hidden, weights, layer))
            return torch.sigmoid(_linear(hidden, weights, 2 * count).squeeze(-1).to(torch.float64)).numpy()

    return score


def _linear(values: Any, weights: dict[str, Any], layer: int) -> Any:
    import torch

    return torch.nn.functional.linear(values, weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"])


mlflow.models.set_model(AirgateModel())
