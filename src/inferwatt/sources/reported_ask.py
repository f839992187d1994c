"""One exporter's page, asked for over HTTP with whatever the configuration says of accounts and certificates.

A password or a token comes from a file, which is read at each question (a cluster's tokens change by the hour). It is
in no address, error or log, and goes over no network unencrypted.
"""

import base64
import ssl
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from inferwatt.errors import SourceRetry
from inferwatt.loopback import is_loopback
from inferwatt.sources.client import Answer, Client, is_address
from inferwatt.sources.coefficients import Cpu, describe_cpuinfo
from inferwatt.sources.redfish_session import read_password
from inferwatt.sources.settings import ReportedConfig, SourcesConfig

MAX_PAGE_BYTES = 4 << 20
"""A page of dcgm-exporter for 8 GPUs has 0.1 MB, one of Kepler with thousands of processes 3 MB."""
_ACCEPT = "text/plain;version=0.0.4, application/json;q=0.9, */*;q=0.1"
_CPUINFO_BYTES = 16384
_FIXES = {
    401: "set sources.reported.username and password_file, or password_file alone for a token",
    403: "give this account or token the right to read the page",
    404: "correct the path in url: most exporters have /metrics",
}


class Pages:
    """Asks for one page; `where` is its address without anything that may be a secret."""

    def __init__(self, config: ReportedConfig) -> None:
        """Check the entry, and ask nothing yet.

        Raises:
            SourceRetry: the entry cannot work, or would give a password away.
        """
        parts = urlsplit(config.url) if _is_page(config.url) else None
        if parts is None:
            fix = "http://HOST:PORT/metrics, without an account in it (username and password_file are for that)"
            raise SourceRetry("this is not the address of a page", where="sources.reported.url", fix=fix)
        self.where = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.is_here = is_loopback(parts.hostname or "")
        if parts.scheme == "http" and config.password_file and not self.is_here:
            what = "the password would go over the network for everybody to read"
            raise SourceRetry(what, where=self.where, fix="use https, or ask on this machine")
        self._target = urlunsplit(("", "", parts.path or "/metrics", parts.query, ""))
        self._config = config
        tls = _tls(config) if parts.scheme == "https" else None
        address = f"{parts.scheme}://{parts.netloc}"
        self._client = Client(address, config.timeout_seconds, tls=tls, max_body_bytes=MAX_PAGE_BYTES)

    def ask(self) -> Answer:
        """Return the page.

        Raises:
            SourceRetry: there is none now.
        """
        headers = {"Accept": _ACCEPT} | self._account()
        try:
            answer = self._client.ask(self._target, headers=headers)
        except SourceRetry as exc:
            raise SourceRetry(exc.what, where=self.where, fix=exc.fix) from exc
        if answer.status != 200:
            fix = _FIXES.get(answer.status, "look at the exporter's log")
            raise SourceRetry(f"the exporter answers {answer.status}", where=self.where, fix=fix)
        return answer

    def close(self) -> None:
        """Hang up; the next question opens another connection."""
        self._client.close()

    def _account(self) -> dict[str, str]:
        if not self._config.password_file:
            return {}
        secret = read_password(self._config.password_file)
        if not self._config.username:
            return {"Authorization": f"Bearer {secret}"}
        pair = base64.b64encode(f"{self._config.username}:{secret}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}


class Machine:
    """What this machine tells of the hardware that an exporter on it reads: files that every user may read."""

    def __init__(self, settings: SourcesConfig, *, is_here: bool) -> None:
        self._powercap = Path(settings.sysfs_root) / "class" / "powercap"
        self._cpuinfo = Path(settings.proc_root) / "cpuinfo"
        self._is_here = is_here

    def cpu(self) -> Cpu:
        """Return the processor, as far as it is known."""
        try:
            with self._cpuinfo.open(encoding="utf-8", errors="replace") as text:
                return describe_cpuinfo(text.read(_CPUINFO_BYTES)) if self._is_here else Cpu()
        except OSError:
            return Cpu()

    def wraps_at_uj(self, zone: str) -> int | None:
        """Return how many values the counter of a RAPL zone has, None where that is not known."""
        if not (self._is_here and zone):
            return None
        try:
            return int((self._powercap / zone / "max_energy_range_uj").read_text()) + 1
        except (OSError, ValueError):
            return None


def _is_page(url: str) -> bool:
    """Tell whether `url` is an address without an account; a question mark in it is for the exporter."""
    return is_address(url.partition("?")[0])


def _tls(config: ReportedConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.ca_file or None)
    except OSError as exc:
        where = f"sources.reported.ca_file {config.ca_file}"
        raise SourceRetry(f"cannot read the certificate: {exc}", where=where, fix="a file in PEM format") from exc
