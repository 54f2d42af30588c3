"""Fetching a version that is not there, or was not registered by Airgate. What is there is fetched in test_register."""

import mlflow
import pytest
from tests.steps.model_support import GATES, QUIET, mlflow_uri

from airgate.errors import ArtifactError
from airgate.steps import versions

pytestmark = QUIET


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return mlflow_uri(tmp_path_factory.mktemp("mlflow"))


@pytest.mark.parametrize("version", ["production", "latest", "../1", ""])
def test_an_alias_is_no_version(tmp_path, version):
    with pytest.raises(ArtifactError, match="is no version number"):
        versions.fetch_version("sqlite://", "diagnosis_classifier", version, tmp_path, GATES, envelope={})


def test_a_version_that_mlflow_does_not_have(uri, tmp_path):
    with pytest.raises(ArtifactError, match="models:/diagnosis_classifier/7 cannot be fetched from MLflow: .*not found"):
        versions.fetch_version(uri, "diagnosis_classifier", "7", tmp_path, GATES, envelope={})


def test_a_version_that_something_else_registered(uri, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "model.txt").write_text("x")
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", source=str(tmp_path / "foreign"))
    with pytest.raises(ArtifactError, match=r"artifacts/model, as airgate\.steps\.register writes it|did not write this version"):
        versions.fetch_version(uri, "foreign", "1", tmp_path / "to", GATES, envelope={})
