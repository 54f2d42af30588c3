"""Shows what is wrong with a model's folder as an import error of this file, so that every other model keeps its DAGs."""

from airgate.authoring.catalog import broken_models
from airgate.errors import SpecError

if broken := broken_models():
    raise SpecError("\n".join(str(error) for error in broken.values()))
