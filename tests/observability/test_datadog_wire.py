"""What Datadog's own library puts on real sockets, taken apart by the grammar of the protocol."""

import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from inferwatt.export.datadog import Dogstatsd, open_exporter
from inferwatt.export.exporter import About, Batch, ExportRetry
from inferwatt.export.settings import DatadogConfig, ExportConfig
from inferwatt.ledger.rows import RequestRow
from inferwatt.snapshot import Labels, Snapshot
from tests.export.figures import LIVE, row, snapshot

from .dogstatsd import Told, receiving

pytest.importorskip("datadog", reason="it comes with make test-observability")
SCHEMES = ["udp", "unixgram", "unixstream"]
JOULES = "inferwatt.energy_joules.count"
LAST = "inferwatt.request_energy_joules"
ENERGY_TAGS = ("model_name:m/8B", "server:vllm:8000", "phase:decode", "component:accelerator", "provenance:measured")


def opened(url: str, tags: tuple[str, ...] = ()) -> Dogstatsd:
    """Return the exporter with the real library."""
    exporter = open_exporter(ExportConfig(datadog=DatadogConfig(dogstatsd=url, tags=tags)), About("h", "0", 0))
    assert isinstance(exporter, Dogstatsd)
    return exporter


def batch(second: int, page: Snapshot, rows: Sequence[RequestRow] = ()) -> Batch:
    """Return a batch at a second after the start."""
    return Batch(1_800_000_000_000_000_000 + second * 10**9, page, rows)


def joules(told: Sequence[Told]) -> list[float]:
    """Return the measured joules that were told."""
    return [each.value for each in told if each.name == JOULES and "provenance:measured" in each.tags]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_wire_says_what_the_meter_says(scheme: str, tmp_path: Path) -> None:
    """Gains as counts, never a total; gauges; each request once as a distribution; nothing of the library's own."""
    total_uj = 14_500_000_000_000_000
    with receiving(scheme, tmp_path) as agent:
        exporter = opened(agent.url, ("env:prod",))
        exporter.export(batch(0, snapshot(total_uj), [row("first")]))
        start = agent.told(LAST)
        exporter.export(batch(10, snapshot(total_uj + 2_500_000, requests=3), [row("a"), row("b", 7_000_000)]))
        told = agent.told(LAST)
        exporter.close()
    values = {(each.name, each.kind): each.value for each in told if "provenance:modelled" not in each.tags}

    assert joules(start) == []
    assert next(each for each in told if each.name == JOULES) == Told(JOULES, "c", 2.5, (*ENERGY_TAGS, "env:prod"))
    assert values["inferwatt.device_power_watts", "g"] == 99.5
    assert values["inferwatt.requests.count", "c"] == 2
    assert [each.value for each in told if (each.name, each.kind) == (LAST, "d")] == [3.0, 7.0]
    assert not [each for each in told if not each.name.startswith("inferwatt.")]
    assert agent.largest_bytes <= (1432 if scheme == "udp" else 8192)


@pytest.mark.parametrize("scheme", ["unixgram", "unixstream"])
def test_an_agent_that_restarts_is_told_the_rest_once(scheme: str, tmp_path: Path) -> None:
    """What it did not take is known on a socket, and comes with the next batch: sums stay right."""
    with receiving(scheme, tmp_path) as agent:
        exporter = opened(agent.url)
        exporter.export(batch(0, snapshot(0)))
        exporter.export(batch(10, snapshot(1_000_000), [row("a")]))
        before = agent.told(LAST)
    failures = 0
    for second in (20, 30):
        try:
            exporter.export(batch(second, snapshot(second * 100_000), [row("b")]))
        except ExportRetry as exc:
            failures += exc.reason == "connection"
    with receiving(scheme, tmp_path) as agent:
        exporter.export(batch(40, snapshot(5_000_000), [row("b")]))
        after = agent.told(LAST)
        exporter.close()

    assert failures == 2
    assert (joules(before), joules(after)) == ([1.0], [4.0])


def test_a_thousand_series_fit_into_packets(tmp_path: Path) -> None:
    """No packet is larger than what UDP carries, each series is told once, and each value is a 32-bit float."""
    tenants: dict[Labels, float] = {
        (f"tenant {number}|#,", "m" * 90, "measured"): number * 1_234_567 for number in range(1, 1001)
    }
    with receiving("udp", tmp_path) as agent:
        exporter = opened(agent.url)
        exporter.export(batch(0, Snapshot({}, {}, LIVE)))
        exporter.export(batch(10, Snapshot({"inferwatt_tenant_energy_joules_total": tenants}, {}, LIVE)))
        told = agent.rest()
        exporter.close()

    assert sorted(each.value for each in told) == sorted(as_float32(uj / 1e6) for uj in tenants.values())
    assert len({each.tags for each in told}) == 1000


def as_float32(value: float) -> float:
    """Return what stays of a value in 32 bits."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def test_requests_that_were_taken_are_not_told_again(tmp_path: Path) -> None:
    """A batch that breaks off in the middle comes again whole; what the Agent had of it is left out."""
    names = [f"r{number}" for number in range(400)]
    with receiving("unixgram", tmp_path) as agent:
        exporter = opened(agent.url)
        with pytest.raises(ExportRetry):  # nobody reads: the kernel keeps so many packets, and the next is refused
            exporter.export(batch(0, snapshot(), [row(name, 10**6 + at) for at, name in enumerate(names)]))
        told = agent.rest()
        while sum(each.kind == "d" for each in told) < len(names):
            with suppress(ExportRetry):
                exporter.export(batch(10, snapshot(), [row(name, 10**6 + at) for at, name in enumerate(names)]))
            told += agent.rest()
        exporter.close()
    values = [each.value for each in told if each.kind == "d"]

    assert len(values) == len(set(values)) == len(names)
