"""How diagnosis_network is made: a small neural network on the measurements of cell nuclei.

Trees do not mind skewed columns, a network does: `features` takes logarithms of sizes. Scaling to zero mean and unit
variance needs nothing here, it is learned in training and kept inside the model.
"""

import numpy as np
import pandas as pd

from airgate.steps import train_torch
from airgate.steps.context import StepContext
from airgate.steps.model import Model

SKEWED = ["mean_area", "worst_area", "area_error", "perimeter_error", "radius_error"]


def features(data: pd.DataFrame) -> pd.DataFrame:
    """Take logarithms of the sizes, whose few large values would otherwise outweigh the rest.

    Keeps sample_id, and malignant where there is one; every other column becomes an input of the model.
    """
    return data.assign(**{name: np.log1p(data[name]) for name in SKEWED})


def train(data: pd.DataFrame, ctx: StepContext) -> Model:
    """Cross-validate and train on what `features` returned; rows of the holdout are left out by the platform."""
    return train_torch.fit(data, ctx)
