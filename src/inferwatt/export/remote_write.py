"""Prometheus remote write 1.0: the figures of `/metrics`, pushed; they wait on disk while the receiver is away.

Version 2.0 is never sent: an older receiver answers it with 204 and stores nothing (tried with Prometheus 2.42 and
VictoriaMetrics 1.79: tests/observability/test_remote_write.py), so that no status code tells that all is lost.
A series that goes away, and all of them when the agent ends, get the stale marker.
"""

import base64
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

from inferwatt.errors import ConfigError, Unavailable
from inferwatt.export.exporter import About, Batch, ExportRetry
from inferwatt.export.outlet import pause_seconds
from inferwatt.export.posting import opener
from inferwatt.export.process import read_process
from inferwatt.export.remote_write_queue import Queue
from inferwatt.export.remote_write_wire import STALE_VALUE, samples, write_request
from inferwatt.export.settings import ExportConfig, RemoteWriteConfig
from inferwatt.loopback import is_loopback

TOKEN_VARIABLE: Final = "INFERWATT_REMOTE_WRITE_TOKEN"
MOST_SERIES: Final = 2_000
"""In one request, as in Prometheus' own sender."""
_WAITS: Final = frozenset({401, 403, 404, 407, 408, 429})
"""Answers about who asks, where or how often: what waits is kept. Any other 4xx drops the samples."""
Compress = Callable[[bytes], bytes]


