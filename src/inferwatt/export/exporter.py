"""What sends figures elsewhere: an exporter formats and sends one batch; its outlet (outlet.py) does everything else.

    [project.entry-points."inferwatt.exporters"]
    textfile = "inferwatt.export.textfile:open_exporter"

Exporters are found through the entry-point group `inferwatt.exporters`, ours included: each entry is a function
`open_exporter(settings: ExportConfig, about: About) -> Exporter | None`, None where it is not configured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from inferwatt.errors import InferwattError
from inferwatt.export.settings import ExportConfig
from inferwatt.ledger.rows import RequestRow
from inferwatt.snapshot import Snapshot


class ExportRetry(InferwattError):
    """This batch was not taken, a later one may be: it comes again, after `retry_after_seconds` where that is known."""

    def __init__(
        self, what: str, *, where: object, fix: str, reason: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class ExportRefused(InferwattError):
    """This batch will never be taken: it is dropped and counted, the next one is sent."""

    def __init__(self, what: str, *, where: object, fix: str, reason: str) -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class About:
    """Who sends: the host, the version and the start of this process; `attributes` are of Kubernetes, where known."""

    host: str
    version: str
    started_unix_ns: int
    attributes: tuple[tuple[str, str], ...] = ()


_OF_KUBERNETES: Final = {
    "k8s.node.name": "INFERWATT_NODE_NAME",
    "k8s.namespace.name": "INFERWATT_NAMESPACE",
    "k8s.pod.name": "INFERWATT_POD",
    "k8s.container.name": "INFERWATT_CONTAINER",
}


def of_kubernetes(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return where this process runs, as the downward API was asked to say."""
    found = ((name, environment.get(variable, "")) for name, variable in _OF_KUBERNETES.items())
    return tuple((name, value) for name, value in found if value)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent at once: the newest snapshot, and requests that ended since, each once (at least).

    `has_more` requests wait: another batch follows at once. A row that `corrects` another is of a request that was sent
    before: late news moved its joules, in the ledger and in no counter.
    """

    unix_ns: int
    snapshot: Snapshot
    requests: Sequence[RequestRow] = ()
    has_more: bool = False


class Exporter(Protocol):
    """Sends batches; one thread calls it."""

    @property
    def name(self) -> str:
        """Return its name: that of its entry point."""
        ...

    @property
    def period_seconds(self) -> float:
        """Return the time between two batches."""
        ...

    @property
    def wants_requests(self) -> bool:
        """Return whether single requests are wanted, or snapshots alone."""
        ...

    def export(self, batch: Batch) -> int:
        """Send a batch; return how many items of it were refused for good (0 where all were taken).

        Raises:
            ExportRetry: it was not taken; it comes again.
            ExportRefused: it never will be.
        """
        ...

    def close(self) -> None:
        """Let go of files and sockets."""
        ...


OpenExporter = Callable[[ExportConfig, About], Exporter | None]


@dataclass(frozen=True, slots=True)
class OutletHealth:
    """How one exporter goes, counted from the agent's start; `error` is what it said last, empty where all is well."""

    name: str
    exports: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    last_success_unix_seconds: float | None = None
    error: str = ""
