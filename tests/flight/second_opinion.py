"""A model of the flights' own. Made like diagnosis_classifier, but training waits while a test holds it."""

import os
import time
from pathlib import Path

import pandas as pd

from airgate.steps import train_xgboost
from airgate.steps.context import StepContext
from airgate.steps.model import Model


def features(data: pd.DataFrame) -> pd.DataFrame:
    """Add how much larger the worst nuclei are."""
    return data.assign(radius_spread=data["worst_radius"] / data["mean_radius"])


def train(data: pd.DataFrame, ctx: StepContext) -> Model:
    """While <home>/hold is there, say in <home>/held which process waits."""
    home = Path(os.environ["AIRGATE_HOME"])
    if (home / "hold").exists():
        (home / "held.new").write_text(str(os.getpid()))
        (home / "held.new").rename(home / "held")
        while (home / "hold").exists():
            time.sleep(0.1)
    return train_xgboost.fit(data, ctx)
