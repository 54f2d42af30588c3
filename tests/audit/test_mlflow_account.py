"""The account of a real MLflow registry."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airgate.audit.mlflow_account import MlflowAccount
from airgate.audit.registry_state import RegisteredVersion, RegistryState
from airgate.errors import AuditError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        folder: Path = tmp_path_factory.mktemp("mlflow")
        uri = f"sqlite:///{folder}/mlflow.db"
        client = MlflowClient(uri, uri)
        client.create_registered_model("m")
        client.create_registered_model("never promoted")
        tags = {"airgate.digest": "d1", "airgate.dag_id": "m_training", "airgate.training_run": "train1"}
        client.create_model_version("m", source=f"file://{folder}/1", tags=tags)
        client.create_model_version("m", source=f"file://{folder}/2")
        client.set_registered_model_alias("m", "production", "2")
    yield client


def test_versions_with_their_tags_and_the_aliases(client: Any) -> None:
    state = MlflowAccount(client.tracking_uri).state("m")
    tags = {"airgate.digest": "d1", "airgate.dag_id": "m_training", "airgate.training_run": "train1"}
    source = client.get_model_version("m", "1").source
    assert state.versions == {"1": RegisteredVersion("1", tags, source), "2": RegisteredVersion("2", {}, source[:-1] + "2")}
    assert (state.aliases, state.there) == ({"production": "2"}, True)
    assert (state.versions["1"].digest, state.versions["1"].training) == ("d1", ("m_training", "train1"))
    assert (state.versions["2"].digest, state.versions["2"].training) == (None, (None, None))


def test_a_model_that_was_never_promoted(client: Any) -> None:
    assert MlflowAccount(client.tracking_uri).state("never promoted") == RegistryState("never promoted")


def test_a_model_that_mlflow_does_not_know(client: Any) -> None:
    assert MlflowAccount(client.tracking_uri).state("unknown") == RegistryState("unknown", there=False)


def test_reading_makes_no_registry(tmp_path: Path) -> None:
    account = MlflowAccount(f"sqlite:///{tmp_path}/mlflow.db")
    assert account.state("m") == RegistryState("m", there=False)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_down_is_named_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    account = MlflowAccount("http://user:secret@127.0.0.1:9")
    with pytest.raises(AuditError, match=r"MLflow's registry cannot be read \(INTERNAL_ERROR\), .* AIRGATE_MLFLOW_URI") as caught:
        account.state("m")
    assert "secret" not in str(caught.value)


def test_the_address_is_that_of_the_settings(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_MLFLOW_URI", client.tracking_uri)
    assert MlflowAccount.from_environment().state("m").aliases == {"production": "2"}
