"""The whole configuration: one section a room, and where the agent's state lies."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from inferwatt.clients.carbon import Intensity, intensity
from inferwatt.config import Loaded, load
from inferwatt.engines.servers import EnginesConfig
from inferwatt.export.settings import ExportConfig
from inferwatt.gateway.settings import GatewayConfig
from inferwatt.ledger.sqlite import LedgerConfig
from inferwatt.sources import SourcesConfig
from inferwatt.sources.sampler import SamplingConfig
from inferwatt.spans.settings import SpansConfig
from inferwatt.web.access import WebConfig


class AgentSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[agent]`: where its state and its socket are, which tags are kept, how many models are named."""

    state_dir: str = ""
    socket: str = ""
    tag_keys: tuple[str, ...] = ("team", "project", "environment", "task")
    max_models: int = 500


class TenantsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[tenants]`: whether energy is counted by tenant, and how many are named before they are folded."""

    enabled: bool = True
    max_tenants: int = 1000


class EstimatesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[estimates]`: what the electricity of managed APIs emits, and where that figure is from."""

    carbon_grams_per_kwh: float | None = None
    carbon_source: str = ""

    def __post_init__(self) -> None:
        intensity(self.carbon_grams_per_kwh, self.carbon_source)

    @property
    def carbon(self) -> Intensity | None:
        """The intensity; None where nobody has said it: there is no default."""
        return intensity(self.carbon_grams_per_kwh, self.carbon_source)


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration: one section a room."""

    agent: AgentSection = AgentSection()
    sources: SourcesConfig = SourcesConfig()
    sampling: SamplingConfig = SamplingConfig()
    engines: EnginesConfig = EnginesConfig()
    tenants: TenantsSection = TenantsSection()
    ledger: LedgerConfig = LedgerConfig()
    web: WebConfig = WebConfig()
    export: ExportConfig = ExportConfig()
    gateway: GatewayConfig = GatewayConfig()
    spans: SpansConfig = SpansConfig()
    estimates: EstimatesSection = EstimatesSection()


def state_folder(section: AgentSection) -> Path:
    """Return where the agent keeps its state: as configured, else by the XDG rules, else /var/lib for a service."""
    if section.state_dir:
        return Path(section.state_dir)
    if os.environ.get("STATE_DIRECTORY"):  # systemd's StateDirectory=
        return Path(os.environ["STATE_DIRECTORY"].split(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "inferwatt"


def configuration(config: Path | None, flags: Mapping[str, object] | None = None) -> Loaded[AgentConfig]:
    """Return the configuration in force.

    Raises:
        ConfigError: the file, the environment or a flag is wrong.
    """
    names = {"agent.socket": "--socket", "agent.state_dir": "--state-dir", "web.listen": "--listen"}
    return load(AgentConfig, file=config, environ=os.environ, flags=flags, flag_names=names)
