"""MLflow's account of a model's versions and its production alias. MLflow is imported when it is asked: it costs seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airgate import settings
from airgate.audit.versions import RegisteredVersion
from airgate.contracts.promotion import PRODUCTION
from airgate.errors import AuditError

_FILE = "sqlite:///"


class MlflowAccount:
    """Reads the registry behind one tracking URI."""

    def __init__(self, tracking_uri: str) -> None:
        """Take the URI; nothing is opened yet."""
        self._uri = tracking_uri
        self._made: Any = None

    @classmethod
    def from_environment(cls) -> "MlflowAccount":
        """The MLflow of the settings (AIRGATE_MLFLOW_URI)."""
        return cls(settings.load().mlflow_uri)

    def versions(self, model: str) -> list[RegisteredVersion]:
        """Give the model's versions; none for a model that MLflow does not know. Raises AuditError when it cannot be read."""
        found: list[RegisteredVersion] = []
        client, token = self._client(), ""
        while client is not None:
            with _reading():
                # Names of models hold no quote, so they cannot break the filter.
                page = client.search_model_versions(f"name = '{model}'", page_token=token or None)
            found += [_version_of(entry) for entry in page]
            token = page.token
            if not token:
                break
        return found

    def alias(self, model: str) -> str | None:
        """Give the version in production, None when there is none. Raises AuditError when MLflow cannot be read."""
        client = self._client()
        if client is None:
            return None
        from mlflow.exceptions import MlflowException

        with _reading():
            try:
                return str(client.get_registered_model(model).aliases[PRODUCTION])
            except KeyError:
                return None
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def _client(self) -> Any:
        """The client, None where the registry is a file that nobody has made yet: reading must not make it."""
        if self._uri.startswith(_FILE) and not Path(self._uri.removeprefix(_FILE)).exists():
            return None
        if self._made is None:
            from mlflow.tracking import MlflowClient

            with _reading():
                self._made = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._made


@contextmanager
def _reading() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        # Not its text: that may hold the address with its password.
        raise AuditError(f"MLflow's registry cannot be read ({error.error_code}), so versions and aliases were not compared with "
                         "the log; is it running? The address is AIRGATE_MLFLOW_URI") from None


def _version_of(found: Any) -> RegisteredVersion:
    tags = dict(found.tags)
    return RegisteredVersion(str(found.version), tags.get("airgate.digest"), tags.get("airgate.dag_id"),
                             tags.get("airgate.training_run"))
