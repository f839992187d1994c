"""To an OpenTelemetry collector, or to whoever takes OTLP: where it is, who may be told, and what it is told we are."""

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from inferwatt.errors import ConfigError, Unavailable
from inferwatt.export.exporter import About, Exporter, ExportRetry
from inferwatt.export.settings import ExportConfig, OtlpConfig
from inferwatt.loopback import is_loopback

HEADERS_VARIABLE: Final = "OTEL_EXPORTER_OTLP_HEADERS"
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]+")
_LARGEST_BYTES: Final = 65_536


def open_exporter(settings: ExportConfig, about: About) -> Exporter | None:
    """Return the exporter, None where no receiver is named.

    Raises:
        ConfigError: its address, a header or an attribute is wrong.
        Unavailable: the extra is not installed.
    """
    config = settings.otlp
    if not config.endpoint:
        return None
    has_headers = bool(read_headers(config))  # a file that is not there is told at the start
    check_endpoint(config, has_headers=has_headers)
    attributes = read_attributes(config)
    try:
        exporter = import_module("inferwatt.export.otlp_exporter").Otlp
        wire = import_module(f"inferwatt.export.otlp_{config.protocol}").Wire
    except ImportError as exc:
        fix = "pip install 'inferwatt[otlp-grpc]'" if config.protocol == "grpc" else "pip install 'inferwatt[otlp]'"
        raise Unavailable("OpenTelemetry's SDK is missing", where="export.otlp", fix=fix) from exc
    try:
        opened = wire(config, lambda: _headers_now(config))
    except OSError as exc:
        what = f"the certificate cannot be read: {exc.strerror or 'it is none'}"
        raise ConfigError(what, where="export.otlp.ca_file", fix="a PEM file of the receiver's authority") from None
    return cast(Exporter, exporter(opened, config, about, attributes))


def check_endpoint(config: OtlpConfig, *, has_headers: bool) -> None:
    """Refuse what is no address of a receiver.

    Raises:
        ConfigError: it is none, or the headers would go over the network in the clear.
    """
    fix = "http://127.0.0.1:4317" if config.protocol == "grpc" else "http://127.0.0.1:4318"
    where = "export.otlp.endpoint"
    parts = urlsplit(config.endpoint)
    is_odd = parts.username is not None or parts.query or (config.protocol == "grpc" and parts.path.strip("/"))
    if parts.scheme not in {"http", "https"} or not parts.hostname or is_odd:
        raise ConfigError(f"{config.endpoint} is no address of an OTLP receiver", where=where, fix=fix)
    if has_headers and parts.scheme == "http" and not is_loopback(parts.hostname):
        what = "the headers would go over the network in the clear"
        raise ConfigError(what, where=where, fix="https://, or a collector on this machine")


def read_headers(config: OtlpConfig) -> dict[str, str]:
    """Return the headers, read anew each time, so that a token can be changed. No error holds a value.

    Raises:
        ConfigError: the file cannot be read, or one is no header.
    """
    where = "export.otlp.headers_file"
    if not config.headers_file:
        return _pairs(os.environ.get(HEADERS_VARIABLE, "").split(","), "=", HEADERS_VARIABLE, unquote)
    try:
        with Path(config.headers_file).open(encoding="ascii") as file:
            lines = file.read(_LARGEST_BYTES).splitlines()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not ASCII text"
        fix = f"put them into {config.headers_file}, one in a line: name: value"
        raise ConfigError(f"the headers cannot be read: {reason}", where=where, fix=fix) from None
    return _pairs(lines, ":", where, str)


def _pairs(texts: list[str], equal: str, where: str, plain: Callable[[str], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, text in enumerate(filter(str.strip, texts), 1):
        name, _, value = text.partition(equal)
        name, value = name.strip(), plain(value.strip())
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ConfigError(f"number {number} is no header", where=where, fix=f"name{equal} value, in ASCII")
        found[name] = value
    return found


def _headers_now(config: OtlpConfig) -> Mapping[str, str]:
    try:
        return read_headers(config)
    except ConfigError as exc:
        raise ExportRetry(exc.what, where=exc.where, fix=exc.fix, reason="headers") from None


def read_attributes(config: OtlpConfig) -> dict[str, str]:
    """Return the configured attributes of the resource.

    Raises:
        ConfigError: one is not name=value.
    """
    pairs = [each.partition("=") for each in config.attributes]
    for name, equal, value in pairs:
        if not name.strip() or not equal or not value.strip():
            what, fix = f"{name + equal + value!r} is no attribute", 'attributes = ["service.namespace=search"]'
            raise ConfigError(what, where="export.otlp.attributes", fix=fix)
    return {name.strip(): value.strip() for name, _, value in pairs}
