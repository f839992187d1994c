"""The manifests are what Kubernetes and the operator read, and what `inferwatt print` says."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from inferwatt.config import load
from inferwatt.export.catalog import CATALOG
from inferwatt.export.paste import JOB, TOKEN_SECRET, Options, text_of
from inferwatt.settings import AgentConfig

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="it comes with make test-observability")
yaml = pytest.importorskip("yaml", reason="it comes with make test-observability")

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
PLAIN = FOLDER / "agent"
RESOURCES = ("namespace", "configmap", "daemonset", "service")
ENDPOINT_FIELDS = {"port", "interval", "honorLabels", "authorization"}
"""Those of `Endpoint` in the operator's API reference (monitoring.coreos.com/v1) that we use."""
SPEC_FIELDS = {"jobLabel", "selector", "endpoints"}
"""Those of `ServiceMonitorSpec`."""


def read(name: str) -> Any:
    """Return one manifest."""
    return yaml.safe_load((PLAIN / f"{name}.yaml").read_text(encoding="utf-8"))


def pod() -> Any:
    """Return the DaemonSet's pod."""
    return read("daemonset")["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", RESOURCES)
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_a_manifest_has_no_field_that_kubernetes_does_not_know(name: str, version: str) -> None:
    """Each is valid by the schema of an old and a new Kubernetes, unknown fields refused."""
    kubernetes_validate.validate(read(name), version, strict=True)


def test_a_field_that_is_none_is_found() -> None:
    """The check can fail."""
    wrong = read("daemonset") | {"spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_the_service_monitor_is_what_print_says() -> None:
    """The file and the command are one text, for the release that most have."""
    text = (PLAIN / "servicemonitor.yaml").read_text(encoding="utf-8")

    assert text == text_of("servicemonitor", Options(release="kube-prometheus-stack"))


def test_the_service_monitor_finds_the_service_and_the_token() -> None:
    """Labels, port and secret agree, all fields are the operator's, and our labels win over the agent's own."""
    spec = read("servicemonitor")["spec"]
    service = read("service")
    (endpoint,) = spec["endpoints"]

    assert set(spec) == SPEC_FIELDS
    assert set(endpoint) == ENDPOINT_FIELDS
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][spec["jobLabel"]] == JOB
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert endpoint["authorization"]["credentials"] == {"name": TOKEN_SECRET, "key": "token"}
    assert endpoint["honorLabels"] is True


def test_the_service_finds_the_agents() -> None:
    """Its selector is the pods' label, its port theirs."""
    template = read("daemonset")["spec"]["template"]
    (port,) = read("service")["spec"]["ports"]
    (container,) = template["spec"]["containers"]

    assert read("service")["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert port["targetPort"] in [each["name"] for each in container["ports"]]


def test_the_configuration_is_one_and_its_files_are_mounted(tmp_path: Path) -> None:
    """The agent takes the ConfigMap's text, and every path in it lies in a folder of the pod."""
    text = read("configmap")["data"]["inferwatt.toml"]
    file = tmp_path / "inferwatt.toml"
    file.write_text(text, encoding="utf-8")
    mounted = {mount["mountPath"] for mount in pod()["containers"][0]["volumeMounts"]}
    keys = tomllib.loads(text)

    load(AgentConfig, file=file, environ={})

    assert keys["agent"]["state_dir"] in mounted
    assert str(Path(keys["agent"]["socket"]).parent) in mounted
    assert keys["sources"]["sysfs_root"] in mounted
    assert str(Path(keys["web"]["token_file"]).parent) in mounted


def test_the_agent_has_no_right_that_it_does_not_need() -> None:
    """Not privileged, one capability, nothing of the host written but its own two folders, no account at the API."""
    spec = pod()
    (container,) = spec["containers"]
    context = container["securityContext"]
    written = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}

    assert spec["automountServiceAccountToken"] is False
    assert "hostNetwork" not in spec
    assert context["privileged"] is context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE"]}
    assert written == {"state", "socket", "tmp"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_a_server_has_namespace_pod_and_container() -> None:
    """The family to join on has all three."""
    labels = CATALOG["inferwatt_server_info"].labels

    assert {"namespace", "pod", "container"} <= set(labels)


@pytest.mark.parametrize("overlay", ["agent", "nvidia"])
def test_kustomize_builds_it(overlay: str) -> None:
    """The real kustomize, in kubectl, puts it together; what comes out is valid."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / overlay)], check=True, capture_output=True, text=True)
    made = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    spec = made["DaemonSet"]["spec"]["template"]["spec"]

    for kind, each in made.items():
        if kind != "ServiceMonitor":
            kubernetes_validate.validate(each, "1.37", strict=True)
    assert {each["metadata"].get("namespace") for kind, each in made.items() if kind != "Namespace"} == {"inferwatt"}
    assert spec.get("runtimeClassName") == (None if overlay == "agent" else "nvidia")
    assert "NVIDIA_VISIBLE_DEVICES" in done.stdout or overlay == "agent"
    assert "INFERWATT_NODE_NAME" in done.stdout
