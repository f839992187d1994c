"""The OTLP exporter: figures as metrics and ended requests as spans, in the data model of OpenTelemetry's SDK.

The SDK's own readers, views and processors are left out. They count in this process, from zero at each start, and give
up what they could not send; our counters are the ledger's, and what was not taken is still owed. So no view chooses the
buckets: they are the catalogue's, each twice the one before.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import isfinite
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from inferwatt.export.catalog import Kind
from inferwatt.export.exporter import About, Batch, ExportRefused
from inferwatt.export.otlp_names import FAMILIES, TOLD, attributes_of, hardware_type
from inferwatt.export.otlp_owed import Owed, Point
from inferwatt.export.otlp_requests import Context, context_of, context_of_row, key_of, name_of
from inferwatt.export.otlp_requests import attributes_of as attributes_of_request
from inferwatt.export.otlp_signals import METRICS, SPANS, Signal, refused
from inferwatt.export.places import place_of, places_of
from inferwatt.export.settings import OtlpConfig
from inferwatt.ledger.rows import RequestRow
from inferwatt.records import Outcome
from inferwatt.snapshot import Exemplar as Pointer
from inferwatt.snapshot import HistogramValue, Snapshot

log = logging.getLogger("inferwatt")

SCHEMA: Final = "https://opentelemetry.io/schemas/1.41.0"
MOST_POINTS: Final = 1_000
"""Of one message: about 200 kB unpacked, of the 4 MiB that a gRPC server takes."""
MOST_SPANS: Final = 500
MOST_CONTEXTS: Final = 2_000
"""Spans that an exemplar can still point at."""
SDK: Final = "sdk"
"""What is called a server where somebody's own code says that it asked a model: it is no provider."""
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class Wire(Protocol):
    """Sends messages to one receiver."""

    def send(self, signal: Signal, body: Message) -> Message:
        """Send it; return the answer.

        Raises:
            ExportRetry: it was not taken; it comes again.
            ExportRefused: it never will be.
        """
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class Otlp:
    """Sends what is owed of each counter, what stands, and each ended request once."""

    name = "otlp"

    def __init__(self, wire: Wire, config: OtlpConfig, about: About, attributes: Mapping[str, str]) -> None:
        self.period_seconds = config.period_seconds
        self.wants_requests = config.spans
        self._wire = wire
        self._temporality = AggregationTemporality[config.temporality.upper()]
        self._resource = resource_of(about, attributes)
        self._scope = InstrumentationScope("inferwatt", about.version, SCHEMA)
        is_delta = config.temporality == "delta"
        self._owed = Owed(is_delta=is_delta, started_unix_ns=about.started_unix_ns, host=about.host)
        self._told: set[tuple[str, str, int | None]] = set()
        """Requests of a batch that was taken in part."""
        self._contexts: dict[str, Context] = {}
        """The spans of the last requests, by the name that an exemplar has for them."""
        self._said = ""

    def export(self, batch: Batch) -> int:
        """Send it, in messages of a bounded size; return how many points and spans were refused.

        Raises:
            ExportRetry: not all of it was taken; the rest comes again.
            ExportRefused: nothing of it ever will be.
        """
        sending, sources = _Sending(), _Sources(batch.snapshot, self._contexts)
        self._know(batch.requests)
        if not batch.has_more:
            self._send_metrics(batch, sources, sending)
        if self.wants_requests:
            self._send_spans(batch.requests, sources, sending)
        self._told.clear()
        self._note(sending)
        if sending.refusal is not None and not sending.taken:
            raise sending.refusal
        return sending.refused

    def close(self) -> None:
        """Let go of the connection."""
        self._wire.close()

    def _know(self, rows: Iterable[RequestRow]) -> None:
        """Keep where the spans of these are, for exemplars that point at them."""
        if self.wants_requests:
            self._contexts |= {name_of(row.request): context_of(row.request) for row in rows}
            for name in list(self._contexts)[: max(len(self._contexts) - MOST_CONTEXTS, 0)]:
                del self._contexts[name]

    def _send_metrics(self, batch: Batch, sources: "_Sources", sending: "_Sending") -> None:
        points = [*self._owed.look(batch.snapshot, batch.unix_ns), *gauges(batch.snapshot)]
        for part in parts(points, MOST_POINTS):
            scope = ScopeMetrics(self._scope, list(self._metrics(part, batch.unix_ns, sources)), SCHEMA)
            data = MetricsData([ResourceMetrics(self._resource, [scope], SCHEMA)])
            if sending.send(self._wire, METRICS, encode_metrics(data), len(part)):
                self._owed.taken(part)

    def _metrics(self, points: Iterable[Point], unix_ns: int, sources: "_Sources") -> Iterator[Metric]:
        for family, own in groupby(points, key=lambda point: point.family):
            told = TOLD[family]
            found = [data_point(point, unix_ns, sources) for point in own]
            yield Metric(told.name, FAMILIES[family].help, told.unit, self._data(FAMILIES[family].kind, found))

    def _data(self, kind: Kind, points: Sequence[Any]) -> Sum | Gauge | Histogram:
        if kind is Kind.COUNTER:
            return Sum(points, self._temporality, is_monotonic=True)
        return Histogram(points, self._temporality) if kind is Kind.HISTOGRAM else Gauge(points)

    def _send_spans(self, rows: Iterable[RequestRow], sources: "_Sources", sending: "_Sending") -> None:
        left = [row for row in rows if key_of(row) not in self._told]
        for part in parts(left, MOST_SPANS):
            found = [self._span(row, sources.providers.get(row.server, "")) for row in part]
            spans = [span for span in found if span is not None]
            if spans:
                sending.send(self._wire, SPANS, encode_spans(spans), len(spans))
            self._told |= {key_of(row) for row in part}

    def _span(self, row: RequestRow, provider: str) -> ReadableSpan | None:
        """Return an ended request as a span, with its real times; None where its caller's trace is not kept."""
        context, request, is_first = context_of_row(row), row.request, row.corrects is None
        if not context.is_sampled:
            return None
        begun = row.arrival_unix_ns or row.end_unix_ns if is_first else row.end_unix_ns
        return ReadableSpan(
            f"{'inference' if is_first else 'energy correction'} {request.model}".rstrip(),
            SpanContext(context.trace_id, context.span_id, is_remote=False, trace_flags=SAMPLED),
            SpanContext(context.trace_id, context.parent_id, is_remote=True) if context.parent_id else None,
            self._resource,
            attributes_of_request(row, provider),
            kind=SpanKind.SERVER if is_first else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR if request.outcome is Outcome.FAILED else StatusCode.UNSET),
            start_time=min(begun, row.end_unix_ns),
            end_time=row.end_unix_ns,
            instrumentation_scope=self._scope,
        )

    def _note(self, sending: "_Sending") -> None:
        """Say once why something was refused: the outlet knows only how much."""
        if sending.said and sending.said != self._said:
            log.warning("export to otlp: %d points or spans were refused: %s", sending.refused, sending.said)
        self._said = sending.said


