"""From a reference to the function it names: `airgate.steps.validate:check`, `diagnosis_classifier.steps:train`."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

from airgate import settings
from airgate.errors import AirgateError, WiringError, nearest

MODELS = "models"


def load_function(reference: str) -> Callable[..., Any]:
    """Import the module and give its function. A reference whose first part is not `airgate` is one of a model's.

    Raises WiringError when the module cannot be imported or has no such function.
    """
    module_name, _, name = reference.partition(":")
    if module_name.partition(".")[0] != "airgate":
        open_models()
        module_name = f"{MODELS}.{module_name}"
    try:
        module = importlib.import_module(module_name)
    except AirgateError:
        raise
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise WiringError(f"{reference}: there is no module '{error.name}' here. Is the model's folder in the steps' image "
                              "(or AIRGATE_MODELS), of the same code version as the DAG?") from None
        raise WiringError(f"{reference}: its module needs '{error.name}', which is not installed in this image. Add it to "
                          "the steps' requirements.") from error
    except (ImportError, SyntaxError) as error:
        raise WiringError(f"{reference}: its module cannot be imported: {type(error).__name__}: {error}.") from error
    function = getattr(module, name, None)
    if not isinstance(function, types.FunctionType):
        known = [key for key, value in vars(module).items() if isinstance(value, types.FunctionType) and key[0] != "_"]
        what = "has no function" if function is None else "has no plain function"
        raise WiringError(f"{reference}: {module_name} {what} '{name}'; {nearest(name, known)}")
    return function


def open_models() -> None:
    """Make `models` the folder of the settings, which need not be the one beside this package."""
    folder = str(settings.load().models)
    package = sys.modules.get(MODELS)
    if package is None:
        package = types.ModuleType(MODELS)
        sys.modules[MODELS] = package
    if folder not in getattr(package, "__path__", ()):
        package.__path__ = [folder]
        for name in [name for name in sys.modules if name.startswith(f"{MODELS}.")]:
            del sys.modules[name]
