"""No Airflow DAG: shows what is wrong with a model's folder as an import error, so that the other models keep their DAGs."""

from airgate.authoring.catalog import broken_models
from airgate.errors import SpecError

if broken := broken_models():
    raise SpecError("\n".join(str(error) for error in broken.values()))
