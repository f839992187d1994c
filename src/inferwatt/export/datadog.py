"""To Datadog: through its Agent by DogStatsD (UDP or a Unix socket), or without one by the series API (datadog_api.py).

DogStatsD acknowledges nothing. On a Unix socket what the Agent does not take is known and told with the next batch; by
UDP what nobody listened for is lost, and nobody knows.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from inferwatt.errors import ConfigError, Unavailable
from inferwatt.export.datadog_api import SeriesApi, series_url
from inferwatt.export.datadog_owed import Interval, Owed, Series, distributions, gauges, tag
from inferwatt.export.exporter import About, Batch, Exporter, ExportRetry
from inferwatt.export.places import places_of
from inferwatt.export.settings import DatadogConfig, ExportConfig
from inferwatt.ledger.rows import RequestRow
from inferwatt.snapshot import Snapshot

NAME: Final = "datadog"
UDP_BYTES: Final = 1_300
UNIX_BYTES: Final = 7_500
"""What goes into one packet, as Datadog advises it, less a little."""
LINE_BYTES: Final = 120
"""A line's value and type, and what the library adds to it: the container's id, above all."""
SEND_SECONDS: Final = 1.0
KEY_VARIABLE: Final = "DD_API_KEY"


class Statsd(Protocol):
    """What is used of `datadog.DogStatsd`."""

    packets_dropped: int

    def open_buffer(self) -> None:
        """Gather lines."""
        ...

    def close_buffer(self) -> None:
        """Send them."""
        ...

    def count(self, metric: str, value: float, tags: list[str]) -> None:
        """Tell what a counter gained."""
        ...

    def gauge(self, metric: str, value: float, tags: list[str]) -> None:
        """Tell what stands."""
        ...

    def distribution(self, metric: str, value: float, tags: list[str]) -> None:
        """Tell one observation."""
        ...

    def close_socket(self) -> None:
        """Let go of the socket."""
        ...


class Dogstatsd:
    """Tells an Agent; a packet that it did not take comes again with the next batch, and nothing is told twice."""

    name = NAME
    wants_requests = True

    def __init__(self, statsd: Statsd, config: DatadogConfig, packet_bytes: int) -> None:
        self.period_seconds = config.period_seconds
        self._statsd = statsd
        self._where = config.dogstatsd
        self._tags = [*map(tag, config.tags), *([tag(f"host:{config.host}")] if config.host else [])]
        self._packet_bytes = packet_bytes
        self._owed = Owed(most=0)
        self._told: set[tuple[str, str, str]] = set()

    def export(self, batch: Batch) -> int:
        """Tell what was gained since, what stands, and each ended request's joules.

        Raises:
            ExportRetry: the Agent took not all of it.
        """
        self._owed.gather(batch.snapshot, batch.unix_ns // 10**9)
        while self._owed.waiting:
            self._tell_gains(self._owed.waiting[0])
            self._owed.waiting.popleft()
        for packet in self._packets((each, None) for each in gauges(batch.snapshot)):
            self._send(self._statsd.gauge, packet)
        self._tell_requests(batch.requests, batch.snapshot)
        return 0

    def close(self) -> None:
        """Let go of the socket."""
        self._statsd.close_socket()

    def _tell_gains(self, interval: Interval) -> None:
        for packet in self._packets((series, labels) for labels, series in interval.series()):
            self._send(self._statsd.count, packet)
            for series, labels in packet:
                interval.forget(series.name, labels)

    def _tell_requests(self, rows: Iterable[RequestRow], snapshot: Snapshot) -> None:
        places = places_of(snapshot)
        found = (
            (series, (row.request.producer, row.request.request, series.name))
            for row in rows
            for series in distributions(row, snapshot, places)
        )
        for packet in self._packets(each for each in found if each[1] not in self._told):
            self._send(self._statsd.distribution, packet)
            self._told |= {key for _, key in packet}
        self._told.clear()

    def _packets(self, told: Iterable[tuple[Series, Any]]) -> Iterable[list[tuple[Series, Any]]]:
        """Gather what fits into one packet, so that each is taken or not as a whole."""
        own_bytes = LINE_BYTES + sum(len(each.encode()) + 1 for each in self._tags)
        packet: list[tuple[Series, Any]] = []
        size = 0
        for each in told:
            series = each[0]
            line_bytes = own_bytes + len(series.name) + sum(len(tag.encode()) + 1 for tag in series.tags)
            if packet and size + line_bytes > self._packet_bytes:
                yield packet
                packet, size = [], 0
            packet.append(each)
            size += line_bytes
        if packet:
            yield packet

    def _send(self, tell: Any, packet: list[tuple[Series, Any]]) -> None:  # noqa: ANN401 - one of the library's methods
        before = self._statsd.packets_dropped
        self._statsd.open_buffer()
        for (name, tags, value), _ in packet:
            tell(name, int(value) if float(value).is_integer() else value, [*tags, *self._tags])
        self._statsd.close_buffer()
        if self._statsd.packets_dropped != before:
            what, fix = "the Datadog Agent does not take what it is told", "start it, with DogStatsD at that address"
            raise ExportRetry(what, where=self._where, fix=fix, reason="connection")


def open_exporter(settings: ExportConfig, about: About) -> Exporter | None:
    """Return the exporter, None where neither an Agent nor the API is named.

    Raises:
        ConfigError: an address or the key is wrong, or both ways are asked for.
        Unavailable: the extra is not installed.
    """
    config = settings.datadog
    if config.dogstatsd and config.api_url:
        what = "an Agent and the API are both named: every joule would be counted twice"
        raise ConfigError(what, where="export.datadog", fix="leave out dogstatsd or api_url")
    if config.dogstatsd:
        return open_dogstatsd(config)
    if config.api_url:
        url = series_url(config.api_url)
        read_key(config)  # a key that is not there is told at the start
        return SeriesApi(url, lambda: read_key(config), config, config.host or about.host)
    return None


def open_dogstatsd(config: DatadogConfig) -> Dogstatsd:
    """Return what tells the Agent at `config.dogstatsd`.

    Raises:
        ConfigError: that is no address of one.
        Unavailable: the extra is not installed.
    """
    parts = urlsplit(config.dogstatsd)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme == "udp" and parts.hostname and port:
        where: dict[str, Any] = {"host": parts.hostname, "port": port}
    elif parts.scheme in {"unix", "unixgram", "unixstream"} and parts.path:
        where = {"socket_path": config.dogstatsd}
    else:
        what = f"{config.dogstatsd} is no address of DogStatsD"
        fix = "udp://127.0.0.1:8125 or unix:///var/run/datadog/dsd.socket"
        raise ConfigError(what, where="export.datadog.dogstatsd", fix=fix)
    packet_bytes = UDP_BYTES if "host" in where else UNIX_BYTES
    return Dogstatsd(_statsd(where, packet_bytes), config, packet_bytes)


def _statsd(where: dict[str, Any], packet_bytes: int) -> Any:  # noqa: ANN401 - the library's class
    try:
        from datadog.dogstatsd.base import DogStatsd
    except ImportError as exc:
        fix = "pip install 'inferwatt[datadog]'"
        raise Unavailable("the library of Datadog is missing", where="export.datadog", fix=fix) from exc
    logging.getLogger("datadog.dogstatsd").setLevel(logging.CRITICAL)  # what it would say of each packet we say once
    # its counts of dropped packets come with its own telemetry, which would be figures of its own in Datadog
    return DogStatsd(
        **where,
        disable_telemetry=False,
        telemetry_min_flush_interval=10**9,
        max_buffer_len=4 * packet_bytes,
        socket_timeout=SEND_SECONDS,
    )


def read_key(config: DatadogConfig) -> str:
    """Return the API's key, read anew each time, so that it can be changed.

    Raises:
        ConfigError: there is none.
    """
    where = "export.datadog.api_key_file"
    key = os.environ.get(KEY_VARIABLE, "")
    if config.api_key_file:
        try:
            with Path(config.api_key_file).open(encoding="ascii") as file:
                key = file.readline(4096)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not ASCII text"
            fix = f"put the key into {config.api_key_file}"
            raise ConfigError(f"the key of Datadog's API cannot be read: {reason}", where=where, fix=fix) from None
    key = key.strip()
    if not key.isascii() or len(key.split()) != 1:
        what = "there is no key for Datadog's API"
        raise ConfigError(what, where=where, fix=f"name a file whose first line it is, or set {KEY_VARIABLE}")
    return key
