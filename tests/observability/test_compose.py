"""The compose file starts what its parts need: files that are there, a token for who reads it, our configuration."""

from pathlib import Path
from typing import Any

import pytest

from inferwatt.export.paste import Options, text_of

yaml = pytest.importorskip("yaml", reason="it comes with make test-observability")

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "compose"
MADE_BY_THE_USER = {"./secrets/token"}


def compose() -> Any:
    """Return the compose file."""
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def test_what_is_mounted_is_there() -> None:
    """Each file and folder of a mount lies in the checkout, each named volume is declared."""
    data = compose()
    mounts = [mount.split(":")[0] for service in data["services"].values() for mount in service["volumes"]]
    paths = {mount for mount in mounts if mount.startswith(".")}

    assert [path for path in paths if not (FOLDER / path).exists()] == []
    assert {mount for mount in mounts if not mount.startswith(".")} == set(data["volumes"])
    assert {each["file"] for each in data["secrets"].values()} == MADE_BY_THE_USER
    assert (FOLDER / data["services"]["agent"]["build"]["context"] / "deploy" / "Containerfile").exists()


def test_prometheus_is_configured_as_print_says() -> None:
    """The scrape configuration is our own text, for the agent of this file and its token."""
    target = Options(targets=("agent:9595",), token_file="/run/secrets/inferwatt_token")

    assert (FOLDER / "prometheus.yml").read_text(encoding="utf-8") == text_of("prometheus-config", target)


def test_nobody_beyond_this_machine_is_answered() -> None:
    """Every port is published on loopback only, and the agent asks for the token."""
    services = compose()["services"]

    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])
    assert services["agent"]["environment"]["INFERWATT_WEB__TOKEN_FILE"] == "/run/secrets/inferwatt_token"
    assert "inferwatt_token" in services["agent"]["secrets"]


def test_prometheus_stands_where_grafana_looks() -> None:
    """The address in Grafana's provisioning is a service here, and its dashboards lie where they are mounted."""
    data = compose()["services"]
    provisioning = FOLDER.parent / "grafana" / "provisioning"
    source = (provisioning / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    boards = (provisioning / "dashboards" / "inferwatt.yml").read_text(encoding="utf-8")

    assert "http://prometheus:9090" in source
    assert "prometheus" in data
    assert any(mount.split(":")[1] in boards for mount in data["grafana"]["volumes"][1:2])
