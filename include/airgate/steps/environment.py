"""What a result says of where it was made: Python, platform, package versions, device."""

import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("airgate", "pandas", "numpy", "pyarrow", "scikit-learn", "xgboost", "torch", "mlflow", "great-expectations",
            "evidently", "dvc", "pydantic")


@cache
def versions() -> dict[str, str]:
    """Python, platform and the installed versions of the packages that decide a result; absent ones are left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device() -> str:
    """Where torch would compute, 'cpu' or a GPU's name. torch is asked only in a process that has loaded it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    return str(torch.cuda.get_device_name())


def environment() -> dict[str, str]:
    """Versions and device, as StepResult.environment wants them."""
    return {**versions(), "device": device()}
