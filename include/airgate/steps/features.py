"""Finding a model's own `features` function: one rule for training, evaluation and scoring."""

from collections.abc import Callable
from importlib import import_module
from typing import cast

import pandas as pd

from airgate.errors import SpecError
from airgate.steps.functions import open_models

Features = Callable[[pd.DataFrame], pd.DataFrame]


def features_of(model: str) -> Features:
    """The function `features` in include/models/<model>/steps.py. Raises SpecError when there is none."""
    open_models()
    try:
        module = import_module(f"models.{model}.steps")
    except ModuleNotFoundError as error:
        if error.name is None or not f"models.{model}.steps".startswith(error.name):
            raise
        raise SpecError(f"{model}: models/{model}/steps.py is missing. "
                        "A model is a folder with model.yaml and steps.py.") from None
    found = getattr(module, "features", None)
    if not callable(found):
        raise SpecError(f"{model}: models/{model}/steps.py defines no function features(data). "
                        "Add one; to use the columns as they are, let it return data.")
    return cast("Features", found)
