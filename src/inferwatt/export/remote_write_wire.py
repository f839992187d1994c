"""A snapshot as Prometheus remote write 1.0 wants it: the protobuf WriteRequest, written by hand. Pure.

Three messages are needed (Prometheus 2.42, prompb/remote.proto and prompb/types.proto):

    WriteRequest { repeated TimeSeries timeseries = 1; }
    TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2; }
    Label        { string name = 1; string value = 2; }      Sample { double value = 1; int64 timestamp = 2; }

The series are those of the page `/metrics`, with the labels that a scrape would add. Labels are sorted by name, and one
that is empty is left out: to Prometheus it is not there.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate
from math import isfinite
from typing import Final

from inferwatt.export.catalog import CATALOG
from inferwatt.export.places import placed, places_of
from inferwatt.snapshot import Labels, Snapshot

STALE: Final = 0x7FF0000000000002
"""The NaN that says: this series has ended (Prometheus 2.42, model/value/value.go)."""
_UNPRINTABLE: Final = dict.fromkeys([*range(10), *range(11, 32), 127, *range(0xD800, 0xE000)], "\ufffd")
"""As on the page; a newline may stand in a label."""


def samples(snapshot: Snapshot, process: Mapping[str, float], target: Labels) -> Iterator[tuple[bytes, bytes]]:
    """Yield each series of the page as (its labels, its value), both encoded.

    Args:
        snapshot: what is shown.
        process: the `process_*` families of this process.
        target: values of the labels `job` and `instance`.
    """
    for name, value in process.items():
        yield series(name, (), (), target), _double(value)
    places = places_of(snapshot)
    for family, plain in snapshot.values.items():
        metric, values = placed(CATALOG[family], plain, places)
        divisor = 10**metric.decimals
        for labels, value in values.items():
            if isfinite(value):
                yield series(family, metric.labels, labels, target), _double(value / divisor)
    for family, kept in snapshot.histograms.items():
        metric, histograms = placed(CATALOG[family], kept, places)
        bounds = (*(repr(float(bound)) for bound in metric.buckets), "+Inf")
        names = (*metric.labels, "le")
        for labels, histogram in histograms.items():
            cumulative = list(accumulate(histogram.counts))
            for bound, count in zip(bounds, cumulative, strict=True):
                yield series(f"{family}_bucket", names, (*labels, bound), target), _double(count)
            yield series(f"{family}_sum", metric.labels, labels, target), _double(histogram.sum)
            yield series(f"{family}_count", metric.labels, labels, target), _double(cumulative[-1])


@lru_cache(maxsize=50_000)
def series(name: str, names: tuple[str, ...], values: Labels, target: Labels) -> bytes:
    """Return the labels of a series as the beginning of a TimeSeries."""
    pairs = {**dict(zip(names, values, strict=True)), "__name__": name, "job": target[0], "instance": target[1]}
    return b"".join(
        field(0x0A, field(0x0A, label.encode()) + field(0x12, value.translate(_UNPRINTABLE).encode()))
        for label, value in sorted(pairs.items())
        if value
    )


def write_request(told: Iterable[tuple[bytes, bytes]], unix_ms: int) -> bytes:
    """Return the WriteRequest that gives each series its value at `unix_ms`."""
    at = b"\x10" + _varint(unix_ms)
    return b"".join(field(0x0A, labels + field(0x12, b"\x09" + value + at)) for labels, value in told)


STALE_VALUE: Final = struct.pack("<Q", STALE)
"""The value of a series that has ended."""


def _double(value: float) -> bytes:
    return struct.pack("<d", value)


def field(tag: int, content: bytes) -> bytes:
    """Return a field of bytes: its tag with the wire type, its length, its content."""
    return bytes((tag,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
