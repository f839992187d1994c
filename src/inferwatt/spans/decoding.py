"""OTLP/HTTP bodies to spans: protobuf by OpenTelemetry's own package, JSON by its documented form. No I/O.

A body that is not of its form is refused whole, as the specification has it; attributes of other kinds are left out.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from inferwatt.errors import RecordRejected, Unavailable

PROTOBUF, JSON = "application/x-protobuf", "application/json"
ERROR = 2
CLIENT = 3
"""STATUS_CODE_ERROR and SPAN_KIND_CLIENT of opentelemetry-proto."""
MOST_ATTRIBUTES = 1024
MOST_MEMBERS = 64
"""Of one gzip body; each costs a copy of what follows it."""

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it came, ids in hexadecimal; attributes that are no plain values are left out."""

    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_unix_ns: int
    end_unix_ns: int
    has_failed: bool
    attributes: Mapping[str, Value]
    resource: Mapping[str, Value] = field(default_factory=dict)


class TooLarge(RecordRejected):
    """What a packed body holds is more than is taken."""


def unzipped(body: bytes, most_bytes: int) -> bytes:
    """Return what a gzip body holds, all its members together.

    Raises:
        TooLarge: that is more than `most_bytes`; no more of it is unpacked.
        RecordRejected: it is no whole gzip.
    """
    data, rest = bytearray(), body
    for _ in range(MOST_MEMBERS):
        reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            data += reader.decompress(rest, most_bytes + 1 - len(data))
        except zlib.error:
            break
        if len(data) > most_bytes:
            raise TooLarge(f"more than {most_bytes} bytes unpacked", where="body", fix="send fewer spans")
        rest = reader.unused_data
        if reader.eof and not rest:
            return bytes(data)
    raise RecordRejected("not gzip", where="content-encoding", fix="send gzip, or nothing compressed") from None


def spans_of(body: bytes, media_type: str) -> Iterator[Span]:
    """Yield the spans of a body.

    Raises:
        RecordRejected: it is not of its form; spans before that may have been given.
        Unavailable: it is protobuf, and the package that reads it is not installed.
    """
    try:
        yield from _of_json(body) if media_type == JSON else _of_protobuf(body)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as exc:
        what = f"not an OTLP request: {type(exc).__name__}"
        raise RecordRejected(what, where="body", fix="send an ExportTraceServiceRequest") from exc


@cache
def protobuf() -> tuple[Any, type[Exception]]:
    """Return what reads an ExportTraceServiceRequest, and what it raises for what is none.

    Raises:
        Unavailable: the package that has them is not installed.
    """
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError as exc:
        fix = "pip install 'inferwatt[otlp]'"
        raise Unavailable("protobuf traces need opentelemetry-proto", where="spans.listen", fix=fix) from exc
    return ExportTraceServiceRequest.FromString, DecodeError


def _of_protobuf(body: bytes) -> Iterator[Span]:
    read, broken = protobuf()
    try:
        message = read(body)
    except broken as exc:
        raise ValueError("not protobuf") from exc
    for group in message.resource_spans:
        resource = _of_pairs(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == ERROR,
                    _of_pairs(span.attributes),
                    resource,
                )


def _of_pairs(pairs: Any) -> dict[str, Value]:  # noqa: ANN401
    """Return attributes of protobuf's form."""
    found: dict[str, Value] = {}
    for pair in pairs[:MOST_ATTRIBUTES]:
        kind = pair.value.WhichOneof("value")
        if kind in {"string_value", "int_value", "double_value", "bool_value"}:
            found[pair.key] = getattr(pair.value, kind)
    return found


def _of_json(body: bytes) -> Iterator[Span]:
    for group in msgspec.json.decode(body).get("resourceSpans", ()):
        resource = _of_json_pairs(group.get("resource", {}).get("attributes", ()))
        for scope in group.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                yield Span(
                    str(span["traceId"]).lower(),
                    str(span["spanId"]).lower(),
                    str(span.get("parentSpanId", "")).lower(),
                    _number(span.get("kind", 0), {"SPAN_KIND_CLIENT": CLIENT}),
                    int(span["startTimeUnixNano"]),
                    int(span["endTimeUnixNano"]),
                    _number(span.get("status", {}).get("code", 0), {"STATUS_CODE_ERROR": ERROR}) == ERROR,
                    _of_json_pairs(span.get("attributes", ())),
                    resource,
                )


def _number(value: object, names: Mapping[str, int]) -> int:
    return value if isinstance(value, int) else names.get(str(value), 0)


def _of_json_pairs(pairs: Any) -> dict[str, Value]:  # noqa: ANN401
    """Return attributes of JSON's form, in which a 64-bit integer is text."""
    found: dict[str, Value] = {}
    for pair in pairs[:MOST_ATTRIBUTES]:
        for kind, value in pair.get("value", {}).items():
            if kind == "intValue":
                found[pair["key"]] = int(value)
            elif kind in {"stringValue", "doubleValue", "boolValue"} and isinstance(value, str | int | float):
                found[pair["key"]] = value
    return found
