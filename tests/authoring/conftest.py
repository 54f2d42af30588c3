"""A models folder of its own for each test, and the environment that points there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from airgate.authoring.scaffold import create


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
