"""What a step may ask for and leave behind beside its return value. The runner gives it to a parameter of this type."""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.standard_steps import DATA_FACTS, STANDARD
from airgate.contracts.step import RunContext, StepCall, Window
from airgate.errors import ContractError, StepError
from airgate.redaction import masked, redact
from airgate.steps.store import ArtifactStore

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAME_LIMIT = 250


@dataclass
class StepContext:
    """One call of one step. `workdir` is private to it and is gone when it ends."""

    call: StepCall
    workdir: Path
    mlflow_run_id: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    attachments: dict[str, Path] = field(default_factory=dict)
    check_fence: Callable[[], None] = lambda: None
    """Raises FencedError when another launch of this task took over. Call it just before writing what others see: predictions,
    a registered version."""

    @property
    def run(self) -> RunContext:
        """Which task try this is; its `mlflow_run_id` is that of the open run, also in the step that opened it."""
        return self.call.run.model_copy(update={"mlflow_run_id": self.mlflow_run_id or self.call.run.mlflow_run_id})

    @property
    def spec(self) -> ModelSpec:
        """The model's `model.yaml`. Raises ContractError when the step was called for no model."""
        if self.call.spec is None:
            raise ContractError(f"{self.call.function} needs a model's spec, but it was called for no model. Give the "
                                "DAG's step() a model.")
        return self.call.spec

    @property
    def window(self) -> Window:
        """The days this run is about. Raises ContractError when the run has none."""
        if self.call.run.window is None:
            raise ContractError(f"{self.call.function} needs a window of days, but run '{self.call.run.run_id}' has "
                                "none. Give it a data interval, or the parameters start and end.")
        return self.call.run.window

    @property
    def store(self) -> ArtifactStore:
        """The artifact store of this run."""
        return ArtifactStore(self.call.store)

    def log_metric(self, name: str, value: float) -> None:
        """Keep one number for the record and for MLflow, where it appears under this very name.

        What looks like a credential in the name is replaced by ***.
        Raises StepError when the name is empty or too long or the value is no finite number.
        """
        name = redact(name)
        if not name or len(name) > NAME_LIMIT:
            raise StepError(f"metric {name!r:.60}: a name has 1 to {NAME_LIMIT} characters.")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise StepError(f"metric '{name}' is {type(value).__name__}, not a number. Log a float.") from None
        if not math.isfinite(number):
            raise StepError(f"metric '{name}' is {number}. Allowed: finite numbers; leave out what cannot be measured.")
        self.metrics[name] = number

    def log_metrics(self, values: dict[str, float]) -> None:
        """Keep several numbers. Raises StepError as log_metric does; then none of them is kept."""
        before = dict(self.metrics)
        try:
            for name, value in values.items():
                self.log_metric(name, value)
        except StepError:
            self.metrics = before
            raise

    def fact(self, name: str, value: str) -> None:
        """Keep a short text for the record: a revision, a hash. It flows on to the steps that take this output.

        What looks like a credential is replaced by ***: a value under a name such as `api_token`, a password in a URL.
        Raises StepError for an empty name, and for one that only the standard steps may use.
        """
        if not name:
            raise StepError("a fact needs a name.")
        if name in DATA_FACTS and not self.call.function.startswith(STANDARD):
            raise StepError(f"fact '{name}': only the step that loads the rows says which they are, and it has said so already. "
                            "Choose another name.")
        self.facts[redact(name)] = masked(str(value), name)

    def attach(self, name: str, path: Path) -> None:
        """Keep a report or plot as an artifact, here and in MLflow. It is read when the step ends, also when it fails.

        Nobody looks into it for secrets: what is in a file is the author's to answer for.
        Raises StepError when `name` is no plain file name, looks like a credential, is taken already, or `path` is no file.
        """
        if not FILE_NAME.fullmatch(name):
            raise StepError(f"attachment {name!r:.60}: not a file name. Allowed: letters, digits, '.', '_' and '-', such"
                            " as 'report.html'.")
        if redact(name) != name:
            raise StepError(f"attachment '{redact(name)}': its name looks like a credential. Choose another name.")
        if name in self.attachments:
            raise StepError(f"attachment '{name}' was given before in this step. Choose another name.")
        if path.is_symlink() or not path.is_file():
            raise StepError(f"attachment '{name}': {path} is no file. Write the file first, then attach it.")
        self.attachments[name] = path

    def progress(self, message: str) -> None:
        """Print a line to the task's log at once."""
        sys.stdout.write(f"{message}\n")
        sys.stdout.flush()
