"""What all tests share. Importing Airflow here would cost every small test seconds: see the conftest of each folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast a busy machine draws examples says nothing about the code.
settings.register_profile("airgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("airgate")

MODELS = Path(__file__).parents[1] / "include" / "models"


@pytest.fixture(autouse=True)
def forget_other_models() -> Iterator[None]:
    """A test may point AIRGATE_MODELS to a folder of its own; what it imported from there is not for the next one."""
    yield
    package = sys.modules.get("models")
    if package is not None and list(package.__path__) != [str(MODELS)]:
        for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
            del sys.modules[name]
