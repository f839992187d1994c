"""The section `[sources]`: where sources look, which are asked, and what only a user can tell (addresses, accounts)."""

from typing import Annotated

import msgspec

PollSeconds = Annotated[float, msgspec.Meta(ge=0.2, le=3600.0)]
TimeoutSeconds = Annotated[float, msgspec.Meta(ge=0.01, le=60.0)]


class RedfishConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[sources.redfish]]`: a BMC that knows what the whole server draws.

    The password is the first line of ``password_file``, so that no secret is in the configuration. ``ca_file`` is the
    certificate of a BMC with its own authority; ``verify_tls = false`` trusts any.
    """

    url: str
    username: str = ""
    password_file: str = ""
    chassis: str = ""
    ca_file: str = ""
    verify_tls: bool = True
    poll_seconds: PollSeconds = 10.0
    timeout_seconds: TimeoutSeconds = 5.0


class IpmiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[sources.ipmi]`: ``command`` is ipmitool as it is to be called, connection and account included."""

    enabled: bool = False
    command: tuple[str, ...] = ("ipmitool",)
    poll_seconds: PollSeconds = 10.0
    timeout_seconds: TimeoutSeconds = 5.0


class ReportedConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[sources.reported]]`: another exporter's page; ``kind`` is found from the page where it is empty.

    The first line of ``password_file`` is the password of ``username``, a bearer token where there is no name.
    ``ca_file`` is the certificate of an exporter with its own authority.
    """

    url: str
    kind: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    poll_seconds: PollSeconds = 1.0
    timeout_seconds: TimeoutSeconds = 0.5


class AmdsmiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[sources.amdsmi]`: ``use_counter = false`` where the GPUs' energy counters are known to be wrong."""

    use_counter: bool = True


class SourcesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where sources look, and which are not asked (``disabled``: names as `inferwatt sources` shows them)."""

    sysfs_root: str = "/sys"
    proc_root: str = "/proc"
    disabled: tuple[str, ...] = ()
    simulated: str = ""
    cloud_metadata: bool = True
    amdsmi: AmdsmiConfig = AmdsmiConfig()
    redfish: tuple[RedfishConfig, ...] = ()
    ipmi: IpmiConfig = IpmiConfig()
    reported: tuple[ReportedConfig, ...] = ()
