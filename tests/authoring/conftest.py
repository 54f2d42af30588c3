"""A models folder of its own for each test, and the environment that points there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airgate.authoring import step
from airgate.authoring.scaffold import create
from airgate.errors import WiringError


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder that the settings name."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("AIRGATE_MODELS", str(folder))
    monkeypatch.setenv("AIRGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRGATE_RUNTIME", "local")
    return folder


@pytest.fixture
def heart(models: Path) -> Path:
    """The folder of one sound model, `heart`."""
    return create("heart", owner="mia")


@pytest.fixture
def write_steps(models: Path) -> Callable[[str], Path]:
    """Write code into models/heart/steps.py with the usual imports above it."""
    def write(code: str) -> Path:
        path = models / "heart" / "steps.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("import pandas as pd\nfrom pathlib import Path\nfrom typing import TYPE_CHECKING\n"
                        "from typing import Any, Literal, Optional, TypedDict, Union, Annotated\n"
                        "from airgate.steps.model import Model\nfrom airgate.steps.context import StepContext\n" + code)
        return path
    return write


def heart_step(name: str, **arguments: Any) -> Any:
    """A task of the model `heart`, in the DAG that is open."""
    return step(f"heart.steps:{name}", **arguments)


def refusal(name: str, **arguments: Any) -> str:
    """What is said against such a task."""
    with pytest.raises(WiringError) as caught:
        heart_step(name, **arguments)
    return str(caught.value)
