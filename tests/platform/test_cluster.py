"""An installation whose steps are pods of a cluster."""

import json
import os
import stat
import sys

import pytest

from airgate.errors import ConfigError
from airgate.platform import cluster, environment, services
from airgate.platform.environment import Installation
from airgate.platform.layout import Layout

CHOSEN = {"kubeconfig": "/etc/kube.conf", "host": "172.18.0.1", "namespace": "trial", "image": "steps:1", "s3_secret": "5ecret"}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Layout:
    for name in [name for name in os.environ if name.startswith(("AIRGATE_", "AWS_"))]:
        monkeypatch.delenv(name)
    made = Layout(root=tmp_path, home=tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def installation(place) -> Installation:
    (place.home / cluster.FILE).write_text(json.dumps(CHOSEN))
    return environment.find(place)


def test_what_steps_need_is_served_where_pods_reach_it(installation):
    port = installation.ports
    assert installation.mlflow_url == f"http://172.18.0.1:{port['mlflow']}"
    assert installation.airflow_url.startswith("http://127.0.0.1:"), "pods have no business there"
    store, git = services.for_pods(installation)
    assert store.command == [sys.executable, "-m", "moto.server", "--host", "172.18.0.1", "--port", str(port["object-store"])]
    assert "--listen=172.18.0.1" in git.command
    assert not any("enable" in word for word in git.command), "git's server only reads unless it is told to receive"
    assert services.STEPS not in services.expected(installation)


def test_the_cluster_decides_against_what_the_shell_says(installation, monkeypatch):
    monkeypatch.setenv("AIRGATE_RUNTIME", "local")
    monkeypatch.setenv("AIRGATE_ARTIFACT_STORE", "file:///tmp/elsewhere")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-another-account")
    found = environment.for_airflow(installation)
    assert (found["AIRGATE_RUNTIME"], found["AIRGATE_STEPS_IMAGE"]) == ("kubernetes", "steps:1")
    assert found["AIRGATE_ARTIFACT_STORE"] == "s3://airgate/artifacts"
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("airgate", "5ecret")
    assert found["KUBECONFIG"] == "/etc/kube.conf"


def test_commands_find_store_and_cluster_in_the_private_file(installation):
    environment.write_file(installation)
    path = installation.layout.environment_file
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {"AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "KUBECONFIG", "AIRGATE_PREDICTIONS"} <= {
        line.partition("=")[0] for line in path.read_text().splitlines()}


def test_an_installation_with_local_steps_stays_one(place, monkeypatch):
    environment.find(place)
    monkeypatch.setenv("AIRGATE_STEPS_IMAGE", "steps:1")
    with pytest.raises(ConfigError, match=r"runs its steps on this machine\. Name another folder .* as AIRGATE_HOME"):
        cluster.choose(place)
    assert cluster.load(place) is None


def test_without_an_image_it_says_how_to_come_by_one(place):
    with pytest.raises(ConfigError, match="AIRGATE_STEPS_IMAGE names no image: build docker/steps/Dockerfile"):
        cluster.choose(place)


@pytest.mark.parametrize("text", [None, "", "clusters: []\n", "{"])
def test_a_kubeconfig_that_is_none_is_named(place, monkeypatch, tmp_path, text):
    path = tmp_path / "kube.conf"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("AIRGATE_STEPS_IMAGE", "steps:1")
    with pytest.raises(ConfigError, match=rf"KUBECONFIG \({path}\) names no cluster: "):
        cluster.choose(place)
    assert cluster.load(place) is None


def test_a_cluster_that_does_not_answer_is_said(place, monkeypatch, tmp_path):
    path = tmp_path / "kube.conf"
    path.write_text(json.dumps({
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("AIRGATE_STEPS_IMAGE", "steps:1")
    with pytest.raises(ConfigError, match=r"nodes cannot be seen .* set AIRGATE_POD_HOST to the address at which pods reach"):
        cluster.choose(place)
    monkeypatch.setenv("AIRGATE_POD_HOST", "127.0.0.1")
    cluster.choose(place)
    chosen = environment.find(place).cluster
    assert chosen is not None
    with pytest.raises(ConfigError, match="the cluster does not answer"):
        chosen.prepare(environment.find(place).ports)
