"""What all tests share. Importing Airflow here would cost every small test seconds: see the conftest of each folder."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.s3 import s3_bucket, s3_server

__all__ = ["s3_bucket", "s3_server"]  # fixtures

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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test with `@pytest.mark.attack("what is tried")` is a row of the matrix; {name} stands for a parameter of it."""
    for marker in item.iter_markers("attack"):
        given = getattr(getattr(item, "callspec", None), "params", {})
        item.user_properties.append(("attack", marker.args[0].format(**given)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the matrix of attacks: how many forms of each were tried, and whether all were refused."""
    rows: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, what in getattr(report, "user_properties", []):
                if name == "attack":
                    rows.setdefault(what, Counter())[outcome] += 1
    if not rows:
        return
    terminalreporter.section("attacks on promotion")
    width = max(map(len, rows))
    for what, outcomes in sorted(rows.items()):
        verdict = "held" if set(outcomes) == {"passed"} else "NOT HELD: " + ", ".join(map(str, outcomes))
        terminalreporter.write_line(f"{what:{width}}  {outcomes.total():3} tried  {verdict}")
