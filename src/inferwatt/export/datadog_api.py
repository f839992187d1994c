"""Datadog's series API, for machines without an Agent: POST /api/v2/series (docs.datadoghq.com, API, Metrics, v2).

Each interval keeps its time, and comes again with the same time and values until it is taken. Of two points with one
time and one set of tags Datadog keeps the later one (its page on historical metrics says so), so that an answer that
was lost should count nothing twice. What is older than an hour would be refused there: it is given up and counted.

A receiver that knows only version 1 of the API is named by its whole address, `.../api/v1/series`.
"""

import gzip
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from email.message import Message
from http.client import HTTPException
from typing import Final
from urllib.parse import urlsplit

import msgspec

from inferwatt import __version__
from inferwatt.errors import ConfigError
from inferwatt.export.datadog_owed import Owed, Series, gauges, tag
from inferwatt.export.exporter import Batch, ExportRetry
from inferwatt.export.posting import opener
from inferwatt.export.settings import DatadogConfig
from inferwatt.loopback import is_loopback
from inferwatt.snapshot import Labels

PATH: Final = "/api/v2/series"
FIRST_VERSION: Final = "/api/v1/series"
MOST_PACKED_BYTES: Final = 512_000
MOST_BYTES: Final = 5_242_880
MOST_WAITING: Final = 100_000
"""Points kept while the API is away, about 300 bytes each; beyond it intervals are joined."""
COUNT, GAUGE = 1, 3
"""The types of version 2."""
LARGEST_ANSWER_BYTES: Final = 65_536

_FIXES: Final = {
    401: ("asks for a key", "the right one into export.datadog.api_key_file"),
    403: ("refuses the key", "the right one into export.datadog.api_key_file, and the api_url of your Datadog site"),
    404: ("has no series API there", "the api_url of your Datadog site: https://api.datadoghq.com"),
    408: ("was too slow to read", "none: it is sent again"),
    429: ("asks us to wait", "none: it is sent again"),
}
Entry = tuple[bytes, str, Labels]
"""One series as it is sent, with its name and labels."""
Taken = Callable[[str, Labels], None]
_NEVER: Final = frozenset({400, 413, 415, 422})
"""Answers that will not change: that part is left out, and counted."""


class SeriesApi:
    """Sends what was gained in each interval, and what stands."""

    name = "datadog"
    wants_requests = False

    def __init__(self, url: str, key: Callable[[], str], config: DatadogConfig, host: str) -> None:
        self.period_seconds = config.period_seconds
        self._url = url
        self._key = key
        self._timeout_seconds = config.timeout_seconds
        self._host = host
        self._tags = [*map(tag, config.tags)]
        self._owed = Owed(MOST_WAITING)
        self._refused = 0
        # it asks the environment for a proxy, as every client of Datadog does
        self._opener = opener()

    def export(self, batch: Batch) -> int:
        """Send what waits, oldest first, then what stands; return how many points were too old or refused.

        Raises:
            ExportRetry: it was not taken.
        """
        now = batch.unix_ns // 10**9
        self._owed.gather(batch.snapshot, now)
        self._refused += self._owed.expire(now)
        while self._owed.waiting:
            interval = self._owed.waiting[0]
            at, seconds = interval.end_unix_seconds, interval.seconds
            gained = ((self._encode(each, COUNT, at, seconds), each.name, labels) for labels, each in interval.series())
            self._send(gained, interval.forget)
            self._owed.waiting.popleft()
        self._send(((self._encode(each, GAUGE, now), each.name, ()) for each in gauges(batch.snapshot)), None)
        refused, self._refused = self._refused, 0
        return refused

    def close(self) -> None:
        """Nothing is held between two batches."""

    def _encode(self, series: Series, kind: int, unix_seconds: int, seconds: int = 0) -> bytes:
        told: dict[str, object] = {"metric": series.name, "tags": [*series.tags, *self._tags]}
        if seconds:
            told["interval"] = seconds
        if self._url.endswith(FIRST_VERSION):
            told |= {"type": "count" if kind == COUNT else "gauge", "points": [[unix_seconds, series.value]]}
            told["host"] = self._host
        else:
            told |= {"type": kind, "points": [{"timestamp": unix_seconds, "value": series.value}]}
            told["resources"] = [{"type": "host", "name": self._host}]
        return msgspec.json.encode(told)

    def _send(self, entries: Iterable[Entry], taken: Taken | None) -> None:
        """Send in parts that are as large as is allowed at most."""
        part: list[Entry] = []
        size = 0
        for entry in entries:
            size += len(entry[0]) + 1
            if part and size > MOST_BYTES - 16:
                self._send_part(part, taken)
                part, size = [], len(entry[0]) + 1
            part.append(entry)
        if part:
            self._send_part(part, taken)

    def _send_part(self, part: Sequence[Entry], taken: Taken | None) -> None:
        packed = gzip.compress(b'{"series":[' + b",".join([encoded for encoded, _, _ in part]) + b"]}", 6)
        status = 413 if len(packed) > MOST_PACKED_BYTES else self._post(packed)
        if status == 413 and len(part) > 1:
            middle = len(part) // 2
            self._send_part(part[:middle], taken)
            self._send_part(part[middle:], taken)
            return
        if status in _NEVER:
            self._refused += len(part)
        if taken is not None:
            for _, name, labels in part:
                taken(name, labels)

    def _post(self, packed: bytes) -> int:
        """Return the status of an answer that is final.

        Raises:
            ExportRetry: there was none.
        """
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "DD-API-KEY": self._read_key(),
            "User-Agent": f"inferwatt/{__version__}",
        }
        request = urllib.request.Request(self._url, packed, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as answer:
                answer.read(LARGEST_ANSWER_BYTES)
                return int(answer.status)
        except urllib.error.HTTPError as answer:
            with answer:
                if answer.code in _NEVER:
                    return answer.code
                raise self._retry(answer.code, answer.headers) from None
        except (OSError, HTTPException) as exc:
            reason = getattr(exc, "reason", exc)
            kind = "timeout" if isinstance(reason, TimeoutError) else "connection"
            what = f"Datadog's API cannot be reached: {reason}"
            raise ExportRetry(what, where=self._url, fix="look at the network, or a proxy's", reason=kind) from None

    def _read_key(self) -> str:
        try:
            return self._key()
        except ConfigError as exc:
            what = str(exc).partition("\n")[0]
            raise ExportRetry(what, where="export.datadog.api_key_file", fix="put it back", reason="key") from None

    def _retry(self, status: int, headers: Message) -> ExportRetry:
        what, fix = _FIXES.get(status, (f"answers {status}", "none: it is sent again"))
        text = headers.get("Retry-After") or headers.get("X-RateLimit-Reset") or ""
        wait_seconds = float(text) if text.isascii() and text.isdigit() else None
        return ExportRetry(
            f"Datadog's API {what}", where=self._url, fix=fix, reason=str(status), retry_after_seconds=wait_seconds
        )


def series_url(api_url: str) -> str:
    """Return where series are sent.

    Raises:
        ConfigError: it is no address, or the key would go over the network in the clear.
    """
    parts = urlsplit(api_url)
    fix = "https://api.datadoghq.com, or that of your Datadog site"
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or parts.query:
        raise ConfigError(f"{api_url} is no address of Datadog's API", where="export.datadog.api_url", fix=fix)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        what = "the key would go over the network in the clear"
        raise ConfigError(what, where="export.datadog.api_url", fix=fix)
    return api_url if parts.path.endswith("/series") else api_url.rstrip("/") + PATH
