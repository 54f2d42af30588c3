"""Keys and moves for tests of those who only read a log: what Airgate would have signed, without a promotion."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.lifecycle.conftest import MODEL, House

from airgate.audit.event import Actor
from airgate.governance import stages
from airgate.lifecycle import sign
from airgate.signatures import private_key


@pytest.fixture(scope="module")
def model_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This installation signs with a key of its own."""
    path = tmp_path_factory.mktemp("key") / "model-key.pem"
    private_key.write_new(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRGATE_MODEL_KEY", f"file:{path}")
        yield


def moved(house: House, dag: str, run: str, body: dict[str, Any]) -> None:
    """A move of release 0.2.0, signed after the update."""
    house.succeeded(dag, run, "apply", body, kind="stage.moved")
    sign.sign_move(house.log, stages.read(house.log, MODEL).moves[-1], actor=Actor(kind="outside", name="op"), source="cli")
