"""What is written down of a stage's move: the body of `stage.moving`, `stage.moved` and `stage.reverted`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from airgate.contracts.base import Contract
from airgate.contracts.promotion import PRODUCTION

DEVELOPMENT, STAGING, ARCHIVED = "development", "staging", "archived"
# The stages of a version. Each is an alias in MLflow that names at most one version, and only a recorded move sets it.
STAGES = (DEVELOPMENT, STAGING, PRODUCTION, ARCHIVED)
# How MLflow shows a version's stage. Nobody reads it back: the log knows.
STAGE_TAG = "airgate.stage"

Cause = Literal["promotion", "rollback", "demotion", "archiving"]


class Approver(Contract):
    """One of the two people who agreed, and in which role."""

    role: str
    user: str


class StageMove(BaseModel):
    """One move. Records of release 0.2.0 name no cause (each was a promotion) and no more than they had.

    `to_version` is None when the stage is emptied (a demotion), `from_version` when it was empty. `request_digest` is that of the
    request which was approved; a rollback repeats the one of the promotion that first put its version there, whose event
    `approved_by` names. `signature` is the event id of that promotion's `model.signed`. `previous` is the event id of
    the settling event before, "" for a model's first move. `window` are the days the version was trained on. `passed_over` says
    of each approved version that a rollback went past why it could not be used.
    """

    # Read leniently: a record is what it is, and a later release may know more of it.
    model_config = ConfigDict(frozen=True, extra="ignore")

    cause: Cause = "promotion"
    stage: str = PRODUCTION
    from_version: str | None = None
    to_version: str | None = None
    model_digest: str | None = None
    request_digest: str | None = None
    data_revision: str | None = None
    window: dict[str, Any] | None = None
    previous: str | None = None
    reason: str | None = None
    approvers: list[Approver] = []
    approved_by: str | None = None
    signature: str | None = None
    passed_over: list[str] = []
