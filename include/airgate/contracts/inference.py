"""How a model's batch inference is spread over tasks and processes."""

from pydantic import Field

from airgate.contracts.base import Contract


class InferenceSpec(Contract):
    """`inference` in model.yaml. By default one task scores the whole window, day after day: the cheapest for a small one.

    `part_days` cuts the window into parts of so many days, each a task of its own, of which `max_parts` run at once over all
    runs of the model. `workers` is for a day that is too large for one process: so many share its files (Dask).
    """

    part_days: int | None = Field(default=None, ge=1, le=366)
    max_parts: int = Field(default=4, ge=1, le=256)
    workers: int = Field(default=1, ge=1, le=256)
