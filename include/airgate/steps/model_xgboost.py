"""An XGBoost classifier as a `Model`: the booster, kept in UBJ."""

from pathlib import Path
from typing import Self

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from pydantic import JsonValue

from airgate.errors import ArtifactError
from airgate.steps.model import Model, ModelHeader


class XGBoostModel(Model):
    """Gradient boosted trees with a logistic objective."""

    kind = "xgboost"
    weights_file = "model.ubj"
    weights_format = "XGBoost UBJ"

    def __init__(self, booster: xgb.Booster, features: list[str], label: str) -> None:
        super().__init__(features, label)
        self.booster = booster

    def importance(self) -> dict[str, float]:
        """Mean gain of the splits on each column, largest first; columns that no tree uses are absent."""
        gains = self.booster.get_score(importance_type="gain")
        named = {self.features[int(key.removeprefix("f"))]: float(gain) for key, gain in gains.items()}
        return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))

    def _probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = self.booster.inplace_predict(values, validate_features=False)
        return np.asarray(scores, dtype=np.float64)

    def _architecture(self) -> dict[str, JsonValue]:
        return {"trees": self.booster.num_boosted_rounds(), "objective": "binary:logistic"}

    def _write(self, path: Path) -> None:
        # Columns stand in the header, once: the booster knows them by position only.
        path.write_bytes(bytes(self.booster.save_raw("ubj")))

    @classmethod
    def _read(cls, path: Path, weights: bytes, header: ModelHeader) -> Self:
        try:
            booster = xgb.Booster(model_file=bytearray(weights))
        except xgb.core.XGBoostError as error:
            said = str(error).strip().splitlines()[0][:200]
            raise ArtifactError(f"{path}: not readable as an XGBoost model: {said}") from None
        if booster.num_features() != len(header.features):
            raise ArtifactError(f"{path}: the trees expect {booster.num_features()} columns, the header names "
                                f"{len(header.features)}. Header and weights are of two different models.")
        return cls(booster, header.features, header.label)
