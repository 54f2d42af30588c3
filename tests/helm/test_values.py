"""Values: each environment's render, a typo fails, and what may not be switched off cannot be."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helm.conftest import ENVIRONMENTS, ROOT, Render, one
from tests.helm.engine import Helm, HelmRefused, documents

from airgate import settings

CHART = ROOT / "helm" / "airgate"
DIGEST = "sha256:" + "0" * 64
# What the chart knows by itself, and what would be a secret.
NOT_GIVEN = {"AIRGATE_RUNTIME", "AIRGATE_ENVIRONMENT", "AIRGATE_NAMESPACE", "AIRGATE_STEPS_IMAGE", "AIRGATE_STEPS_SECRET",
             "AIRGATE_MLFLOW_URI", "AIRGATE_AIRFLOW_API", "AIRGATE_AUDIT_SPOOL", "AIRGATE_AUDIT_KEY", "AIRGATE_MODEL_KEY",
             "AIRGATE_AUDIT_URL", "AIRGATE_AUDIT_OWNER_URL", "AIRGATE_HOME"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_makes_the_same_things(render: Render, environment: str) -> None:
    made = {(manifest["kind"], re.sub("-[0-9a-f]{8}$", "", manifest["metadata"]["name"])) for manifest in render(environment)}
    assert made - {("Job", "airgate-database-roles"), ("PodDisruptionBudget", "airgate-mlflow")} == {
        ("Namespace", "airgate-system-steps"), ("ResourceQuota", "airgate-steps"), ("LimitRange", "airgate-steps"),
        ("NetworkPolicy", "airgate-steps"), ("NetworkPolicy", "airgate-mlflow"), ("Role", "airgate-pods"),
        ("RoleBinding", "airgate-pods"), ("PriorityClass", "airgate-inference"), ("PriorityClass", "airgate-training"),
        ("ConfigMap", "airgate-settings"), ("PersistentVolumeClaim", "airgate-spool"), ("Deployment", "airgate-mlflow"),
        ("Service", "airgate-mlflow"), ("CronJob", "airgate-audit-verify"), ("Job", "airgate-audit-create"),
        ("Job", "airgate-pools"),
    }


@pytest.mark.parametrize(("change", "where", "what"), [
    ({"enviroment": "production"}, "", "additional properties 'enviroment' not allowed"),
    ({"environment": "prod"}, "/environment", "must be one of 'development', 'staging', 'production'"),
    ({"settings": {"AIRGATE_ARTIFACTSTORE": "s3://a"}}, "/settings", "'AIRGATE_ARTIFACTSTORE' not allowed"),
    ({"settings": {"AIRGATE_AUDIT_URL": "postgresql://db/audit"}}, "/settings", "'AIRGATE_AUDIT_URL' not allowed"),
    ({"settings": {"AIRGATE_AUDIT_ANCHORS": "https://me:pw@anchors.example.org"}}, "/settings/AIRGATE_AUDIT_ANCHORS", "'not'"),
    ({"settings": {"AIRGATE_ARTIFACT_STORE": ""}}, "/settings/AIRGATE_ARTIFACT_STORE", "does not match pattern"),
    ({"network": {"egress": []}}, "/network/egress", "minItems: got 0, want 1"),
    ({"network": {"egress": [{"name": "all", "cidr": "0.0.0.0/0", "ports": [443]}]}}, "/network/egress/0/cidr", "'not' failed"),
    ({"network": {"egress": [{"name": "store", "cidr": "10.0.0.5/32"}]}}, "/network/egress/0", "missing property 'ports'"),
    ({"network": {"egress": [{"name": "s3", "podLabels": {"app": "s3"}, "ports": [1]}]}}, "/network/egress/0", "'oneOf' failed"),
    ({"steps": {"image": "airgate-steps:latest"}}, "/steps/image", "'not' failed"),
    ({"steps": {"quota": {"pods": "lots"}}}, "/steps/quota/pods", "does not match pattern"),
    ({"pools": {"gpu-a100": {"slot": 1}}}, "/pools/gpu-a100", "missing property 'slots'"),
    ({"pools": {"gpu": {"slots": 0}}}, "/pools/gpu/slots", "minimum: got 0, want 1"),
    ({"database": {"auditWriter": "x; DROP ROLE y"}}, "/database/auditWriter", "does not match pattern"),
    ({"airflow": {"allowPodLaunching": True}}, "", "Leave it false; steps' pods are managed by the Role airgate-pods."),
    ({"airflow": {"multiNamespaceMode": True}}, "", "Airflow would manage pods in the whole cluster. Leave it false."),
    ({"airflow": {"extraEnvFrom": ""}}, "", "airflow.extraEnvFrom lost the ConfigMap airgate-settings"),
    ({"steps": {"namespace": "airgate-system"}}, "", "Leave it empty for 'airgate-system-steps', or name another."),
    ({"airflow": {"scheduler": {"replicas": 2}}}, "", "spool.accessModes is [\"ReadWriteOnce\"]"),
])
def test_a_value_that_cannot_be_meant_is_refused(text: Callable[..., str], change: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(HelmRefused) as refused:
        text("dev", change)
    assert where in str(refused.value)
    assert what in str(refused.value)


def test_without_what_only_the_installation_knows_nothing_renders(helm: Helm, chart: Path) -> None:
    with pytest.raises(HelmRefused) as refused:
        helm.template(chart, [chart / "values-production.yaml"])
    for value in ("AIRGATE_ARTIFACT_STORE", "AIRGATE_PREDICTIONS", "AIRGATE_DATA_REPOSITORY", "AIRGATE_AUDIT_ORIGIN",
                  "/mlflow/artifactRoot", "/network/egress"):
        assert value in str(refused.value)


def test_the_guides_values_are_enough(helm: Helm, chart: Path, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "platform.md").read_text().partition("## On Kubernetes")[2]
    mine = tmp_path / "mine.yaml"
    mine.write_text(textwrap.dedent(re.findall(r"^ *```yaml\n(.*?)^ *```", guide, re.MULTILINE | re.DOTALL)[0]))
    made = documents(helm.template(chart, [chart / "values-production.yaml", mine]))
    rules = one(made, "NetworkPolicy", "airgate-steps")["spec"]["egress"]
    assert [rule["to"][0]["ipBlock"]["cidr"] for rule in rules[2:]] == ["10.0.0.5/32", "10.0.0.6/32"]


def test_an_image_may_be_named_by_its_digest(render: Render) -> None:
    asked = f"registry.example.org/airgate-steps@{DIGEST}"
    manifests = render("dev", {"steps": {"image": asked}, "airflow": {"defaultAirflowDigest": DIGEST}})
    assert one(manifests, "ConfigMap", "airgate-settings")["data"]["AIRGATE_STEPS_IMAGE"] == asked
    job = one(manifests, "Job", "airgate-audit-create")["spec"]["template"]["spec"]["containers"][0]
    assert job["image"] == f"airgate-airflow@{DIGEST}"


def test_the_schema_knows_every_setting_there_is() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    there = set(re.findall(r'"(AIRGATE_[A-Z_]+)"', Path(settings.__file__).read_text()))
    assert there >= NOT_GIVEN
    assert set(schema["properties"]["settings"]["properties"]) == there - NOT_GIVEN


def test_airflow_reads_its_settings_from_what_is_rendered(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    data = one(render("production"), "ConfigMap", "airgate-settings")["data"]
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    now = settings.load()
    assert (now.runtime, now.environment, now.namespace) == ("kubernetes", "production", "airgate-system-steps")
    assert (now.steps_secret, now.steps_image) == ("airgate-steps", "airgate-steps:0.2.0")
    assert now.mlflow_uri == "http://airgate-mlflow.airgate-system.svc:5000"
    assert now.airflow_api == "http://airgate-api-server:8080"
    assert now.artifact_store == "s3://airgate/artifacts"
    assert NOT_GIVEN - set(data) == {"AIRGATE_AUDIT_URL", "AIRGATE_AUDIT_OWNER_URL", "AIRGATE_HOME"}


def _unknown(given: object, known: object, path: str = "airflow") -> list[str]:
    if known is True or not isinstance(given, dict):
        return []
    assert isinstance(known, dict), path
    found = [f"{path}.{name}" for name in given if name not in known]
    return found + [name for key in given if key in known for name in _unknown(given[key], known[key], f"{path}.{key}")]


@pytest.mark.parametrize("file", ["values.yaml", *(f"values-{environment}.yaml" for environment in ENVIRONMENTS)])
def test_what_we_set_in_the_official_chart_is_there(file: str) -> None:
    known = yaml.safe_load((Path(__file__).parent / "official-values.yaml").read_text())
    assert _unknown(yaml.safe_load((CHART / file).read_text())["airflow"], known) == []


def test_production_has_two_of_everything_that_could_be_missed() -> None:
    values = yaml.safe_load((CHART / "values-production.yaml").read_text())
    assert {name: values["airflow"][name]["replicas"] for name in ("scheduler", "apiServer", "triggerer", "dagProcessor")} == {
        "scheduler": 2, "apiServer": 2, "triggerer": 2, "dagProcessor": 2}
    assert values["mlflow"]["replicas"] == 2
    assert values["airflow"].get("postgresql") is None
    assert yaml.safe_load((CHART / "values.yaml").read_text())["airflow"]["postgresql"] == {"enabled": False}
