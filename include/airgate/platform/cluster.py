"""Steps as pods of a real cluster, for `airgate demo --cluster`.

Airflow, PostgreSQL and MLflow run on this machine as ever, and so do an S3 server and a git server. Pods reach MLflow and
these two at this machine's address towards the cluster's nodes: whoever reaches that address may use them, so it is for
trials. `cluster.json` in the installation's home makes an installation one with a cluster.
"""

import os
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from airgate.errors import ConfigError
from airgate.platform.layout import Layout
from airgate.platform.private_files import read_json, write_json

FILE = "cluster.json"
BUCKET = "airgate"
SECRET = "airgate-steps"  # noqa: S105  the Secret's name
NAMESPACE = "airgate-demo"
# The API server lets no pod in that could do more than a step needs.
NAMESPACE_LABELS = {"pod-security.kubernetes.io/enforce": "restricted"}
HOST = "AIRGATE_POD_HOST"


@dataclass(frozen=True)
class Cluster:
    """A cluster's file of access, the address at which its pods reach this machine, and the steps' namespace and image."""

    kubeconfig: str
    host: str
    namespace: str
    image: str
    s3_secret: str

    def credentials(self, ports: dict[str, int]) -> dict[str, str]:
        """What opens the S3 server: for Airflow's processes, and for pods in the Secret."""
        return {"AWS_ACCESS_KEY_ID": "airgate", "AWS_SECRET_ACCESS_KEY": self.s3_secret, "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://{self.host}:{ports['object-store']}"}

    def variables(self, ports: dict[str, int]) -> dict[str, str]:
        """The environment of every process of such an installation."""
        return {
            "KUBECONFIG": self.kubeconfig,
            "AIRGATE_RUNTIME": "kubernetes",
            "AIRGATE_NAMESPACE": self.namespace,
            "AIRGATE_STEPS_IMAGE": self.image,
            "AIRGATE_STEPS_SECRET": SECRET,
            "AIRGATE_ARTIFACT_STORE": f"s3://{BUCKET}/artifacts",
            "AIRGATE_PREDICTIONS": f"s3://{BUCKET}/predictions",
            "AIRGATE_DATA_REPOSITORY": f"git://{self.host}:{ports['data-server']}/data",
            **self.credentials(ports),
        }

    def prepare(self, ports: dict[str, int]) -> None:
        """Make the namespace and the Secret, or bring those that are there to what they should be.

        Raises ConfigError when the cluster does not answer or refuses.
        """
        namespace = {"metadata": {"name": self.namespace, "labels": NAMESPACE_LABELS}}
        secret = {"metadata": {"name": SECRET}, "stringData": self.credentials(ports)}
        api = _api(self.kubeconfig)
        _ensure(lambda: api.create_namespace(namespace), lambda: api.patch_namespace(self.namespace, namespace))
        _ensure(lambda: api.create_namespaced_secret(self.namespace, secret),
                lambda: api.patch_namespaced_secret(SECRET, self.namespace, secret))

    def make_bucket(self, ports: dict[str, int]) -> None:
        """Make the bucket of artifacts, predictions and data; one that is there stays. Raises ConfigError when that fails."""
        answer = httpx.put(f"{self.credentials(ports)['AWS_ENDPOINT_URL']}/{BUCKET}", trust_env=False)
        if not answer.is_success and answer.status_code != httpx.codes.CONFLICT:
            raise ConfigError(f"the S3 server of the installation made no bucket: {answer.status_code} {answer.text}")


def load(place: Layout) -> Cluster | None:
    """The cluster that the installation's steps run on; None where they run on this machine."""
    known = read_json(place.home / FILE)
    return Cluster(**known) if known else None


def choose(place: Layout) -> None:
    """Make this home one whose steps run in the cluster that KUBECONFIG names, in the image that AIRGATE_STEPS_IMAGE names.

    Once made, it remembers both.

    Raises ConfigError when one of them is missing, when the cluster does not answer, or when the home is an
    installation's whose steps run on this machine.
    """
    if load(place) is None and (place.home / "ports.json").exists():
        raise ConfigError(f"the installation in {place.home} runs its steps on this machine. Name another folder for the one "
                          "with a cluster, as AIRGATE_HOME.")
    known = read_json(place.home / FILE)
    image = os.environ.get("AIRGATE_STEPS_IMAGE") or known.get("image")
    if not image:
        raise ConfigError("AIRGATE_STEPS_IMAGE names no image: build docker/steps/Dockerfile from here, push it to where the "
                          "cluster pulls from, and set the variable to its name with tag or digest")
    kubeconfig = os.environ.get("KUBECONFIG") or known.get("kubeconfig") or str(Path.home() / ".kube" / "config")
    chosen = Cluster(str(Path(kubeconfig).absolute()), os.environ.get(HOST) or _address_towards(kubeconfig),
                     os.environ.get("AIRGATE_NAMESPACE", NAMESPACE), image, known.get("s3_secret") or secrets.token_hex(16))
    place.make()
    write_json(place.home / FILE, asdict(chosen))


def _api(kubeconfig: str) -> Any:
    from kubernetes import client, config

    try:
        config.load_kube_config(kubeconfig)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise ConfigError(f"KUBECONFIG ({kubeconfig}) names no cluster: {error}") from None
    return client.CoreV1Api()


def _ensure(create: Any, change: Any) -> None:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        try:
            create()
        except ApiException as error:
            if error.status != 409:  # it is there
                raise
            change()
    except ApiException as error:
        raise ConfigError(f"the cluster refuses what the steps need there: {error.reason}: {error.body}") from None
    except HTTPError as error:
        raise ConfigError(f"the cluster does not answer: {error}") from None


def _address_towards(kubeconfig: str) -> str:
    """This machine's address on the way to the cluster's first node; nothing is sent."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        nodes = _api(kubeconfig).list_node(limit=1).items
    except (ApiException, HTTPError) as error:
        raise ConfigError(f"the cluster's nodes cannot be seen ({error}): set {HOST} to the address at which pods reach this "
                          "machine") from None
    addresses = [one.address for node in nodes for one in node.status.addresses if one.type == "InternalIP"]
    if not addresses:
        raise ConfigError(f"the cluster's nodes have no address: set {HOST} to the address at which pods reach this machine")
    with socket.socket(socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((addresses[0], 9))
        return str(probe.getsockname()[0])
