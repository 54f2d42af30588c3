"""What MLflow says of one model, as plain values: its versions with their tags, and its aliases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from airgate.contracts.version_tags import DAG, DIGEST, RUN

# Tags that begin so are Airgate's; all others belong to whoever set them.
OURS = "airgate."
NO_STAGE = "None"  # how MLflow spells it


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as MLflow has it.

    `source` is where its files are said to lie and `mlflow_run` the run that logged them: MLflow lets nobody change either of
    a version that is there. `stage` is MLflow's own stage, which it has deprecated and Airgate does not use.
    """

    version: str
    tags: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    mlflow_run: str | None = None
    stage: str = NO_STAGE

    @property
    def digest(self) -> str | None:
        """The digest that the register step wrote, None where something else registered the version."""
        return self.tags.get(DIGEST)

    @property
    def training(self) -> tuple[str | None, str | None]:
        """DAG and run that the version says it comes from."""
        return self.tags.get(DAG), self.tags.get(RUN)


@dataclass(frozen=True)
class RegistryState:
    """One model in MLflow. `there` is False for a model that MLflow does not know; then it has nothing else."""

    model: str
    versions: Mapping[str, RegisteredVersion] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    there: bool = True


class RegistryAccount(Protocol):
    """MLflow's own word about what it has."""

    def state(self, model: str) -> RegistryState:
        """Give what MLflow has of a model. Raises AuditError when it cannot be read."""
        ...
