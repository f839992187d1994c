from dataclasses import replace

from inferwatt.inprocess import InProcessMeter
from inferwatt.records import Component, Device, Outcome, Provenance, Reading, Request
from inferwatt.sources import Found
from inferwatt.testing import FakeClock, ScriptedSource

MS = 1_000_000
GPU = Device("gpu-0", component=Component.ACCELERATOR, provenance=Provenance.MEASURED)


def test_a_request_in_the_process_has_the_devices_joules_of_its_time() -> None:
    """Without a view of processes a device's joules go to the request that ran, the rest to the process."""
    clock = FakeClock(monotonic_ns=0)
    readings = [Reading(i * 100 * MS, "gpu-0", counter_uj=i * 1_000_000) for i in range(11)]
    meter = InProcessMeter(pid=1, clock=clock, found=Found((ScriptedSource(GPU, []),)))
    meter.start()
    for reading in readings[:3]:
        meter._take(reading)
    request = Request("r", model="m", arrival_ns=200 * MS)
    meter.submit(request)
    for reading in readings[3:8]:
        meter._take(reading)
    meter.submit(replace(request, end_ns=700 * MS, outcome=Outcome.FINISHED, output_tokens=4))
    for reading in readings[8:]:
        meter._take(reading)

    meter.stop()

    energy = meter.energy("r")
    assert energy is not None
    assert energy.final
    assert energy.energy_uj == 5_000_000
    [total] = meter.totals()
    assert (total.measured_uj, total.own_uj) == (10_000_000, 5_000_000)


def test_this_process_has_a_part_of_this_machine() -> None:
    """On the real machine the process's part is more than nothing and at most all."""
    meter = InProcessMeter()
    meter.start()
    sum(i * i for i in range(6_000_000))

    meter.stop()

    for total in meter.totals():
        assert 0 < total.own_uj <= total.measured_uj
    assert meter.totals() or meter.lacks
