"""What `step()` decided at parse time and an operator carries out: the seam between authoring and the runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.resources import Resources
from airgate.contracts.step import ArtifactKind

if TYPE_CHECKING:  # Airflow is not needed to hold a plan, so a test or a tool may make one without it.
    from airflow.sdk import Asset


@dataclass(frozen=True)
class StepPlan:
    """One step of a DAG, checked: every argument is named in exactly one of `inputs`, `gathers`, `json_inputs`, `parameters`.

    The operator made of a plan keeps it as its attribute `plan`; that is how the next `step()` knows what kind of value
    the operator gives. Arguments that the runner injects (`StepContext`) appear nowhere.
    """

    function: str
    """Reference as the author wrote it, `diagnosis_classifier.steps:train`."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Argument -> task id of the upstream step whose artifact it takes."""
    gathers: Mapping[str, str] = field(default_factory=dict)
    """Argument -> task id of the mapped upstream step whose values it takes as one list, in map order."""
    each: str | None = None
    """The input that is a list: the step is mapped over it, and each of its tasks takes one item."""
    json_inputs: Mapping[str, Any] = field(default_factory=dict)
    """Argument -> what becomes a JSON value at run time: the XComArg of a task that is no step, or a DagParam."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Argument -> JSON value known at parse time."""
    spec: ModelSpec | None = None
    resources: Resources = field(default_factory=Resources)
    emits: Asset | None = None
    """The asset of which the step's success is an event; the runtime makes it an outlet."""
    returns: ArtifactKind | None = None
    """None: the step gives no value."""

    def __str__(self) -> str:
        """Airflow keeps this of a mapped task's plan; it must be the same each time that the DAG is parsed."""
        return f"plan of {self.function}"
