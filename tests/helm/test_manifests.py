"""What is rendered: rights, pods, network, secrets by reference."""

import re
from typing import Any

import pytest
import yaml
from tests.helm.conftest import ENVIRONMENTS, ROOT, Render, one, pods

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_pod_is_restricted_and_has_no_token(render: Render, environment: str) -> None:
    specs = pods(render(environment))
    assert len(specs) >= 4
    for name, spec in specs.items():
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            assert container["securityContext"] == RESTRICTED, name
            assert set(container["resources"]["limits"]) == {"cpu", "memory"}, name
            assert not re.search(r":latest$|^[^:@]+$", container["image"]), name


def test_airflow_may_manage_pods_and_nothing_more(render: Render) -> None:
    manifests = render("production")
    assert [manifest["kind"] for manifest in manifests if "Role" in manifest["kind"]] == ["Role", "RoleBinding"]
    role = one(manifests, "Role", "airgate-pods")
    rights = {(group, resource): set(rule["verbs"]) for rule in role["rules"] for group in rule["apiGroups"]
              for resource in rule["resources"]}
    assert rights == {("", "pods"): {"create", "get", "list", "watch", "patch", "delete"}, ("", "pods/log"): {"get"},
                      ("", "events"): {"list", "watch"}}
    binding = one(manifests, "RoleBinding", "airgate-pods")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "airgate-system-steps"
    assert [(subject["name"], subject["namespace"]) for subject in binding["subjects"]] == [
        ("airgate-scheduler", "airgate-system"), ("airgate-triggerer", "airgate-system")]


