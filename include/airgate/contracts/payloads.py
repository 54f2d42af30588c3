"""What asset events carry from one DAG to the next. A payload is a pointer; whoever acts on it checks it against the log."""

from datetime import date
from typing import Literal

from pydantic import Field

from airgate.contracts.base import Contract
from airgate.contracts.step import Digest, Window


class Candidate(Contract):
    """A model version that training registered, or an import from another installation. Value of the `register` step.

    Extra of the `candidate` asset event.
    """

    model: str
    version: str
    digest: Digest = Field(description="manifest digest of the model directory")
    gates_hash: Digest = Field(description="hash of the thresholds as they stood when training began")
    data_revision: str = Field(description="commit of the data repository")
    data_hash: str = Field(description="DVC hash of the data set at that commit")
    window: Window
    mlflow_run_id: str
    training_run: str = Field(description="run id of the DAG run that registered it")
    flow: Literal["training", "bundle_import"] = Field(default="training", description="which flow of the model that run was")


class GateResult(Contract):
    """One named check with its evidence. It passes or fails; it never warns."""

    name: str
    passed: bool
    evidence: str = Field(description="one sentence with the numbers")
    measured: dict[str, float] = {}


class Verdict(Contract):
    """What validation said of a candidate. Body of the `gate.verdict` event; extra of the `validated` asset event."""

    candidate: Candidate
    passed: bool
    gates: list[GateResult]
    evaluation_digest: Digest = Field(description="digest of the evaluation the gates were applied to")
    production_version: str | None = None
    gates_hash: Digest | None = Field(default=None, description="hash of the thresholds that were applied; None: the candidate's")
    event_id: str = ""

    @property
    def judged_by(self) -> str:
        """Hash of the thresholds that were applied. A version that was trained here passes by those of its training alone."""
        return self.gates_hash or self.candidate.gates_hash


class DriftVerdict(Contract):
    """What the drift check said of one window. Body of the `drift.verdict` event; extra of the `drift` asset event."""

    model: str
    version: str | None = Field(description="production version whose training data was the reference")
    window: Window
    drifted: bool
    share: float = Field(ge=0, le=1, description="share of columns that drifted")
    columns: dict[str, float] = Field(default={}, description="drifted columns with their score")
    report_digest: Digest | None = None
    source: str = "airgate"
    event_id: str = ""


class RetrainingDecision(Contract):
    """What the governor decided about a drift verdict. Body of the `retraining.decided` event."""

    model: str
    retrain: bool
    reason: str
    day: date
    drift_event_id: str
