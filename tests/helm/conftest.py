"""The chart, rendered by Helm. The official chart cannot be had everywhere: a stub stands in for it, so its own objects are
not here, and that it takes our values is only checked by name (`official-values.yaml`)."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.audit.conftest import pg_url, postgres
from tests.helm.engine import Helm, documents

__all__ = ["pg_url", "postgres"]  # fixtures

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ("dev", "staging", "production")
# What the values files leave to the installation.
REQUIRED = {
    "settings": {
        "AIRGATE_ARTIFACT_STORE": "s3://airgate/artifacts", "AIRGATE_PREDICTIONS": "s3://airgate/predictions",
        "AIRGATE_DATA_REPOSITORY": "https://git.example.org/data.git", "AIRGATE_AUDIT_ORIGIN": "audit.example.org/airgate",
    },
    "network": {"egress": [{"name": "artifact store", "cidr": "10.0.0.5/32", "ports": [443]}]},
    "mlflow": {"artifactRoot": "s3://airgate/mlflow"},
    # Packaged Helm leaves hooks out of what it renders; as plain Jobs they are there.
    "hooks": False,
}
Values = dict[str, Any]
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    found = subprocess.run([ROOT / "scripts" / "helm-engine"], capture_output=True, text=True, check=False)
    if found.returncode:
        assert not os.environ.get("CI"), found.stderr
        pytest.skip(f"no Helm: {found.stderr}")
    with Helm(Path(found.stdout.strip())) as opened:
        yield opened


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("chart") / "airgate"
    shutil.copytree(ROOT / "helm" / "airgate", copy)
    shutil.copytree(Path(__file__).parent / "airflow", copy / "charts" / "airflow", dirs_exist_ok=True)
    return copy


@pytest.fixture(scope="session")
def text(helm: Helm, chart: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Render an environment's values with what an installation must add, and with `change` on top."""
    folder = tmp_path_factory.mktemp("values")

    @cache
    def rendered(environment: str, change: str, kube: str, namespace: str) -> str:
        files = [folder / "required.yaml", folder / "change.yaml"]
        for file, content in zip(files, (yaml.safe_dump(REQUIRED), change), strict=True):
            file.write_text(content)
        return helm.template(chart, [chart / f"values-{environment}.yaml", *files], kube=kube, namespace=namespace)

    def render(environment: str = "dev", change: Values | None = None, kube: str = "1.29.0",
               namespace: str = "airgate-system") -> str:
        return rendered(environment, yaml.safe_dump(change or {}), kube, namespace)

    return render


@pytest.fixture(scope="session")
def render(text: Callable[..., str]) -> Render:
    return lambda *arguments, **named: documents(text(*arguments, **named))


def one(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one manifest of this kind whose name begins so."""
    found = [manifest for manifest in manifests if manifest["kind"] == kind and manifest["metadata"]["name"].startswith(name)]
    assert len(found) == 1, [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    return found[0]


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod specs in these manifests, by what makes them."""
    specs = {}
    for manifest in manifests:
        spec = manifest.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            specs[f"{manifest['kind']} {manifest['metadata']['name']}"] = spec["template"]["spec"]
    return specs