def test_airflow_sees_nodes_only_where_it_was_allowed_to(render: Render) -> None:
    manifests = render("dev", {"readNodes": True})
    assert one(manifests, "ClusterRole", "airgate-nodes-airgate-system")["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}]
    assert one(manifests, "ClusterRoleBinding", "airgate-nodes")["subjects"] == one(
        manifests, "RoleBinding", "airgate-pods")["subjects"]


def test_steps_reach_dns_mlflow_and_what_is_named_and_nobody_reaches_them(render: Render) -> None:
    named = [{"name": "store", "cidr": "10.0.0.5/32", "ports": [443, 9000]},
             {"name": "git", "namespaceLabels": {"team": "git"}, "podLabels": {"app": "git"}, "ports": [22]}]
    policy = one(render("dev", {"network": {"egress": named}}), "NetworkPolicy", "airgate-steps")
    spec = policy["spec"]
    assert policy["metadata"]["namespace"] == "airgate-system-steps"
    assert (spec["podSelector"], spec["policyTypes"], spec["ingress"]) == ({}, ["Ingress", "Egress"], [])

    def pod(namespace: dict[str, str], labels: dict[str, str]) -> dict[str, Any]:
        return {"namespaceSelector": {"matchLabels": namespace}, "podSelector": {"matchLabels": labels}}

    known = "kubernetes.io/metadata.name"
    assert [(rule["to"], [(port["protocol"], port["port"]) for port in rule["ports"]]) for rule in spec["egress"]] == [
        ([pod({known: "kube-system"}, {"k8s-app": "kube-dns"})], [("UDP", 53), ("TCP", 53)]),
        ([pod({known: "airgate-system"}, {"app.kubernetes.io/instance": "airgate", "app.kubernetes.io/component": "mlflow"})],
         [("TCP", 5000)]),
        ([{"ipBlock": {"cidr": "10.0.0.5/32"}}], [("TCP", 443), ("TCP", 9000)]),
        ([pod({"team": "git"}, {"app": "git"})], [("TCP", 22)]),
    ]


def test_selectors_of_the_policies_meet_the_labels_of_what_they_mean(render: Render) -> None:
    manifests = render("dev")
    mlflow = one(manifests, "Deployment", "airgate-mlflow")["spec"]["template"]["metadata"]["labels"]
    rules = one(manifests, "NetworkPolicy", "airgate-steps")["spec"]["egress"]
    meant = [one(manifests, "Service", "airgate-mlflow")["spec"]["selector"],
             one(manifests, "NetworkPolicy", "airgate-mlflow")["spec"]["podSelector"]["matchLabels"],
             rules[1]["to"][0]["podSelector"]["matchLabels"]]
    assert all(selector.items() <= mlflow.items() for selector in meant)
    peers = one(manifests, "NetworkPolicy", "airgate-mlflow")["spec"]["ingress"][0]["from"]
    steps = one(manifests, "Namespace", "airgate-system-steps")["metadata"]["labels"]
    assert any(peer.get("namespaceSelector", {}).get("matchLabels", {"": ""}).items() <= steps.items() for peer in peers)


def test_secrets_come_by_reference_and_each_is_on_the_list(render: Render) -> None:
    for environment in ENVIRONMENTS:
        manifests = render(environment)
        assert "Secret" not in {manifest["kind"] for manifest in manifests}
        assert not re.search(r"://[^/\s\"']*:[^/\s\"']*@", yaml.safe_dump(manifests))
    wanted = set(re.findall(r"(?:secretName|secretKeyRef|secretRef)\W+(?:\w+: [\w-]+, )?(?:name: )?(airgate-[a-z-]+)",
                            (ROOT / "helm/airgate/values.yaml").read_text() + yaml.safe_dump(
                                [*render("dev"), *render("production", {"mlflow": {"basicAuth": True}})],
                                default_flow_style=True, width=10**6)))
    listed = set(re.findall(r'^    "(airgate-[a-z-]+)": "', (ROOT / "scripts/helm-secrets").read_text(), re.MULTILINE))
    assert wanted | {"airgate-airflow-keys", "airgate-metadata", "airgate-steps"} == listed
    notes = (ROOT / "helm/airgate/templates/NOTES.txt").read_text()
    assert [name for name in listed if name not in notes] == []


def test_one_job_alone_gets_the_owner_and_the_keys_lie_where_tasks_run(render: Render) -> None:
    using = {name: yaml.safe_dump(spec) for name, spec in pods(render("production")).items()}
    assert [name.rsplit("-", 1)[0] for name, spec in using.items() if "airgate-audit-owner" in spec] == [
        "Job airgate-audit-create"]
    values = yaml.safe_load((ROOT / "helm/airgate/values.yaml").read_text())["airflow"]
    assert [name for name, part in values.items() if "airgate-keys" in yaml.safe_dump(part)] == ["scheduler"]


def test_pools_count_steps_that_wait(render: Render) -> None:
    job = one(render("production", {"pools": {"gpu-a100": {"slots": 2, "description": "A100"}}}), "Job", "airgate-pools")
    container = job["spec"]["template"]["spec"]["containers"][0]
    pools = yaml.safe_load(next(variable["value"] for variable in container["env"] if variable["name"] == "POOLS"))
    assert pools == {"gpu": {"slots": 4, "description": "GPUs that training may use at a time", "include_deferred": True},
                     "gpu-a100": {"slots": 2, "description": "A100", "include_deferred": True}}


def test_an_old_cluster_and_a_new_one_get_the_api_that_they_serve(render: Render) -> None:
    new, old = render("production", kube="1.34.0"), render("production", kube="1.20.2")
    for manifests, versions in ((new, ("batch/v1", "policy/v1")), (old, ("batch/v1beta1", "policy/v1beta1"))):
        assert (one(manifests, "CronJob", "airgate-audit-verify")["apiVersion"],
                one(manifests, "PodDisruptionBudget", "airgate-mlflow")["apiVersion"]) == versions


def test_mlflow_answers_to_the_name_that_steps_use_and_holds_no_credentials_of_the_store(render: Render) -> None:
    manifests = render("production", {"mlflow": {"allowedHosts": ["mlflow.example.org"]}})
    container = one(manifests, "Deployment", "airgate-mlflow")["spec"]["template"]["spec"]["containers"][0]
    address = one(manifests, "ConfigMap", "airgate-settings")["data"]["AIRGATE_MLFLOW_URI"].removeprefix("http://")
    hosts = next(argument for argument in container["args"] if argument.startswith("--allowed-hosts="))
    assert {address, "mlflow.example.org", "localhost:5000"} <= set(hosts.partition("=")[2].split(","))
    assert "--no-serve-artifacts" in container["args"]
    assert "--app-name=basic-auth" in container["args"]
    assert "envFrom" not in container


def test_jobs_are_hooks_where_helm_installs_and_change_their_name_with_their_values_elsewhere(render: Render) -> None:
    first, second = (one(render("dev", change), "Job", "airgate-pools")["metadata"]["name"]
                     for change in ({}, {"pools": {"gpu": {"slots": 7}}}))
    assert first != second
    assert not [manifest for manifest in render("dev", {"hooks": True}) if manifest["kind"] == "Job"
                and "helm.sh/hook" not in manifest["metadata"]["annotations"]]
