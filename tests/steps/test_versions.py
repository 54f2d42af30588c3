"""Fetching a version that is not there, or not where it should be. What is there is fetched in test_register."""

import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest
from tests.steps.model_support import GATES, QUIET, mlflow_uri
from tests.steps.signing_support import registration_of

from airgate.errors import ArtifactError, SignatureError
from airgate.steps import versions

pytestmark = QUIET


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return mlflow_uri(tmp_path_factory.mktemp("mlflow"))


FILES = {"airgate_model.json": "sha256:" + "0" * 64}


def fetched(uri, name, version, to, source=""):
    signed = registration_of({"model": name, "version": version}, FILES, source=source)
    return versions.fetch_version(uri, name, version, to, GATES, envelope=signed)


def registered_from(uri, name, source):
    """A version that says of its files what somebody wrote; gives its number."""
    client = mlflow.MlflowClient(uri, uri)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    return client.create_model_version(name, source=source).version


@pytest.mark.parametrize("version", ["production", "latest", "../1", ""])
def test_an_alias_is_no_version(tmp_path, version):
    with pytest.raises(ArtifactError, match="is no version number"):
        versions.download("sqlite://", "diagnosis_classifier", version, tmp_path)


def test_a_version_that_mlflow_does_not_have(uri, tmp_path):
    with pytest.raises(ArtifactError, match="models:/diagnosis_classifier/7 cannot be fetched from MLflow: .*not found"):
        fetched(uri, "diagnosis_classifier", "7", tmp_path)


def test_a_version_that_something_else_registered(uri, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "model.txt").write_text("x")
    version = registered_from(uri, "foreign", str(tmp_path / "foreign"))
    with pytest.raises(ArtifactError, match=r"artifacts/model, as airgate\.steps\.register writes it|did not write this version"):
        fetched(uri, "foreign", str(version), tmp_path / "to")


class Listening(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.heard.append(self.headers.get("Authorization"))
        self.send_error(404)

    def log_message(self, *_):
        """Nothing: the tests' output is not a web server's log."""


@pytest.mark.attack("a version's files: a version in MLflow says that they lie on another's server")
@pytest.mark.parametrize("scheme", ["http", "mlflow-artifacts"])
def test_nobody_elses_server_is_asked_let_alone_told_a_password(uri, tmp_path, monkeypatch, scheme):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "airgate")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listening)
    server.heard = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"{scheme}://127.0.0.1:{server.server_port}/api/2.0/mlflow-artifacts/artifacts/1"
    version = registered_from(uri, "elsewhere", there)
    with pytest.raises(ArtifactError) as caught:
        fetched(uri, "elsewhere", str(version), tmp_path)
    server.shutdown()
    server.server_close()
    assert str(caught.value).startswith(f"models:/elsewhere/{version} is not fetched: they are said to lie at {scheme}://127.0.0.1:")
    assert server.heard == []


@pytest.mark.attack("a version's files: the version is deleted and made again, from other files")
def test_files_elsewhere_than_the_signed_registration_says(uri, tmp_path):
    version = registered_from(uri, "moved", str(tmp_path))
    with pytest.raises(ArtifactError, match="its files are not where its signed registration says. Somebody"):
        fetched(uri, "moved", str(version), tmp_path / "to", source="models:/m-1")
    assert not (tmp_path / "to").exists() or list((tmp_path / "to").iterdir()) == []


def test_nothing_is_fetched_for_a_signature_that_does_not_count(tmp_path):
    with pytest.raises(SignatureError, match="elsewhere version 1 is not signed, so it is not read"):
        versions.fetch_version("sqlite:////nowhere/there.db", "elsewhere", "1", tmp_path, GATES, envelope={})


@pytest.mark.parametrize("source", ["http://[::1/x", "models:/", "runs:/a/b"])
def test_an_address_that_is_none(uri, tmp_path, source):
    version = registered_from(uri, "malformed", str(tmp_path))
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection, connection:  # this client would not write it
        connection.execute("UPDATE model_versions SET source = ? WHERE name = 'malformed' AND version = ?", (source, version))
    with pytest.raises(ArtifactError, match=rf"models:/malformed/{version} (cannot be|is not) fetched"):
        fetched(uri, "malformed", str(version), tmp_path)


@pytest.mark.attack("a version's files: so many, or so big, that they fill the disk")
@pytest.mark.parametrize("form", ["many", "big"])
def test_what_would_fill_the_disk(uri, tmp_path, form):
    folder = tmp_path / form / versions.FOLDER
    (folder / "more").mkdir(parents=True)
    for number in range(1000 if form == "many" else 1):
        (folder / "more" / str(number)).touch()
    if form == "big":
        with (folder / "more" / "0").open("r+b") as file:
            file.truncate((32 << 30) + 1)  # a hole: it takes no room
    version = registered_from(uri, "huge", str(tmp_path / form))
    with pytest.raises(ArtifactError, match=f"models:/huge/{version} is not fetched: it has more than 1000 files or 32 GiB"):
        fetched(uri, "huge", str(version), tmp_path / "to")
