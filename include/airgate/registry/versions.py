"""MLflow's model registry as a promotion sees it: versions, and the alias that names the one in production.

MLflow is imported inside functions: it costs seconds, and Airflow imports this module wherever it parses DAGs.
"""

from dataclasses import dataclass
from typing import Any

from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.version_tags import DIGEST
from airgate.errors import PromotionError

# MLflow answers a missing alias with INVALID_PARAMETER_VALUE and a missing model or version with RESOURCE_DOES_NOT_EXIST.
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Version:
    """One registered version. `digest` is the manifest digest that training wrote, None where something else registered it."""

    model: str
    version: str
    digest: str | None
    tags: dict[str, str]
    run_id: str | None


class Registry:
    """The registry behind one tracking URI."""

    def __init__(self, tracking_uri: str) -> None:
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def find(self, model: str, version: str) -> Version | None:
        """Read one version, None when MLflow does not have it."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version(model, version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return _version(model, found)

    def version(self, model: str, version: str) -> Version:
        """Read one version. Raises PromotionError when MLflow does not have it."""
        found = self.find(model, version)
        if found is None:
            raise PromotionError(f"{model} has no version {version} in MLflow. Run {model}_training to make one.")
        return found

    def live(self, model: str, alias: str = PRODUCTION) -> Version | None:
        """The version that the alias names, None when it names none or the model is unknown."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version_by_alias(model, alias)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            return None
        return _version(model, found)

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Let the alias name a version, or nothing. A version that is gone meanwhile leaves the alias as it is.

        Called by `airgate.lifecycle.moves` alone, which holds the log's lock; MLflow itself takes the last writer's word.
        """
        from mlflow.exceptions import MlflowException

        try:
            if version is None:
                self._client.delete_registered_model_alias(model, alias)
            else:
                self._client.set_registered_model_alias(model, alias, version)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise

    def set_tag(self, model: str, version: str, name: str, value: str | None) -> None:
        """Give a version a tag, or take it away. A version that is gone meanwhile gets none."""
        from mlflow.exceptions import MlflowException

        try:
            if value is None:
                self._client.delete_model_version_tag(model, version, name)
            else:
                self._client.set_model_version_tag(model, version, name, value)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise


def _version(model: str, found: Any) -> Version:
    return Version(model, str(found.version), found.tags.get(DIGEST), dict(found.tags), found.run_id)
