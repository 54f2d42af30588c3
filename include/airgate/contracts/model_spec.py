"""`model.yaml`: what a model is, who answers for it, and the thresholds it must meet, which stand nowhere else."""

import json
from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from airgate.contracts import digests, yaml_file
from airgate.contracts.base import Contract
from airgate.contracts.inference import InferenceSpec
from airgate.contracts.people import canonical_name
from airgate.contracts.resources import Resources
from airgate.errors import SpecError, nearest

SPEC_FILE = "model.yaml"
NAME = r"^[a-z][a-z0-9_]{0,62}$"
LONGEST_STATEMENT = 1000


class ColumnSpec(Contract):
    """One column of the input: its type and what values are sound. `max_null` is the share of nulls allowed, 0 to 1."""

    type: Literal["float", "int", "string", "bool"]
    min: float | None = None
    max: float | None = None
    allowed: list[str] | None = None
    max_null: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _range_makes_sense(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.type in ("string", "bool") and (self.min is not None or self.max is not None):
            raise ValueError(f"a {self.type} column has no min or max; use `allowed`")
        return self


class DataSpec(Contract):
    """Where the rows come from and what they look like."""

    dataset: str = Field(pattern=NAME, description="folder in the data repository: <dataset>/date=YYYY-MM-DD/*.parquet")
    id: str = Field(description="column that names a row")
    label: str = Field(description="column to predict: 0 or 1")
    lookback_days: int = Field(default=30, ge=1, description="training reads this many days up to the end of its window")
    holdout_percent: int = Field(default=25, ge=5, le=50, description="rows kept from training, chosen by a hash of their id")
    min_rows: int = Field(default=20, ge=1)
    columns: dict[str, ColumnSpec] = Field(min_length=1, description="the features; id and label are not among them")

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> Self:
        for role, name in (("id", self.id), ("label", self.label)):
            if name in self.columns:
                raise ValueError(f"columns: '{name}' is the {role} and cannot be a feature too: it would leak the answer")
        return self


class TrainingSpec(Contract):
    """What the train function is given. `parameters` go to the algorithm as they are."""

    seed: int = Field(default=7, ge=0, lt=2**31)
    folds: int = Field(default=5, ge=2, le=20)
    parameters: dict[str, JsonValue] = {}


class MetricBound(Contract):
    """Bounds that the whole confidence interval must meet: its lower end at least `min`, its upper end at most `max`."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both: a bound without a number bounds nothing")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: no value can pass")
        return self


class ComparisonSpec(Contract):
    """The candidate may be worse than production on the same rows by at most `max_drop`, at the spec's confidence."""

    metric: str = "roc_auc"
    max_drop: float = Field(default=0.02, ge=0)


METRICS: dict[str, tuple[float, float]] = {
    "accuracy": (0, 1), "roc_auc": (0, 1), "precision": (0, 1), "recall": (0, 1), "f1": (0, 1), "brier": (0, 1),
    "log_loss": (0, float("inf")),
}


class GatesSpec(Contract):
    """Thresholds fixed before training; their hash is recorded when training begins."""

    metrics: dict[str, MetricBound] = Field(min_length=1)
    production: ComparisonSpec = ComparisonSpec()
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=1000, ge=100, le=100_000)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, bound in self.metrics.items():
            if name not in METRICS:
                raise ValueError(f"metrics: '{name}' is no metric; {nearest(name, METRICS)}")
            low, high = METRICS[name]
            for value in (bound.min, bound.max):
                if value is not None and not low <= value <= high:
                    raise ValueError(f"metrics.{name}: {value} can never be met or missed; allowed: {low:g} to {high:g}")
        if self.production.metric not in METRICS:
            raise ValueError(f"production.metric: {nearest(self.production.metric, METRICS)}")
        return self

    def fingerprint(self) -> str:
        """SHA-256 over the thresholds' canonical JSON (sorted keys, no spaces), as 'sha256:...'."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return digests.of_bytes(text.encode())


class PromotionSpec(Contract):
    """Who must agree before a version goes live: two roles, each with the people who may answer in it.

    `statements` says for a role what its approval means, beside accepting the move; the text stands in the request.
    """

    approvers: dict[str, list[str]]
    statements: dict[str, str] = {}
    answer_within_hours: float = Field(default=72, gt=0)

    @field_validator("approvers")
    @classmethod
    def _two_roles(cls, roles: dict[str, list[str]]) -> dict[str, list[str]]:
        if len(roles) != 2:
            raise ValueError(f"approvers needs exactly two roles, got {len(roles)}: {', '.join(roles) or 'none'}")
        for role, people in roles.items():
            if not all(canonical_name(person) for person in people):
                raise ValueError(f"approvers.{role} holds an empty name; write the name that the person signs in with")
            if not people:
                raise ValueError(f"approvers.{role} names nobody: nobody could ever approve")
        first, second = ({canonical_name(person) for person in people} for people in roles.values())
        if len(first | second) < 2:
            raise ValueError("approvers names one person in both roles: two different people must agree")
        return roles

    @model_validator(mode="after")
    def _statements_of_roles(self) -> Self:
        for role, text in self.statements.items():
            if role not in self.approvers:
                raise ValueError(f"statements.{role} belongs to no role of approvers; {nearest(role, self.approvers)}")
            if not text.strip() or len(text) > LONGEST_STATEMENT:
                raise ValueError(f"statements.{role} has {len(text.strip())} characters; write what its approval means in 1 to "
                                 f"{LONGEST_STATEMENT}, such as 'I reviewed the fairness report.'")
        return self


class DriftSpec(Contract):
    """When incoming rows count as drifted: at least `share` of the columns differ at p-value or distance `threshold`."""

    share: float = Field(default=0.5, gt=0, le=1)
    min_rows: int = Field(default=20, ge=2)


class RetrainingSpec(Contract):
    """How often drift may retrain the model."""

    cooldown_hours: float = Field(default=24, ge=0)
    max_per_week: int = Field(default=3, ge=0)


class ScheduleSpec(Contract):
    """When the DAGs run by themselves: cron expressions in UTC, None for by hand or by asset only.

    Nothing is scheduled for days after `end`, the feed's last day; manual runs and backfills remain possible.
    """

    start: date
    end: date | None = None
    training: str | None = None
    batch_inference: str | None = None
    drift_check: str | None = None


class ModelSpec(Contract):
    """One model's `model.yaml`, whole."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME)
    title: str
    owner: str = Field(min_length=1)
    purpose: str = Field(min_length=1)
    risk: Literal["minimal", "limited", "high"]
    data: DataSpec
    training: TrainingSpec = TrainingSpec()
    steps: dict[str, Resources] = {}
    gates: GatesSpec
    promotion: PromotionSpec
    drift: DriftSpec = DriftSpec()
    retraining: RetrainingSpec = RetrainingSpec()
    inference: InferenceSpec = InferenceSpec()
    schedule: ScheduleSpec

    def resources(self, step: str) -> Resources:
        """What the step of this name may use: its own entry, else `default`, else the built-in default."""
        return self.steps.get(step) or self.steps.get("default") or Resources()


def load_spec(folder: Path) -> ModelSpec:
    """Read `folder`/model.yaml.

    Raises SpecError that names the file, the key, what is allowed and the nearest right key.
    """
    path = folder / SPEC_FILE
    spec = yaml_file.read(path, ModelSpec, SpecError, missing=f"A model is a folder with {SPEC_FILE} and steps.py.",
                          help_="See docs/data-scientist.md.")
    if spec.name != folder.name:
        raise SpecError(f"{path}: name is '{spec.name}' but the folder is '{folder.name}'. Make them the same.")
    return spec
