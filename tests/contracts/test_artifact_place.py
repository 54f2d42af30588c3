import pytest

from airgate.contracts.artifact_place import refusal

SERVER = "http://mlflow.example.org:5000"
AZURE = "core.windows.net/mlflow"


@pytest.mark.parametrize("location", [
    "/srv/mlflow/1/models/m-1/artifacts", "file:///srv/My%20Files/mlflow", "./mlruns/1", "s3://bucket/mlflow/1", "gs://bucket/x",
    f"wasbs://box@account.blob.{AZURE}", f"abfss://box@account.dfs.{AZURE}",
    "mlflow-artifacts:/1/models/m-1/artifacts", "mlflow-artifacts://mlflow.example.org:5000/1",
    f"{SERVER}/api/2.0/mlflow-artifacts/artifacts/1/models/m-1"])
def test_where_an_installation_keeps_its_models(location: str) -> None:
    assert refusal(location, SERVER) is None


def test_a_server_behind_a_name_and_password() -> None:
    named = "https://airgate:secret@mlflow.example.org"
    assert refusal("https://mlflow.example.org/api/x", named) is None
    assert refusal("https://airgate:secret@mlflow.example.org/api/x", named) is None
    assert refusal("https://airgate:secret@mlflow.example.org.evil.example/api/x", named) is not None


@pytest.mark.attack("a version's files: they are said to lie where MLflow's client would take its password to")
@pytest.mark.parametrize("location", [
    "http://evil.example/api/2.0/mlflow-artifacts/artifacts/1", "http://mlflow.example.org:5000@evil.example/x",
    "http://mlflow.example.org:5000\\@evil.example/x", "http://mlflow.example.org:5000.evil.example/x",
    "http://mlflow.example.org:50001/x", "https://mlflow.example.org:5000/x", "HTTP://evil.example/x", "ht\ntp://evil.example/x",
    "http://evil.example/http://mlflow.example.org:5000/", " http://evil.example/", "mlflow-artifacts://evil.example/1",
    "mlflow-artifacts://evil.example:5000/1", "runs:/abc/model", "models:/other/1", "ftp://evil.example/x",
    "sftp://mlflow.example.org/x", "hdfs://evil.example/x", "dbfs:/x", "r2://b@evil.example/x", "b2://b@evil.example/x",
    "abfss://box@account.dfs.core.evil.example/x", f"abfss://box@evil.example/x?account.dfs.{AZURE}",
    "abfss://box@account.dfs.core.windows.net.evil.example/x", "http://[::1/x", "http:///x", "http:x"])
def test_anywhere_else_is_refused(location: str) -> None:
    said = refusal(location, SERVER)
    assert said is not None
    assert "cannot be read (" in said or said.endswith(
        "Allowed: MLflow's own server, a disk, and an object store (gs, s3, wasbs, abfss) at its provider")


@pytest.mark.parametrize("location", ["http://evil.example/x", "http:///x", "mlflow-artifacts:/1", "mlflow-artifacts:///1"])
def test_without_a_server_there_is_no_web_server(location: str) -> None:
    assert refusal(location, "sqlite:////srv/mlflow.db") is not None


def test_a_refusal_tells_no_password() -> None:
    said = refusal("ftp://ana:hunter2@evil.example/x", SERVER)
    assert said is not None and said.startswith("they are said to lie at ftp://evil.example. Allowed: ")