class _Sending:
    """What became of one batch."""

    def __init__(self) -> None:
        self.taken = self.refused = 0
        self.said = ""
        self.refusal: ExportRefused | None = None

    def send(self, wire: Wire, signal: Signal, body: Message, items: int) -> bool:
        """Send one message and return whether it was taken; what is refused is counted, and the next one goes on."""
        try:
            count, said = refused(signal, wire.send(signal, body))
        except ExportRefused as exc:
            self.refused, self.said, self.refusal = self.refused + items, exc.what, exc
            return False
        self.taken, self.refused, self.said = self.taken + items - count, self.refused + count, said or self.said
        return True


class _Sources:
    """What a snapshot says of servers and devices that its series name; and the spans of the last requests."""

    def __init__(self, snapshot: Snapshot, contexts: Mapping[str, Context]) -> None:
        self.contexts = contexts
        servers = snapshot.values.get("inferwatt_server_info", {})
        self.providers = {labels[0]: labels[1] for labels in servers if labels[1] not in {"", SDK}}
        self.types = {each.device: hardware_type(each.domain, each.component) for each in snapshot.live.devices}


def gauges(snapshot: Snapshot) -> Iterator[Point]:
    """Yield what stands now; what is said of a device or a server is a gauge of 1, as on the page."""
    places = places_of(snapshot)
    for family, series in snapshot.values.items():
        if family in FAMILIES and FAMILIES[family].kind in {Kind.GAUGE, Kind.INFO}:
            for labels, value in series.items():
                if isfinite(value):
                    yield Point(family, labels, 0, value, value, place_of(family, labels, places))


def data_point(point: Point, unix_ns: int, sources: _Sources) -> NumberDataPoint | HistogramDataPoint:
    """Return a point as the SDK has it, in the wire's unit."""
    attributes = attributes_of(TOLD[point.family], point.labels, sources.providers, sources.types, point.place)
    metric, gained = FAMILIES[point.family], point.gained
    since_unix_ns = min(point.since_unix_ns, unix_ns)  # the wall clock may have been put back
    if isinstance(gained, HistogramValue):
        count = sum(gained.counts)
        pointers = [exemplar(each, sources.contexts.get(each.request_id)) for each in gained.exemplars.values()]
        return HistogramDataPoint(
            attributes, since_unix_ns, unix_ns, count, gained.sum, gained.counts, metric.buckets, None, None, pointers
        )
    is_count = metric.kind is Kind.COUNTER and not metric.decimals
    value = int(gained) if is_count else gained / 10**metric.decimals
    return NumberDataPoint(attributes, since_unix_ns, unix_ns, value)


def exemplar(pointer: Pointer, context: Context | None) -> Exemplar:
    """Return an exemplar as the SDK has it: with its request's span, where that is sent too."""
    about = {"inferwatt.request_id": pointer.request_id} if pointer.request_id else {}
    span_id, trace_id = (context.span_id, context.trace_id) if context and context.is_sampled else (None, None)
    return Exemplar(about, pointer.value, round(pointer.unix_seconds * 1e9), span_id, trace_id)


def parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    """Cut it into parts of at most so many."""
    for start in range(0, len(items), most):
        yield items[start : start + most]


def resource_of(about: About, attributes: Mapping[str, str]) -> Resource:
    """Return who sends: what we know, over that OTEL_RESOURCE_ATTRIBUTES, over that what is configured."""
    own = {
        "service.name": "inferwatt",
        "service.version": about.version,
        "service.instance.id": about.host,
        "host.name": about.host,
        **dict(about.attributes),
    }
    return Resource(own, SCHEMA).merge(OTELResourceDetector().detect()).merge(Resource(dict(attributes)))
