"""MLflow's account of a model: versions, tags, aliases. MLflow is imported when it is asked: it costs seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airgate import settings
from airgate.audit.registry_state import NO_STAGE, RegisteredVersion, RegistryState
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

    def state(self, model: str) -> RegistryState:
        """Give what MLflow has of a model. Raises AuditError when it cannot be read.

        Aliases are read before versions: one that was set in between names a version that is seen all the same.
        """
        aliases = self._aliases(model)
        if aliases is None:
            return RegistryState(model, there=False)
        return RegistryState(model, {found.version: found for found in self._versions(model)}, aliases)

    def _aliases(self, model: str) -> dict[str, str] | None:
        """Version by alias, None for a model that MLflow does not know."""
        client = self._client()
        if client is None:
            return None
        from mlflow.exceptions import MlflowException

        with _reading():
            try:
                found = client.get_registered_model(model)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
        return {str(alias): str(version) for alias, version in found.aliases.items()}

    def _versions(self, model: str) -> Iterator[RegisteredVersion]:
        client, token = self._client(), None
        while True:
            with _reading():
                # Names of models hold no quote, so they cannot break the filter. By number: in MLflow's own order, newest change
                # first, a version that changes while we turn the page is passed over, and would seem deleted.
                page = client.search_model_versions(f"name = '{model}'", order_by=["version_number ASC"], page_token=token)
            yield from map(_version_of, page)
            token = page.token
            if not token:
                return

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
    return RegisteredVersion(str(found.version), dict(found.tags), found.source or None, found.run_id or None,
                             found.current_stage or NO_STAGE)
