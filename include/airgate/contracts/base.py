"""The base of every contract: frozen, and unknown keys are errors."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A value that crosses a process boundary. Frozen; refuses unknown keys and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
