"""The section `[export]`: where figures are sent besides `/metrics`, and what is left out everywhere."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Label = Literal["server", "phase", "component", "cache", "outcome", "tier", "namespace", "pod", "container"]
"""Labels that may be summed away: what is left still means something. Provenance never may. The last three are where a
server runs (places.py)."""
Plain = str | int | float | bool | tuple[str, ...]


class TextfileConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[export.textfile]`: a page for node_exporter's textfile collector, written anew each time."""

    path: str = ""
    period_seconds: Seconds = 15.0


class DatadogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[export.datadog]`: to an Agent by `dogstatsd`, or without one to `api_url`.

    The API's key is the first line of `api_key_file`, else the environment's `DD_API_KEY`.
    """

    dogstatsd: str = ""
    api_url: str = ""
    api_key_file: str = ""
    host: str = ""
    tags: tuple[str, ...] = ()
    period_seconds: Seconds = 10.0
    timeout_seconds: Seconds = 10.0


class OtlpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[export.otlp]`: to an OpenTelemetry collector, or to whoever takes OTLP.

    Headers are the lines `name: value` of `headers_file`, else the environment's `OTEL_EXPORTER_OTLP_HEADERS`.
    """

    endpoint: str = ""
    protocol: Literal["http", "grpc"] = "http"
    compression: Literal["gzip", "none"] = "gzip"
    temporality: Literal["cumulative", "delta"] = "cumulative"
    spans: bool = True
    headers_file: str = ""
    ca_file: str = ""
    attributes: tuple[str, ...] = ()
    period_seconds: Seconds = 10.0
    timeout_seconds: Seconds = 10.0


class RemoteWriteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[export.remote_write]`: to Prometheus, or to whoever takes its remote write.

    The token is the first line of `token_file`, else the environment's `INFERWATT_REMOTE_WRITE_TOKEN`; with a
    `username` it is a password. What waits is in `queue_dir`.
    """

    url: str = ""
    queue_dir: str = ""
    token_file: str = ""
    username: str = ""
    org_id: str = ""
    ca_file: str = ""
    job: str = "inferwatt"
    instance: str = ""
    max_megabytes: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_hours: Annotated[float, msgspec.Meta(gt=0)] = 24.0
    period_seconds: Seconds = 15.0
    timeout_seconds: Seconds = 3.0


class ExportConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[export]`.

    `families_off` are families, by the names of docs/metrics.md, and `labels_off` labels that no exporter shows: their
    series are added up. `other` is for exporters that a package of somebody else brings: `[export.other.NAME]`.
    """

    families_off: tuple[str, ...] = ()
    labels_off: tuple[Label, ...] = ()
    textfile: TextfileConfig = TextfileConfig()
    datadog: DatadogConfig = DatadogConfig()
    otlp: OtlpConfig = OtlpConfig()
    remote_write: RemoteWriteConfig = RemoteWriteConfig()
    other: Mapping[str, Mapping[str, Plain]] = {}
