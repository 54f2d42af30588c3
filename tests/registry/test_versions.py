from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airgate.contracts.version_tags import DIGEST
from airgate.errors import PromotionError
from airgate.registry.versions import Registry

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from mlflow.tracking import MlflowClient

    folder: Path = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri, uri)
    client.create_registered_model("m")
    for number in range(3):
        client.create_model_version("m", source=f"file://{folder}/{number}", tags={DIGEST: f"digest-{number + 1}"})
    yield client


@pytest.fixture
def registry(client: Any) -> Registry:
    return Registry(client.tracking_uri)


def test_a_version_and_its_digest(registry: Registry) -> None:
    found = registry.version("m", "2")
    assert (found.model, found.version, found.digest) == ("m", "2", "digest-2")


def test_a_version_that_is_not_there(registry: Registry) -> None:
    with pytest.raises(PromotionError, match="m has no version 9 in MLflow. Run m_training"):
        registry.version("m", "9")


def test_nothing_is_live_at_first(registry: Registry) -> None:
    assert registry.live("m") is None
    assert registry.live("unknown") is None


def test_an_alias_is_set_moved_and_taken_away(registry: Registry) -> None:
    for version in ("1", "2", None, None):
        registry.set_alias("m", "production", version)
        live = registry.live("m")
        assert (live.version if live else None) == version


def test_an_alias_for_a_version_that_is_gone_stays_as_it_is(registry: Registry) -> None:
    registry.set_alias("m", "production", "1")
    registry.set_alias("m", "production", "9")
    live = registry.live("m")
    assert live is not None and live.version == "1"


def test_a_tag_is_set_and_taken_away(registry: Registry) -> None:
    for value in ("production", None, None):
        registry.set_tag("m", "2", "airgate.stage", value)
        assert registry.version("m", "2").tags.get("airgate.stage") == value
    registry.set_tag("m", "9", "airgate.stage", "production")
    assert registry.find("m", "9") is None
