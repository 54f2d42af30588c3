"""A real cluster: the one that KUBECONFIG names. `.ci/run` starts one where it can; elsewhere these tests are skipped."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.runtime.conftest import home, server

__all__ = ["home", "server"]  # fixtures


@pytest.fixture(scope="session")
def api() -> Any:
    """The cluster's core API."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    from kubernetes import client, config

    config.load_kube_config(os.environ["KUBECONFIG"])
    return client.CoreV1Api()


@pytest.fixture(scope="session")
def namespace(api: Any) -> Iterator[str]:
    """A namespace of these tests' own, gone afterwards with all that is in it."""
    made = api.create_namespace({"metadata": {"generateName": "airgate-test-"}}).metadata.name
    # Kubernetes admits no pod before it has made the namespace's default service account.
    until = time.monotonic() + 30
    while not api.list_namespaced_service_account(made).items:
        assert time.monotonic() < until, f"namespace {made} got no service account; does the controller manager run?"
        time.sleep(0.1)
    yield made
    api.delete_namespace(made)
