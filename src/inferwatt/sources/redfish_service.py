"""One Redfish service: its resources by their addresses, and the walk that finds where a server's power is."""

import re
from collections.abc import Iterator

from inferwatt.errors import SourceRetry
from inferwatt.sources.client import Answer, Client
from inferwatt.sources.redfish_power import (
    ROOT,
    Chassis,
    Document,
    Kind,
    Meter,
    NoDocument,
    checked,
    document,
    figure_mw,
    is_absent,
    link,
    members,
    name_of,
    sensor_of,
)
from inferwatt.sources.redfish_session import Session
from inferwatt.sources.server import NoFigure
from inferwatt.sources.slow import Postponed
from inferwatt.units import NS_PER_SECOND

MOST_ANSWERS = 300
"""In one poll: the BMC of a rack has many chassis, a broken one has links without end."""
_MOST_PAGES = 8
_BUSY = frozenset({429, 503})
_BUSY_NS = 30 * NS_PER_SECOND
_MEDIA_TYPE = re.compile(r"[\w.+/-]{1,40}")


class Missing(SourceRetry):
    """There is no such resource."""


class Service:
    """Asks for resources, logged in, and says in words what went wrong."""

    def __init__(self, client: Client, session: Session) -> None:
        self._client = client
        self._session = session
        self._answers = 0

    def begin(self) -> None:
        """Begin a poll: it may ask `MOST_ANSWERS` times."""
        self._answers = 0

    def close(self) -> None:
        """Log out and hang up."""
        try:
            self._session.log_out()
        finally:
            self._client.close()

    def get(self, path: str) -> tuple[Document, int]:
        """Return a resource, and when it was so (CLOCK_MONOTONIC, nanoseconds).

        Raises:
            Missing: there is no such resource.
            SourceRetry: it cannot be had now.
        """
        self._answers += 1
        if self._answers > MOST_ANSWERS:
            raise self._trouble(f"more than {MOST_ANSWERS} resources are linked", path, "name one in chassis")
        answer = self._client.ask(path, headers=self._session.headers())
        if answer.status == 401 and self._session.has_lapsed():
            answer = self._client.ask(path, headers=self._session.headers())
        if answer.status != 200:
            raise self._refusal(answer, path)
        try:
            return document(answer.body), answer.t_ns
        except NoDocument as exc:
            media_type = _MEDIA_TYPE.match(answer.headers.get("content-type", ""))
            said = f" ({media_type.group()})" if media_type else ""
            raise self._trouble(f"what it answers {exc}{said}", path, "correct url, or restart the BMC") from exc

    def chassis(self, wanted: str) -> list[Chassis]:
        """Return every chassis with its meter, or only the one that is `wanted`."""
        root, _ = self.get(ROOT)
        collection = link(root, "Chassis")
        if not collection:
            raise self._trouble("it lists no chassis", ROOT, "correct url: this is no Redfish service of a server")
        paths = list(dict.fromkeys(self._members(collection)))
        exact = [path for path in paths if path.rstrip("/").rpartition("/")[2] == wanted]
        return [self._chassis(path, wanted) for path in exact or paths]

    def figure(self, meter: Meter) -> tuple[int, int]:
        """Return what a meter says, milliwatts, and when.

        Raises:
            NoFigure: it says nothing that can be.
        """
        total_mw, times_ns = 0, []
        for path in meter.paths:
            found, t_ns = self.get(path)
            total_mw += figure_mw(meter.kind, found)
            times_ns.append(t_ns)
        if total_mw <= 0:
            raise NoFigure("is 0 W, which cannot be")
        return total_mw, sum(times_ns) // len(times_ns)

    def _members(self, path: str) -> Iterator[str]:
        for _ in range(_MOST_PAGES):
            collection, _ = self.get(path)
            yield from members(collection)
            path = checked(collection.get("Members@odata.nextLink"))
            if not path:
                return

    def _chassis(self, path: str, wanted: str) -> Chassis:
        try:
            found, _ = self.get(path)
        except Missing:
            return Chassis(name_of(path, {}), path.rstrip("/"), "", "", None, "it is listed and not there")
        name, form = name_of(path, found), found.get("ChassisType")
        meter, why_not = None, ""
        if wanted in {"", name, path.rstrip("/").rpartition("/")[2]}:
            meter, why_not = self._meter(found)
        inside = link(found, "Links", "ContainedBy").rstrip("/")
        return Chassis(name, path.rstrip("/"), form if isinstance(form, str) else "", inside, meter, why_not)

    def _meter(self, chassis: Document) -> tuple[Meter | None, str]:
        """Return the first meter of a chassis that says something, else why none does."""
        reasons = []
        for meter in self._meters(chassis):
            try:
                self.figure(meter)
            except NoFigure as exc:
                reasons.append(f"{meter.kind.value} {exc}")
            except Missing:
                reasons.append(f"{meter.kind.value} is not there")
            else:
                return meter, ""
        return None, "; ".join(reasons) or "it has neither EnvironmentMetrics nor Power nor PowerSubsystem"

    def _meters(self, chassis: Document) -> Iterator[Meter]:
        """Yield what may say a chassis's power, the best first."""
        if path := link(chassis, "EnvironmentMetrics"):
            yield Meter(Kind.ENVIRONMENT, (path,))
            if sensor := self._sensor(path):
                yield Meter(Kind.SENSOR, (sensor,))
        if path := link(chassis, "Power"):
            yield Meter(Kind.CONTROL, (path,))
        if (path := link(chassis, "PowerSubsystem")) and (supplies := self._supplies(path)):
            yield Meter(Kind.SUPPLIES, supplies)

    def _sensor(self, path: str) -> str:
        try:
            return sensor_of(self.get(path)[0])
        except Missing:
            return ""

    def _supplies(self, path: str) -> tuple[str, ...]:
        """Return the metrics of every supply that is there; nothing where one has none: a part is not the whole."""
        try:
            collection = link(self.get(path)[0], "PowerSupplies")
            supplies = (
                [self.get(supply)[0] for supply in dict.fromkeys(self._members(collection))] if collection else []
            )
        except Missing:
            return ()
        metrics = [link(supply, "Metrics") for supply in supplies if not is_absent(supply)]
        return tuple(metrics) if all(metrics) else ()

    def _refusal(self, answer: Answer, path: str) -> SourceRetry:
        status = answer.status
        if status in {401, 403}:
            return self._session.refused(status)
        where = self._client.url + path
        if status == 404:
            return Missing("the BMC has no such resource (404)", where=where, fix="correct url, or update the BMC")
        if status in _BUSY:
            after = answer.headers.get("retry-after", "")
            after_ns = int(after) * NS_PER_SECOND if re.fullmatch(r"[0-9]{1,6}", after) else _BUSY_NS
            what = f"the BMC is busy ({status})"
            return Postponed(what, where=where, fix="none needed: it is asked again later", after_ns=after_ns)
        return self._trouble(f"it answers {status}", path, "look at its log")

    def _trouble(self, what: str, path: str, fix: str) -> SourceRetry:
        return SourceRetry(f"the BMC cannot be read: {what}", where=self._client.url + path, fix=fix)
