"""How diagnosis_classifier is made: gradient boosted trees on the measurements of cell nuclei.

Write plain functions on data frames here. `features` runs before training, evaluation and daily scoring alike, so what
the model sees is the same in all three. Thresholds, columns and parameters stand in model.yaml beside this file.
"""

import pandas as pd

from airgate.steps import train_xgboost
from airgate.steps.context import StepContext
from airgate.steps.model import Model


def features(data: pd.DataFrame) -> pd.DataFrame:
    """Add how much larger the worst nuclei are than the mean one: malignant samples vary more within themselves.

    Keeps sample_id, and malignant where there is one; every other column becomes an input of the model.
    """
    return data.assign(
        area_spread=data["worst_area"] / data["mean_area"],
        concavity_spread=data["worst_concavity"] - data["mean_concavity"],
    )


def train(data: pd.DataFrame, ctx: StepContext) -> Model:
    """Cross-validate and train on what `features` returned; rows of the holdout are left out by the platform."""
    return train_xgboost.fit(data, ctx)