class RemoteWrite:
    """Queues the samples of each period, and sends what waits, oldest first."""

    name = "remote_write"
    wants_requests = False

    def __init__(self, config: RemoteWriteConfig, target: tuple[str, str], compress: Compress) -> None:
        self.period_seconds = config.period_seconds
        self._config = config
        self._target = target
        self._compress = compress
        self._shown_url = config.url.partition("?")[0]
        self._opener = opener(config.ca_file)
        self._queue = Queue(Path(config.queue_dir), config.max_megabytes * 10**6, int(config.max_hours * 3_600_000))
        self._known: set[bytes] = set()
        self._random = Random()
        self._attempt = 0
        self._resume = 0.0
        self._refused = 0
        self._last: ExportRetry | None = None

    def export(self, batch: Batch) -> int:
        """Queue the samples of now, then send; return how many samples were given up or refused.

        Raises:
            ExportRetry: the receiver is away, or the disk is full.
        """
        full = self._gather(batch)
        self._refused += self._queue.shorten(batch.unix_ns // 10**6)
        if self._last is not None and time.monotonic() < self._resume:
            raise self._last
        try:
            self._drain()
        except ExportRetry as exc:
            self._attempt += 1
            self._resume = time.monotonic() + pause_seconds(self._attempt, exc.retry_after_seconds, self._random)
            # the outlet comes back after one period all the same: samples go on being taken
            exc.retry_after_seconds = self.period_seconds
            self._last = exc
            raise
        self._attempt, self._last = 0, None
        if full is not None:
            raise full
        refused, self._refused = self._refused, 0
        return refused

    def close(self) -> None:
        """Mark all series as ended, and send that if the receiver is there; else it waits on disk."""
        self._put([(labels, STALE_VALUE) for labels in self._known], time.time_ns() // 10**6)
        if self._last is None:
            self._drain()

    def _gather(self, batch: Batch) -> ExportRetry | None:
        told = dict(samples(batch.snapshot, read_process(), self._target))
        gone = self._known - told.keys()
        self._known = set(told)
        return self._put([*told.items(), *((labels, STALE_VALUE) for labels in gone)], batch.unix_ns // 10**6)

    def _put(self, told: list[tuple[bytes, bytes]], unix_ms: int) -> ExportRetry | None:
        """Queue samples; what is not newer than the last would be refused there: it is given up and counted."""
        if unix_ms <= self._queue.newest_ms:
            self._refused += len(told)
            return None
        for part, start in enumerate(range(0, len(told), MOST_SERIES)):
            some = told[start : start + MOST_SERIES]
            try:
                self._queue.put(self._compress(write_request(some, unix_ms)), len(some), unix_ms, part)
            except OSError as exc:
                self._refused += len(told) - start
                what = f"samples cannot be kept: {exc.strerror}"
                fix = "make room on the disk, or lower export.remote_write.max_megabytes"
                return ExportRetry(what, where=self._config.queue_dir, fix=fix, reason="disk")
        return None

    def _drain(self) -> None:
        while (waiting := self._queue.oldest()) is not None:
            body, count = waiting
            if not body or not self._took(body):
                self._refused += max(count, 1)
            self._queue.drop()

    def _took(self, body: bytes) -> bool:
        """Send a request; return False where it will never be taken.

        Raises:
            ExportRetry: there was no final answer.
        """
        request = urllib.request.Request(self._config.url, body, self._headers(), method="POST")
        try:
            with self._opener.open(request, timeout=self._config.timeout_seconds):
                return True
        except urllib.error.HTTPError as answer:
            with answer:
                if 400 <= answer.code < 500 and answer.code not in _WAITS:
                    return False
                raise self._retry(answer.code, answer.headers) from None
        except (OSError, HTTPException) as exc:
            reason = getattr(exc, "reason", exc)
            kind = "timeout" if isinstance(reason, TimeoutError) else "connection"
            what, fix = f"the receiver cannot be reached: {reason}", "look at the network, or start it"
            raise ExportRetry(what, where=self._shown_url, fix=fix, reason=kind) from None

    def _headers(self) -> dict[str, str]:
        try:
            return headers(self._config)
        except ConfigError as exc:
            raise ExportRetry(exc.what, where=exc.where, fix=exc.fix, reason="token") from None

    def _retry(self, status: int, answered: Message) -> ExportRetry:
        fix = "look at url, username and token_file" if status in {401, 403, 404, 407} else "none: it is sent again"
        text = answered.get("Retry-After") or ""
        seconds = float(text) if text.isascii() and text.isdigit() else None
        what = f"the receiver answers {status}"
        return ExportRetry(what, where=self._shown_url, fix=fix, reason=str(status), retry_after_seconds=seconds)


def headers(config: RemoteWriteConfig) -> dict[str, str]:
    """Return the headers of a request; the token is read anew each time, so that it can be changed.

    Raises:
        ConfigError: the token cannot be read.
    """
    told = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        "User-Agent": "inferwatt",
    }
    token = read_token(config)
    if config.org_id:
        told["X-Scope-OrgID"] = config.org_id
    if token and config.username:
        told["Authorization"] = "Basic " + base64.b64encode(f"{config.username}:{token}".encode()).decode()
    elif token:
        told["Authorization"] = f"Bearer {token}"
    return told


def read_token(config: RemoteWriteConfig) -> str:
    """Return the token, nothing where none is configured. No error holds it.

    Raises:
        ConfigError: the file cannot be read, or holds no token.
    """
    if not config.token_file:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    where, fix = "export.remote_write.token_file", "put the token into its first line, in ASCII"
    try:
        with Path(config.token_file).open(encoding="ascii") as file:
            token = file.readline(4096).strip()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not ASCII text"
        raise ConfigError(f"the token cannot be read: {reason}", where=where, fix=fix) from None
    if len(token.split()) != 1:
        raise ConfigError("the file holds no token", where=where, fix=fix)
    return token


def open_exporter(settings: ExportConfig, about: About) -> RemoteWrite | None:
    """Return the exporter, None where no url is set.

    Raises:
        ConfigError: an address, a file or a folder is wrong.
        Unavailable: the extra is not installed.
    """
    config = settings.remote_write
    if not config.url:
        return None
    _check(config)
    try:
        snappy = import_module("cramjam").snappy
    except ImportError as exc:
        fix = "pip install 'inferwatt[remote-write]'"
        raise Unavailable("the library for snappy is missing", where="export.remote_write", fix=fix) from exc
    try:
        return RemoteWrite(config, (config.job, config.instance or about.host), lambda b: bytes(snappy.compress_raw(b)))
    except OSError as exc:
        what = f"a file or folder cannot be used: {exc.strerror}"
        where = "export.remote_write.queue_dir, .ca_file"
        raise ConfigError(what, where=where, fix="let the agent's user write there, and read that") from exc


def _check(config: RemoteWriteConfig) -> None:
    parts = urlsplit(config.url)
    where, fix = "export.remote_write.url", "http://127.0.0.1:9090/api/v1/write"
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ConfigError("that is no address of a receiver", where=where, fix=fix)
    if read_token(config) and parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError("the token would go over the network in the clear", where=where, fix="https://")
    if not config.queue_dir:
        what = "samples need a folder in which they wait"
        raise ConfigError(
            what, where="export.remote_write.queue_dir", fix='queue_dir = "/var/lib/inferwatt/remote-write"'
        )
