"""MLflow's model registry as a promotion sees it: versions, and the alias that names the one in production.

MLflow is imported inside functions: it costs seconds, and Airflow imports this module wherever it parses DAGs.
"""

from dataclasses import dataclass
from typing import Any

from airgate.contracts.promotion import PRODUCTION
from airgate.errors import PromotionError

DIGEST_TAG = "airgate.digest"


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

    def version(self, model: str, version: str) -> Version:
        """Read one version. Raises PromotionError when MLflow does not have it."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version(model, version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise PromotionError(f"{model} has no version {version} in MLflow. Run {model}_training to make one.") from None
        return Version(model, str(found.version), found.tags.get(DIGEST_TAG), dict(found.tags), found.run_id)

    def live(self, model: str, alias: str = PRODUCTION) -> Version | None:
        """The version that the alias names, None when it names none or the model is unknown."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version_by_alias(model, alias)
        except MlflowException as error:
            # MLflow answers a missing alias with INVALID_PARAMETER_VALUE and a missing model with RESOURCE_DOES_NOT_EXIST.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None
        return Version(model, str(found.version), found.tags.get(DIGEST_TAG), dict(found.tags), found.run_id)

    def move(self, model: str, version: str, expected: str | None, alias: str = PRODUCTION) -> None:
        """Let the alias name `version`, provided that it names `expected` now; then read it back.

        MLflow has no compare-and-set: the check narrows a race and the promotion DAG's single active run closes it.
        Raises PromotionError when another version is there, before or after.
        """
        before = self.live(model, alias)
        found = before.version if before else None
        if found == version:
            return
        if found != expected:
            raise PromotionError(f"{model}: {alias} is version {found or 'none'}, the request was made when it was "
                                 f"{expected or 'none'}. Ask again: the comparison with production no longer holds.")
        self._client.set_registered_model_alias(model, alias, version)
        after = self.live(model, alias)
        if after is None or after.version != version:
            raise PromotionError(f"{model}: {alias} reads {after.version if after else 'none'} after it was set to {version}")
