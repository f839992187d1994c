"""The residual: what a server draws beyond its devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.timeline import Timeline
from inferwatt.books import Books
from inferwatt.metering import Metering
from inferwatt.records import Component, Device, Engine, Event, EventKind, Provenance, Reading, Request
from inferwatt.residual import OVERHEAD, SERVER_DOMAIN, Residual

SECOND = 1_000_000_000
UJ = 1_000_000
SERVER = Device(
    "server",
    kind="BMC",
    domain=SERVER_DOMAIN,
    component=Component.OVERHEAD,
    provenance=Provenance.SAMPLED,
    systematic_ratio=0.05,
)
GPU = Device("gpu-0", systematic_ratio=0.05)


class Bench:
    """A residual over one GPU whose energy the test sets."""

    def __init__(self) -> None:
        self.timeline = Timeline(GPU)
        self.residual = Residual(SERVER, {"gpu-0": GPU}, lambda: {"gpu-0": self.timeline})

    @property
    def gpu_uj(self) -> int:
        """What the GPU has used so far, µJ."""
        return self.timeline.measured_uj

    @gpu_uj.setter
    def gpu_uj(self, uj: int) -> None:
        self.timeline.measured_uj = uj

    def take(self, second: float, watts: float) -> tuple[Reading | Event, ...]:
        """Read the server's watts at this time."""
        return self.residual.take(Reading(round(second * SECOND), "server", power_mw=round(watts * 1000)))


def test_what_is_left_of_the_server_is_its_overhead() -> None:
    """A server of 500 W around a GPU of 300 W has an overhead of 200 W, with the bounds of both."""
    bench = Bench()
    assert bench.take(0, 500) == ()
    for second in (1, 2):
        bench.gpu_uj += 300 * UJ
        last = bench.take(second, 500)

    assert last == (Reading(2 * SECOND, OVERHEAD, 400 * UJ),)
    device = bench.residual.device
    assert device is not None
    assert (device.component, device.provenance) == (Component.OVERHEAD, Provenance.SAMPLED)
    assert device.systematic_ratio == pytest.approx((0.05 * 500 + 0.05 * 300) / 200)


def test_what_the_devices_used_before_the_first_reading_is_not_in_the_window() -> None:
    """The window begins with the server's first reading, whatever the devices had counted by then."""
    bench = Bench()
    bench.gpu_uj = 10**12
    bench.take(0, 500)
    bench.gpu_uj += 300 * UJ

    assert bench.take(1, 500)[-1] == Reading(SECOND, OVERHEAD, 200 * UJ)


def test_a_negative_residual_is_an_alarm_and_is_made_up_before_anything_is_added() -> None:
    """Devices that seem to use more than their server do not make the overhead fall; the sum stays the server's."""
    bench = Bench()
    bench.take(0, 500)
    counters = []
    for second, gpu_watts in enumerate((300, 900, 300, 300, 300), start=1):
        bench.gpu_uj += gpu_watts * UJ
        said = bench.take(second, 500)
        counters.append(next(r.counter_uj for r in said if isinstance(r, Reading) and r.t_ns == second * SECOND))
        alarms = [record.kind for record in said if isinstance(record, Event)]
        assert alarms == ([EventKind.NEGATIVE_RESIDUAL] if gpu_watts == 900 else [])

    assert counters == [200 * UJ, 200 * UJ, 200 * UJ, 200 * UJ, 400 * UJ]


def test_a_gap_in_the_servers_readings_is_left_out() -> None:
    """What the devices used while the server's meter was silent is not taken from the window after it."""
    bench = Bench()
    for second in (0, 1):
        bench.take(second, 500)
    bench.gpu_uj += 10**12
    assert bench.take(100, 500) == ()
    bench.gpu_uj += 300 * UJ

    assert bench.take(101, 500) == (Reading(101 * SECOND, OVERHEAD, 700 * UJ),)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)), min_size=1, max_size=30))
def test_the_overhead_never_falls_and_devices_and_overhead_are_never_less_than_the_server(
    watts: list[tuple[int, int]],
) -> None:
    """Whatever the meters say, the counter is monotone, and ends at the server's energy less the devices' or above."""
    bench = Bench()
    bench.take(0, 0)
    counters = [0]
    server_uj, before = 0, 0
    for second, (server, gpu) in enumerate(watts, start=1):
        bench.gpu_uj += gpu * UJ
        server_uj += (before + server) * UJ // 2
        before = server
        counters += [r.counter_uj or 0 for r in bench.take(second, server) if isinstance(r, Reading)]

    assert counters == sorted(counters)
    assert counters[-1] >= server_uj - bench.gpu_uj


def test_the_overhead_goes_where_the_devices_energy_went() -> None:
    """Each request, model and account gets of it what it got of the devices, to the microjoule in all."""
    metering = Metering(Books(), hold_ns=0)
    metering.add_device(GPU)
    metering.add_device(SERVER)
    metering.engine_seen(Engine("e", "m", ("gpu-0",)), None, (), 0)
    metering.request(Request("r", "e", "m", arrival_ns=0, first_token_ns=0, end_ns=4 * SECOND, output_tokens=9))
    for tenth in range(81):
        t_ns = tenth * SECOND // 10
        metering.feed(Reading(t_ns, "gpu-0", tenth * 30 * UJ))
        if tenth % 20 == 0:
            metering.feed(Reading(t_ns, "server", power_mw=400_000))
    metering.finish()
    settled = metering.take()

    [(_, energy)] = settled.requests
    overhead = next(tick for tick in settled.ticks if tick.device == OVERHEAD)
    parts = {part.component: part.energy_uj for part in energy.parts}
    assert overhead.energy_uj == pytest.approx(800 * UJ, rel=0.02)
    assert sum(overhead.idle_resident.values()) + sum(map(sum, overhead.requests.values())) == overhead.energy_uj
    assert parts[Component.ACCELERATOR] == pytest.approx(1200 * UJ, rel=0.02)
    assert parts[Component.OVERHEAD] == pytest.approx(400 * UJ, rel=0.05)
    assert metering.books.values["inferwatt_device_energy_joules_total"].keys() >= {("overhead", "overhead", "sampled")}
    assert not any("server" in labels for labels in metering.books.values["inferwatt_device_energy_joules_total"])
