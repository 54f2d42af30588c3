"""The chart on a real API server: it takes every manifest, and the rights are what they say, in both directions."""

import itertools
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.helm.conftest import ENVIRONMENTS, Render

pytestmark = pytest.mark.kubernetes
NUMBERS = itertools.count()
IMAGE = "airgate-steps:0.2.0"


def kubectl(*arguments: str, given: object = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["kubectl", *arguments], input=yaml.safe_dump_all(given) if isinstance(given, list) else None,
                          capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace for a release, and its steps'."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    name = f"airgate-helm-{os.getpid()}-{next(NUMBERS)}"
    for each in (name, f"{name}-steps"):
        kubectl("create", "namespace", each)
    yield name
    kubectl("delete", "namespace", name, f"{name}-steps", "--wait=false")


@pytest.fixture(scope="module")
def version() -> str:
    return str(json.loads(kubectl("version", "-o", "json").stdout)["serverVersion"]["gitVersion"]).removeprefix("v")


@pytest.fixture(scope="module")
def installed(namespace: str, render: Render, version: str) -> str:
    """What gives rights and sets bounds, applied; and the accounts that the official chart would make."""
    kinds = ("Role", "RoleBinding", "ResourceQuota", "LimitRange", "NetworkPolicy")
    manifests = render("dev", {"steps": {"quota": {"pods": "1"}}}, kube=version, namespace=namespace)
    kubectl("apply", "-f", "-", given=[manifest for manifest in manifests if manifest["kind"] in kinds])
    for account in ("airgate-scheduler", "airgate-triggerer", "airgate-api-server"):
        kubectl("create", "serviceaccount", account, "-n", namespace)
    until = time.monotonic() + 30
    while kubectl("get", "serviceaccount", "default", "-n", f"{namespace}-steps", check=False).returncode:
        assert time.monotonic() < until
        time.sleep(0.2)
    return namespace


def rights(account: str, where: str) -> dict[str, set[str]]:
    """All that an account may do in a namespace, as the API server itself answers; without what everybody may."""
    table = kubectl("auth", "can-i", "--list", "--namespace", where, f"--as=system:serviceaccount:{account}").stdout
    rows = re.findall(r"^(\S+) +\[\] +\[\] +\[(.*)\]$", table, re.MULTILINE)
    assert rows, table
    return {resource: set(verbs.split()) for resource, verbs in rows if not resource.endswith(".authorization.k8s.io")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_api_server_takes_every_manifest(environment: str, namespace: str, render: Render, version: str) -> None:
    manifests = render(environment, kube=version, namespace=namespace)
    # The namespace is there already; a dry run makes none for what would lie in it.
    taken = kubectl("apply", "--dry-run=server", "-f", "-", given=[one for one in manifests if one["kind"] != "Namespace"])
    assert len(taken.stdout.splitlines()) == len(manifests) - 1
    assert "(server dry run)" in taken.stdout


@pytest.mark.parametrize("account", ["airgate-scheduler", "airgate-triggerer"])
def test_airflow_may_manage_pods_where_steps_run_and_nothing_else(account: str, installed: str) -> None:
    assert rights(f"{installed}:{account}", f"{installed}-steps") == {
        "pods": {"create", "get", "list", "watch", "patch", "delete"}, "pods/log": {"get"}, "events": {"list", "watch"}}
    assert rights(f"{installed}:{account}", installed) == {}
    assert rights(f"{installed}:{account}", "kube-system") == {}


def test_the_api_server_and_the_steps_may_nothing(installed: str) -> None:
    assert rights(f"{installed}:airgate-api-server", f"{installed}-steps") == {}
    assert rights(f"{installed}-steps:default", f"{installed}-steps") == {}


def pod(name: str, cpu: str = "100m", **container: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"cpu": cpu, "memory": "64Mi"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "base", "image": IMAGE, "resources": resources, **container}],
                     # Held back, so that no image is needed.
                     "nodeSelector": {"airgate.io/nowhere": "true"}, "automountServiceAccountToken": False}}


def test_what_is_not_allowed_is_refused_in_deed(installed: str) -> None:
    steps = f"{installed}-steps"

    def airflow(*arguments: str, given: object = None) -> subprocess.CompletedProcess[str]:
        return kubectl(f"--as=system:serviceaccount:{installed}:airgate-scheduler", *arguments, given=given, check=False)

    too_big = airflow("create", "-n", steps, "-f", "-", given=[pod("big", cpu="3")])
    assert "maximum cpu usage per Container is 2, but limit is 3" in too_big.stderr
    first = airflow("create", "-n", steps, "-f", "-", given=[pod("first")])
    assert first.stdout == "pod/first created\n"
    second = airflow("create", "-n", steps, "-f", "-", given=[pod("second")])
    assert "exceeded quota: airgate-steps, requested: pods=1, used: pods=1, limited: pods=1" in second.stderr
    for refused in (airflow("get", "secrets", "-n", steps), airflow("get", "secrets", "-n", installed),
                    airflow("exec", "first", "-n", steps, "--", "true"),
                    airflow("create", "-n", installed, "-f", "-", given=[pod("elsewhere")])):
        assert "(Forbidden)" in refused.stderr
    assert airflow("delete", "pod", "first", "-n", steps, "--grace-period=0", "--force").returncode == 0


def test_mlflow_runs_as_it_is_rendered(namespace: str, render: Render, version: str) -> None:
    """Read-only root, no user of its own, probes and all; with a database in the one place that it may write to."""
    image = os.environ.get("AIRGATE_TEST_STEPS_IMAGE")
    if not image:
        pytest.skip("AIRGATE_TEST_STEPS_IMAGE names no image that the cluster has")
    manifests = render("dev", {"steps": {"image": image}}, kube=version, namespace=namespace)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "airgate-mlflow", "namespace": namespace},
              "stringData": {"MLFLOW_BACKEND_STORE_URI": "sqlite:////tmp/mlflow.db"}}
    wanted = [one for one in manifests if one["metadata"]["name"] == "airgate-mlflow"]
    kubectl("apply", "-f", "-", given=[secret, *wanted])
    done = kubectl("wait", "deployment/airgate-mlflow", "-n", namespace, "--for=condition=Available", "--timeout=280s",
                   check=False)
    assert done.returncode == 0, kubectl("describe", "pods", "-n", namespace).stdout + kubectl(
        "logs", "deployment/airgate-mlflow", "-n", namespace, check=False).stdout
