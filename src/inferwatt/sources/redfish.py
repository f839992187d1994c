"""The whole server's power by Redfish, the BMC's HTTP service (DMTF DSP0266 and DSP0268).

A BMC answers in seconds, so a thread of its own asks (slow.py), and finding the source asks nothing at all: the first
poll looks where the power is, the others read that one resource. Of several chassis none is guessed: what a metered
server contains is part of it, and if more than one is left, the user says which (``chassis``).
"""

import json
import ssl
from urllib.parse import urlsplit

from inferwatt.errors import SourceRetry
from inferwatt.loopback import is_loopback
from inferwatt.records import Component
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, Source, SourcesConfig
from inferwatt.sources.client import Client, is_address
from inferwatt.sources.redfish_power import ROOT, Chassis, Meter, choose
from inferwatt.sources.redfish_service import Missing, Service
from inferwatt.sources.redfish_session import Session, read_password
from inferwatt.sources.server import NoFigure, server_device
from inferwatt.sources.settings import RedfishConfig
from inferwatt.sources.slow import Sample, slow_source
from inferwatt.units import nanoseconds

NAME = "redfish"
_MOST_NAMED = 8


class Bmc:
    """One BMC: where its server's power is, once that is known."""

    def __init__(self, config: RedfishConfig, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(config.url)
        client = Client(f"{parts.scheme}://{parts.netloc}", config.timeout_seconds, tls=tls)
        self._service = Service(client, Session(client, config.username, config.password_file))
        self._chassis = config.chassis
        self._where = client.url + ROOT
        self._meter: Meter | None = None

    def poll(self) -> Sample:
        """Return what the server draws now.

        Raises:
            SourceRetry: the BMC says nothing, or nothing that can be.
        """
        self._service.begin()
        try:
            self._meter = self._meter or self._find()
            milliwatts, t_ns = self._service.figure(self._meter)
        except Missing:
            self._meter = None  # a new firmware may have it elsewhere
            raise
        except NoFigure as exc:
            kind = self._meter.kind.value if self._meter else ""
            raise SourceRetry(
                f"the BMC does not say what the server draws: {kind} {exc}",
                where=self._where,
                fix="none needed while the server starts; else update the BMC",
            ) from exc
        return Sample(power_mw=milliwatts, t_ns=t_ns)

    def close(self) -> None:
        """Log out and hang up; raises SourceRetry where the BMC does not answer any more."""
        self._service.close()

    def _find(self) -> Meter:
        found = self._service.chassis(self._chassis)
        if self._chassis and not any(each.name == self._chassis or _ends(each) == self._chassis for each in found):
            what = f"the BMC has no chassis {self._chassis}: it has {_names(found)}"
            raise SourceRetry(what, where=self._where, fix=_setting(found))
        tops = choose(found)
        if len(tops) > 1:
            what = f"several chassis have a power, name this server's in sources.redfish.chassis: {_names(tops)}"
            raise SourceRetry(what, where=self._where, fix=_setting(tops))
        if not tops or tops[0].meter is None:
            reasons = "; ".join(f"chassis {each.name}: {each.why_not}" for each in found if each.why_not)
            raise SourceRetry(
                f"the BMC does not say what the server draws: {reasons[:400] or 'it lists no chassis'}",
                where=self._where,
                fix="none needed while the server starts; else update the BMC",
            )
        return tops[0].meter


def discover(settings: SourcesConfig) -> Found:
    """Return one source for each BMC in the configuration; what is wrong with an entry is a lack."""
    sources: list[Source] = []
    lacks: list[Lack] = []
    for config in settings.redfish:
        try:
            bmc = Bmc(config, _checked(config))
        except SourceRetry as exc:
            lacks.append(Lack(exc.what, exc.where, exc.fix, source=NAME, component=Component.OVERHEAD.value))
        else:
            poll_ns = nanoseconds(config.poll_seconds)
            sources.append(slow_source(NAME, server_device(NAME), bmc.poll, poll_ns, finish=bmc.close))
    return Found(tuple(sources), tuple(lacks))


def _checked(config: RedfishConfig) -> ssl.SSLContext | None:
    """Return how the BMC proves who it is, None by http.

    Raises:
        SourceRetry: the entry cannot work, or would give the password away.
    """
    where = "sources.redfish.url"
    parts = urlsplit(config.url) if is_address(config.url) else None
    if parts is None or parts.path.strip("/") not in {"", "redfish", "redfish/v1"}:
        raise SourceRetry("this is not the address of a BMC", where=where, fix="https://HOST, without account or path")
    if config.username:
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            what = "the password would go over the network for everybody to read"
            raise SourceRetry(what, where=where, fix=f"https://{parts.netloc}")
        if not config.password_file:
            what = f"there is no password for {config.username}"
            raise SourceRetry(what, where="sources.redfish.password_file", fix="name a file whose first line it is")
        read_password(config.password_file)
    return _tls(config) if parts.scheme == "https" else None


def _tls(config: RedfishConfig) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context(cafile=config.ca_file or None)
    except OSError as exc:
        where = f"sources.redfish.ca_file {config.ca_file}"
        raise SourceRetry(f"cannot read the certificate: {exc}", where=where, fix="a file in PEM format") from exc
    if not config.verify_tls:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _ends(chassis: Chassis) -> str:
    return chassis.path.rpartition("/")[2]


def _names(chassis: list[Chassis]) -> str:
    named = ", ".join(f"{each.name} ({each.form})" if each.form else each.name for each in chassis[:_MOST_NAMED])
    return named + (f" and {len(chassis) - _MOST_NAMED} more" if len(chassis) > _MOST_NAMED else "") or "none"


def _setting(chassis: list[Chassis]) -> str:
    names = [json.dumps(each.name) for each in chassis[:_MOST_NAMED]]
    return "sources.redfish.chassis = " + (" or ".join(names) or '""')
